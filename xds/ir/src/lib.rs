//! The gateway model: listeners with their filter chains, route tables, upstreams, secrets. It uses neither Kubernetes
//! nor Envoy types. The Store writes it, rendering reads it.
//!
//! Values are shared ([`Arc`]), so that a change of one route among 10,000 copies pointers only.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub mod action;
pub mod cluster;
pub mod endpoint;
pub mod filter;
pub mod listener;
pub mod resource_type;
pub mod route;
pub mod secret;
pub mod unit;

pub use action::{
    Action, AddedHeader, Authorization, BodyFormat, Cors, ErrorBody, Forward, HashPolicy,
    HeaderChanges, Mirror, RateLimit, RateLimitPart, Redirect, RetryPolicy, Rewrite,
};
pub use cluster::{
    Balancer, CircuitBreaker, ClientTls, Cluster, Discovery, DnsFamily, HealthCheck, HealthChecker,
    Keepalive, OutlierDetection, TlsParameters, TlsVersion,
};
pub use endpoint::Endpoints;
pub use filter::HttpFilter;
pub use listener::{
    ChainAction, FilterChain, Listener, ListenerKey, ServerTls, TcpProxy, Transport,
};
pub use resource_type::ResourceType;
pub use route::{
    HeaderMatch, Insecure, PathMatch, QueryMatch, Route, RouteForm, RouteTable, StringMatch,
    TableKey, VirtualHost,
};
pub use secret::{Secret, SecretContent};
pub use unit::Unit;

/// The longest duration that is sent to Envoy: 100 years of 365 days. Envoy counts nanoseconds in 64 bits, which is
/// 292 years, and rejects resources with longer durations.
pub const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The whole gateway, keyed like the xDS resources that are rendered from it.
#[derive(Clone, Debug, Default)]
pub struct Ir {
    /// Listeners.
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Route tables.
    pub route_tables: BTreeMap<TableKey, Arc<RouteTable>>,
    /// Upstreams, by name.
    pub clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Endpoints of upstreams, by name.
    pub endpoints: BTreeMap<Arc<str>, Arc<Endpoints>>,
    /// Certificates, keys and CA certificates, by name.
    pub secrets: BTreeMap<Arc<str>, Arc<Secret>>,
}

impl Ir {
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
            .chain(self.listeners.keys().map(|key| Unit::Listener(*key)))
            .chain(
                self.route_tables
                    .keys()
                    .map(|key| Unit::RouteTable(key.clone())),
            )
    }
}
