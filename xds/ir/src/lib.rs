//! The gateway model: listeners with their filter chains, route tables, upstreams, secrets. It uses neither Kubernetes
//! nor Envoy types. The Store writes it, rendering reads it.
//!
//! Values are shared ([`Arc`]), so that a change of one route among 10,000 copies pointers only. So are maps: a clone of the
//! model takes no time, and a change after it copies the path to what it changes. Readers keep clones.

use std::{sync::Arc, time::Duration};

pub use imbl::OrdMap;

pub mod access_log;
pub mod action;
pub mod cluster;
pub mod endpoint;
pub mod envoy_version;
pub mod filter;
pub mod http;
pub mod listener;
pub mod origin;
pub mod resource_type;
pub mod route;
pub mod secret;
pub mod tracing;
pub mod unit;

pub use access_log::{AccessLog, LogFormat, LogService, LogValue, LoggedHeaders};
pub use action::{
    Action, AddedHeader, Authorization, BodyFormat, Cors, ErrorBody, Forward, HashPolicy,
    HeaderChanges, Mirror, RateLimit, RateLimitPart, Redirect, RetryPolicy, Rewrite,
};
pub use cluster::{
    Balancer, CircuitBreaker, ClientTls, Cluster, Discovery, DnsFamily, HealthCheck, HealthChecker,
    Keepalive, OutlierDetection, TlsParameters, TlsVersion,
};
pub use endpoint::Endpoints;
pub use envoy_version::{EnvoyVersion, InvalidVersion};
pub use filter::{
    AddressRange, Addresses, AuthorizationBody, AuthorizationCall, AuthorizationService,
    Compression, CompressionStrategy, FilterSettings, GrpcMethods, GrpcStats, HttpAuthorization,
    HttpFilter, RateLimitService,
};
pub use http::{CertificateDetails, ForwardedCertificate, HttpOptions, Underscores};
pub use listener::{
    ChainAction, FilterChain, Listener, ListenerKey, ServerTls, TcpProxy, TcpTarget, Transport,
};
pub use origin::{ClusterOrigins, Origin};
pub use resource_type::ResourceType;
pub use route::{
    HeaderMatch, Insecure, PathMatch, QueryMatch, Route, RouteForm, RouteTable, StringMatch,
    TableKey, TableScope, VirtualHost,
};
pub use secret::{Secret, SecretContent};
pub use tracing::{SpanTag, Tracing, TracingDriver};
pub use unit::Unit;

/// The longest duration that is sent to Envoy: 100 years of 365 days. Envoy counts nanoseconds in 64 bits, which is
/// 292 years, and rejects resources with longer durations.
pub const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The whole gateway, keyed like the xDS resources that are rendered from it.
#[derive(Clone, Debug)]
pub struct Ir {
    /// Settings of HTTP filters that are resources of their own.
    pub filters: OrdMap<HttpFilter, Arc<FilterSettings>>,
    /// Listeners.
    pub listeners: OrdMap<ListenerKey, Arc<Listener>>,
    /// Route tables.
    pub route_tables: OrdMap<TableKey, Arc<RouteTable>>,
    /// Upstreams, by name.
    pub clusters: OrdMap<Arc<str>, Arc<Cluster>>,
    /// Endpoints of upstreams, by name.
    pub endpoints: OrdMap<Arc<str>, Arc<Endpoints>>,
    /// Certificates, keys and CA certificates, by name.
    pub secrets: OrdMap<Arc<str>, Arc<Secret>>,
}

impl Default for Ir {
    fn default() -> Self {
        let off = Arc::new(FilterSettings::Off);
        let filters = HttpFilter::PERMANENT.map(|filter| (filter, off.clone()));
        Self {
            filters: filters.into_iter().collect(),
            listeners: OrdMap::new(),
            route_tables: OrdMap::new(),
            clusters: OrdMap::new(),
            endpoints: OrdMap::new(),
            secrets: OrdMap::new(),
        }
    }
}

impl Ir {
    /// The table that requests select by this key.
    #[must_use]
    pub fn selected(&self, key: &TableKey) -> Option<&Arc<RouteTable>> {
        if let Some(own) = self.route_tables.get(key) {
            return Some(own).filter(|table| table.is_selected);
        }
        let TableScope::Host(host) = &key.scope else {
            return None;
        };
        let shared = TableKey::redirects(key.listener, host);
        let shared = self.route_tables.get(&shared)?;
        let hosts = &shared.virtual_hosts;
        let found = hosts.binary_search_by(|of| of.domain.cmp(host));
        found.is_ok().then_some(shared)
    }

    /// All resources of the gateway.
    pub fn units(&self) -> impl Iterator<Item = Unit> {
        self.clusters
            .keys()
            .map(|key| Unit::Cluster(key.clone()))
            .chain(
                self.endpoints
                    .keys()
                    .map(|key| Unit::Endpoints(key.clone())),
            )
            .chain(self.secrets.keys().map(|key| Unit::Secret(key.clone())))
            .chain(self.filters.keys().map(|key| Unit::Filter(key.clone())))
            .chain(self.listeners.keys().map(|key| Unit::Listener(*key)))
            .chain(self.route_tables.values().flat_map(|table| table.units()))
    }
}
