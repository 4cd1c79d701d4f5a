//! The types of xDS resources that a gateway is rendered to.

use std::fmt;

/// The types of resources that the server serves, declared in the order in which additions must reach Envoy, so that no
/// resource refers to one that Envoy does not have yet ("make before break", xDS protocol, "Eventual consistency
/// considerations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster` (CDS)
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS)
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS)
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig` (ECDS)
    Filter,
    /// `envoy.config.listener.v3.Listener` (LDS)
    Listener,
    /// `envoy.config.route.v3.ScopedRouteConfiguration` (SRDS)
    Scope,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS)
    RouteTable,
}

impl ResourceType {
    /// All types, in the order of additions.
    pub const ALL: [Self; 7] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Filter,
        Self::Listener,
        Self::Scope,
        Self::RouteTable,
    ];

    /// Type URL.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Filter => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Scope => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            Self::RouteTable => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type with this URL; `None` for a type that is not served.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Position in [`ResourceType::ALL`], for tables indexed by type.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Secret => "secret",
            Self::Filter => "filter",
            Self::Listener => "listener",
            Self::Scope => "scope",
            Self::RouteTable => "route table",
        })
    }
}
