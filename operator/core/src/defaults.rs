//! Values for what an object does not set. Reconcilers leave such a field `None`; linking fills it in from here, so
//! that a change of a default does not touch a fragment.

use std::{collections::BTreeMap, time::Duration};

use nuncio_ir::{
    Balancer, CircuitBreaker, Cors, ErrorBody, HashPolicy, Keepalive, RateLimitPart, RetryPolicy,
};

use crate::reconcile::ResolverKind;

/// Values for what Mappings and TCPMappings do not set; the default of this type is what Emissary has built in. The
/// names in code style are those of the keys in a Module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `cluster_request_timeout_ms`: time for a whole response.
    pub request_timeout: Duration,
    /// `retry_policy`
    pub retry_policy: Option<RetryPolicy>,
    /// `cors`
    pub cors: Option<Cors>,
    /// `add_linkerd_headers`
    pub add_linkerd_headers: bool,
    /// `error_response_overrides`, by status code.
    pub error_bodies: BTreeMap<u16, ErrorBody>,
    /// `default_label_domain`: the domain whose labels are used.
    pub label_domain: String,
    /// `default_labels`, by domain: they come first in every description of a request.
    pub labels: BTreeMap<String, Vec<RateLimitPart>>,

    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// `cluster_idle_timeout_ms`: time without requests after which a connection is closed.
    pub cluster_idle_timeout: Option<Duration>,
    /// `cluster_max_connection_lifetime_ms`: time after which a connection is closed.
    pub max_connection_lifetime: Option<Duration>,
    /// `resolver`
    pub resolver: ResolverKind,
    /// `load_balancer`
    pub load_balancer: Option<LoadBalancer>,
    /// `circuit_breakers`
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// `keepalive`
    pub keepalive: Option<Keepalive>,
    /// `enable_ipv4`
    pub enable_ipv4: Option<bool>,
    /// `enable_ipv6`
    pub enable_ipv6: Option<bool>,
}

/// How one of several addresses is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// The algorithm.
    pub balancer: Balancer,
    /// What is hashed, if it selects by a hash.
    pub hash: Option<HashPolicy>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(3),
            retry_policy: None,
            cors: None,
            add_linkerd_headers: false,
            error_bodies: BTreeMap::new(),
            label_domain: "ambassador".to_owned(),
            labels: BTreeMap::new(),
            connect_timeout: Duration::from_secs(3),
            cluster_idle_timeout: None,
            max_connection_lifetime: None,
            resolver: ResolverKind::Service,
            load_balancer: None,
            circuit_breakers: Vec::new(),
            keepalive: None,
            enable_ipv4: None,
            enable_ipv6: None,
        }
    }
}
