//! What one object adds to the gateway, seen alone. Nothing here depends on another object: references are names, and
//! what a global default can supply is `None` until the Store links the object.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::selector::Labels;

mod auth_service;
mod endpoint_slice;
mod host;
mod ingress;
mod knative;
mod listener;
mod log_service;
mod mapping;
mod module;
mod rare;
mod rate_limit_service;
mod resolver;
mod secret;
mod service;
mod tcp_mapping;
mod tls_context;
mod tracing_service;
mod upstream;

pub(crate) use self::knative::VISIBILITY;
pub use self::rare::Rare;
pub use self::{
    auth_service::{AuthCall, AuthRequests, AuthService},
    endpoint_slice::EndpointSlice,
    host::{Host, HostTerms, HostTls, InsecureAction},
    ingress::{
        Backend, Ingress, IngressClass, IngressPath, IngressRule, IngressTls, PathKind, Port,
    },
    knative::{KnativeIngress, KnativePath, KnativeRule, KnativeSplit, KnativeTerms, KnativeTls},
    listener::{Listener, Namespaces, SecurityModel},
    log_service::LogService,
    mapping::{
        AddedHeaders, Forwarding, HostMatch, LabelGroup, LargestRegex, Mapping, Role, Shared,
        header_changes,
    },
    module::{Module, Probe},
    rate_limit_service::RateLimitService,
    resolver::{ConsulResolver, ResolverKind},
    secret::{Certificate, Part, Secret, Token, Unusable, served},
    service::Service,
    tcp_mapping::TcpMapping,
    tls_context::{TlsContext, TlsSettings},
    tracing_service::{Sampling, TracingService},
    upstream::{ClusterSettings, Origination, Resolver, Upstream},
};

/// What one object adds to the gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum Fragment {
    /// A port to listen on.
    Listener(Arc<Listener>),
    /// A hostname to serve.
    Host(Arc<Host>),
    /// Requests and where they go.
    Mapping(Arc<Mapping>),
    /// Connections and where they go.
    TcpMapping(Arc<TcpMapping>),
    /// TLS settings for the objects that refer to them.
    TlsContext(Arc<TlsContext>),
    /// TLSContexts that a Module yields, by name; `None`: one that is invalid.
    TlsModule(Arc<BTreeMap<Arc<str>, Option<Arc<TlsContext>>>>),
    /// Settings of the whole gateway.
    Module(Arc<Module>),
    /// A service that authorizes requests.
    AuthService(Arc<AuthService>),
    /// One that cannot be used, so that the requests that it would authorize are not served; whether it is a default one.
    UnusableAuthService(bool),
    /// A service that limits the rate of requests.
    RateLimitService(Arc<RateLimitService>),
    /// A service that gets access logs.
    LogService(Arc<LogService>),
    /// A service that gets traces.
    TracingService(Arc<TracingService>),
    /// How the addresses of upstreams are found.
    Resolver(ResolverKind),
    /// Address and ports of a Service.
    Service(Arc<Service>),
    /// Addresses of some pods of a Service.
    EndpointSlice(Arc<EndpointSlice>),
    /// Certificates.
    Secret(Arc<Secret>),
    /// Labels of a namespace.
    Namespace(Arc<Labels>),
    /// What Hosts and Mappings are generated from.
    Ingress(Arc<Ingress>),
    /// What Mappings are generated from, as Knative writes it.
    KnativeIngress(Arc<KnativeIngress>),
    /// The Ingresses of this class are ours.
    IngressClass,
}

/// Namespace and name of an object; the kind follows from the context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// `metadata.namespace`
    pub namespace: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
