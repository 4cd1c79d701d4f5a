//! Version `v3alpha1`, which every other version converts through.
//!
//! `kubectl get nuncio` lists all kinds. Short names are `amap` for Mappings (`map` is likely to be taken by another
//! product) and `lsn` for Listeners.

mod host;
mod listener;
mod mapping;
mod resolver;
mod tcp_mapping;
mod tls_context;

pub use host::{
    AcmeProvider, Host, HostPhase, HostSpec, HostState, HostStatus, HostTls, InsecureAction,
    InsecureRequestPolicy, PreviewUrl, PreviewUrlType, RequestPolicy, TlsCertificateSource,
};
pub use listener::{
    HostBinding, Layer, Listener, ListenerSpec, ListenerStatus, NamespaceBinding, NamespaceFrom,
    Protocol, SecurityModel,
};
pub use mapping::{Mapping, MappingSpec, MappingState, MappingStatus, RedirectCode};
pub use resolver::{
    KubernetesEndpointResolver, KubernetesEndpointResolverSpec, KubernetesServiceResolver,
    KubernetesServiceResolverSpec,
};
pub use tcp_mapping::{TCPMapping, TcpMappingSpec, TcpMappingStatus};
pub use tls_context::{TLSContext, TlsContextSpec, TlsContextStatus, TlsVersion};
