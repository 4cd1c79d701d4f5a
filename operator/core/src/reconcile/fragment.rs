//! What one object adds to the gateway, seen alone. Nothing here depends on another object: references are names, and
//! what a global default can supply is `None` until the Store links the object.

use std::{fmt, sync::Arc};

use crate::selector::Labels;

mod endpoint_slice;
mod host;
mod listener;
mod mapping;
mod resolver;
mod secret;
mod service;
mod tcp_mapping;
mod tls_context;
mod upstream;

pub use self::{
    endpoint_slice::EndpointSlice,
    host::{Host, HostTerms, HostTls, InsecureAction},
    listener::{Listener, Namespaces, SecurityModel},
    mapping::{AddedHeaders, Forwarding, HostMatch, Mapping, Role, Shared, header_changes},
    resolver::ResolverKind,
    secret::{Certificate, Part, Secret, Unusable, served},
    service::Service,
    tcp_mapping::TcpMapping,
    tls_context::{TlsContext, TlsSettings},
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
