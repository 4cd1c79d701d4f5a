//! Values for what an object does not set. Reconcilers leave such a field `None`; linking fills it in from here, so
//! that a change of a default does not touch a fragment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nuncio_ir::{
    Balancer, CircuitBreaker, Cors, ErrorBody, HashPolicy, Keepalive, RateLimitPart, RetryPolicy,
};

use crate::reconcile::AddedHeaders;

pub mod access_log;

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
    /// `defaults`: values of fields of Mappings.
    pub mapping: MappingDefaults,

    /// `use_ambassador_namespace_for_service_resolution`: names of upstreams without a namespace mean Services in the
    /// gateway's namespace, not in that of the object.
    pub uses_own_namespace: bool,
    /// `defaults.tls_secret_namespacing`: names of Secrets in TLSContexts that do not say so themselves can have a namespace.
    pub secrets_have_namespaces: bool,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// `cluster_idle_timeout_ms`: time without requests after which a connection is closed.
    pub cluster_idle_timeout: Option<Duration>,
    /// `cluster_max_connection_lifetime_ms`: time after which a connection is closed.
    pub max_connection_lifetime: Option<Duration>,
    /// `resolver`: the name of any resolver.
    pub resolver: Arc<str>,
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

/// Values for fields of a Mapping that it does not set. The names are those of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingDefaults {
    /// `stats_name`
    pub stat_name: Option<String>,
    /// `add_request_headers`
    pub add_request_headers: Option<AddedHeaders>,
    /// `add_response_headers`
    pub add_response_headers: Option<AddedHeaders>,
    /// `remove_request_headers`
    pub remove_request_headers: Option<Vec<String>>,
    /// `remove_response_headers`
    pub remove_response_headers: Option<Vec<String>>,
}

/// How one of several addresses is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// The algorithm.
    pub balancer: Balancer,
    /// What is hashed, if it selects by a hash.
    pub hash: Option<HashPolicy>,
}

impl Defaults {
    /// Whether clusters are the same with other defaults, if they do not have the default resolver.
    #[must_use]
    pub fn has_same_clusters(&self, other: &Self) -> bool {
        self.for_clusters() == other.for_clusters()
    }

    /// Whether routes are the same with other defaults, if clusters are.
    #[must_use]
    pub fn has_same_routes(&self, other: &Self) -> bool {
        self.for_routes() == other.for_routes()
    }

    /// What only clusters depend on; what is hashed is part of routes, too.
    fn for_clusters(&self) -> Self {
        Self {
            uses_own_namespace: self.uses_own_namespace,
            connect_timeout: self.connect_timeout,
            cluster_idle_timeout: self.cluster_idle_timeout,
            max_connection_lifetime: self.max_connection_lifetime,
            load_balancer: self.load_balancer.clone(),
            circuit_breakers: self.circuit_breakers.clone(),
            keepalive: self.keepalive,
            enable_ipv4: self.enable_ipv4,
            enable_ipv6: self.enable_ipv6,
            mapping: MappingDefaults {
                stat_name: self.mapping.stat_name.clone(),
                ..MappingDefaults::default()
            },
            ..Self::default()
        }
    }

    /// What routes depend on: all that clusters do not, and what is part of both.
    fn for_routes(&self) -> Self {
        Self {
            load_balancer: self.load_balancer.clone(),
            // in the header for Linkerd
            uses_own_namespace: self.uses_own_namespace,
            request_timeout: self.request_timeout,
            retry_policy: self.retry_policy.clone(),
            cors: self.cors.clone(),
            add_linkerd_headers: self.add_linkerd_headers,
            error_bodies: self.error_bodies.clone(),
            label_domain: self.label_domain.clone(),
            labels: self.labels.clone(),
            mapping: MappingDefaults {
                stat_name: None,
                ..self.mapping.clone()
            },
            ..Self::default()
        }
    }
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
            mapping: MappingDefaults::default(),
            uses_own_namespace: false,
            secrets_have_namespaces: true,
            connect_timeout: Duration::from_secs(3),
            cluster_idle_timeout: None,
            max_connection_lifetime: None,
            resolver: "kubernetes-service".into(),
            load_balancer: None,
            circuit_breakers: Vec::new(),
            keepalive: None,
            enable_ipv4: None,
            enable_ipv6: None,
        }
    }
}
