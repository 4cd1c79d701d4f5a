//! Version `v3alpha1`, which every other version converts through.

mod host;
mod listener;
mod mapping;

pub use host::{
    AcmeProvider, Host, HostPhase, HostSpec, HostState, HostStatus, HostTls, InsecureAction,
    InsecureRequestPolicy, PreviewUrl, PreviewUrlType, RequestPolicy, TlsCertificateSource,
};
pub use listener::{
    HostBinding, Layer, Listener, ListenerSpec, ListenerStatus, NamespaceBinding, NamespaceFrom,
    Protocol, SecurityModel,
};
pub use mapping::{Mapping, MappingSpec, MappingState, MappingStatus, RedirectCode};
