//! Version `v3alpha1`, which every other version converts through.
//!
//! `kubectl get nuncio` lists all kinds. Short names are `amap` for Mappings (`map` is likely to be taken by another
//! product) and `lsn` for Listeners.

mod auth_service;
mod dev_portal;
mod host;
mod listener;
mod log_service;
mod mapping;
mod module;
mod protocol_version;
mod rate_limit_service;
mod resolver;
mod tcp_mapping;
mod tls_context;
mod tracing_service;

pub use auth_service::{
    AuthProtocol, AuthService, AuthServiceSpec, AuthServiceStatus, IncludeBody, StatusOnError,
};
pub use dev_portal::{
    DevPortal, DevPortalContent, DevPortalDocs, DevPortalNaming, DevPortalSearch,
    DevPortalSearchType, DevPortalSelector, DevPortalSpec, DevPortalStatus,
};
pub use host::{
    AcmeProvider, Host, HostPhase, HostSpec, HostState, HostStatus, HostTls, InsecureAction,
    InsecureRequestPolicy, PreviewUrl, PreviewUrlType, RequestPolicy, TlsCertificateSource,
};
pub use listener::{
    HostBinding, Layer, Listener, ListenerSpec, ListenerStatus, NamespaceBinding, NamespaceFrom,
    Protocol, SecurityModel,
};
pub use log_service::{
    AdditionalLogHeader, LogDriver, LogDriverConfig, LogService, LogServiceSpec, LogServiceStatus,
};
pub use mapping::{Mapping, MappingSpec, MappingState, MappingStatus, RedirectCode};
pub use module::{Module, ModuleSpec, ModuleStatus};
pub use protocol_version::ProtocolVersion;
pub use rate_limit_service::{
    RateLimitGrpc, RateLimitService, RateLimitServiceSpec, RateLimitServiceStatus,
};
pub use resolver::{
    ConsulResolver, ConsulResolverSpec, ConsulResolverStatus, KubernetesEndpointResolver,
    KubernetesEndpointResolverSpec, KubernetesServiceResolver, KubernetesServiceResolverSpec,
};
pub use tcp_mapping::{TCPMapping, TcpMappingSpec, TcpMappingStatus};
pub use tls_context::{TLSContext, TlsContextSpec, TlsContextStatus, TlsVersion};
pub use tracing_service::{
    CollectorVersion, CustomTag, LiteralTag, NamedTag, TraceConfig, TraceSampling, TracingDriver,
    TracingService, TracingServiceSpec, TracingServiceStatus,
};
