//! The upstream of a Mapping or TCPMapping.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use nuncio_ir::{Balancer, CircuitBreaker, HealthCheck, Keepalive, OutlierDetection};

use super::{Name, Rare};

/// An upstream, as a Mapping describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host as DNS is queried for it, lower case, qualified with the namespace where Emissary does so.
    pub host: String,
    /// The host as written, for Consul.
    pub written: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Whether the port is written.
    pub has_port: bool,
    /// The host as an address, if it is one.
    pub address: Option<IpAddr>,
    /// The Service that the host may name.
    pub service: Option<Name>,
    /// The host and the Service if names without a namespace mean the gateway's own; `None`: they are no others.
    pub in_own_namespace: Option<(String, Name)>,
    /// Whether the host can only name a Service in the cluster.
    pub only_service: bool,
    /// How TLS is originated.
    pub tls: Origination,
    /// How addresses are found.
    pub resolver: Resolver,
    /// Whether HTTP/2 is used.
    pub http2: bool,
    /// Whether it may be a port of the control plane on this host. Only who configures the whole gateway can ask for that.
    pub may_be_own: bool,
    /// How connections are made and shared.
    pub settings: Rare<ClusterSettings>,
}

impl Upstream {
    /// The upstream, with names without a namespace in the gateway's own, or in that of the object.
    #[must_use]
    pub fn in_namespace(&self, own: bool) -> Cow<'_, Self> {
        match &self.in_own_namespace {
            Some((host, service)) if own => Cow::Owned(Self {
                host: host.clone(),
                service: Some(service.clone()),
                ..self.clone()
            }),
            _ => Cow::Borrowed(self),
        }
    }
}

/// How TLS is originated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origination {
    /// It is not.
    None,
    /// Without a client certificate, trusting any server.
    Plain,
    /// With the settings of this TLSContext, looked up in this namespace first.
    Context(Name),
}

/// How the addresses of an upstream are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// By the default resolver.
    Default,
    /// By the resolver of this name, in any namespace.
    Named(Arc<str>),
}

/// How connections to an upstream are made and shared; `None` is not set. See [`nuncio_ir::Cluster`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Time to establish a connection.
    pub connect_timeout: Option<Duration>,
    /// Whether IPv4 addresses are used.
    pub enable_ipv4: Option<bool>,
    /// Whether IPv6 addresses are used.
    pub enable_ipv6: Option<bool>,
    /// `LOGICAL_DNS`
    pub logical_dns: bool,
    /// Whether DNS is queried again when its answer expires.
    pub respect_dns_ttl: bool,
    /// Time without requests after which a connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Time after which a connection is closed; zero: no limit.
    pub max_connection_lifetime: Option<Duration>,
    /// How one of several addresses is selected.
    pub balancer: Option<Balancer>,
    /// Limits on what it gets at a time.
    pub circuit_breakers: Option<Vec<CircuitBreaker>>,
    /// TCP keepalive.
    pub keepalive: Option<Keepalive>,
    /// Active health checks.
    pub health_checks: Vec<HealthCheck>,
    /// When a failing address is ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// Name in statistics.
    pub stat_name: Option<String>,
    /// Keeps its cluster separate from others with equal settings.
    pub tag: Option<String>,
}
