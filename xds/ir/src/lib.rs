//! The gateway as neutral data: what listens, which chain of a listener has which certificate, which requests go
//! where. It names neither Kubernetes nor Envoy types; the Store fills it, rendering reads it.
//!
//! Values are shared ([`Arc`]), so that a table of ten thousand routes is rebuilt from pointers when one changes.

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

/// The longest time that is ever told: 100 years of 365 days. Envoy counts nanoseconds in 64 bits, which hold 292 years,
/// and refuses a resource with a time beyond them.
pub const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Everything that Envoys are told, keyed like the resources that it becomes.
#[derive(Clone, Debug, Default)]
pub struct Ir {
    /// What listens.
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Which requests go where.
    pub route_tables: BTreeMap<TableKey, Arc<RouteTable>>,
    /// Upstreams, by name.
    pub clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Addresses of upstreams, by name.
    pub endpoints: BTreeMap<Arc<str>, Arc<Endpoints>>,
    /// Certificates with their keys, by name.
    pub secrets: BTreeMap<Arc<str>, Arc<Secret>>,
}

impl Ir {
    /// Every resource that the gateway has.
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
