//! An upstream: how its addresses are found and how connections to them are made. Shared by all routes whose
//! settings are equal.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::AddedHeader;

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Readable name, unique for its settings.
    pub name: Arc<str>,
    /// Name in statistics.
    pub stat_name: String,
    /// How its addresses are found.
    pub discovery: Discovery,
    /// Connections are made with TLS, and how; `None`: without.
    pub tls: Option<ClientTls>,
    /// Whether upstreams speak HTTP/2 (with prior knowledge when `tls` is off), as gRPC needs.
    pub http2: bool,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Time without requests after which a connection is closed; zero: never; `None`: Envoy's default of an hour.
    pub idle_timeout: Option<Duration>,
    /// Time after which a connection is closed; `None`: no limit.
    pub max_connection_lifetime: Option<Duration>,
    /// How one of several addresses is chosen.
    pub balancer: Balancer,
    /// Limits of what it is given at a time.
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// TCP keepalive.
    pub keepalive: Option<Keepalive>,
    /// How its addresses are asked whether they are healthy.
    pub health_checks: Vec<HealthCheck>,
    /// When an address that fails is left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
}

/// How the addresses of an upstream are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// They are known: a cluster IP or a literal.
    Static {
        /// IP address.
        address: IpAddr,
        /// TCP port.
        port: u16,
    },
    /// All addresses that DNS knows.
    Dns {
        /// Host name.
        host: String,
        /// TCP port.
        port: u16,
        /// Which addresses are asked for.
        family: DnsFamily,
        /// Whether one address is used at a time, re-resolved for new connections.
        logical: bool,
        /// Whether DNS is asked again when its answer expires, instead of every five seconds.
        respect_ttl: bool,
    },
    /// An [`super::Endpoints`] resource of this name.
    Endpoints(Arc<str>),
    /// There are none: what was asked for cannot be had, and every request is answered with 503.
    Nowhere,
}

/// Which addresses are asked of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv6 if there is any, else IPv4.
    Auto,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Name of the [`super::Secret`] with the client's certificate.
    pub certificate: Option<Arc<str>>,
    /// Name of the [`super::Secret`] that says which servers are trusted; `None`: any.
    pub trusted: Option<Arc<str>>,
    /// Name in the TLS hello.
    pub server_name: Option<String>,
    /// Protocols offered by ALPN, preferred first.
    pub alpn: Vec<String>,
    /// Versions, ciphers and curves.
    pub parameters: TlsParameters,
}

/// Which kinds of TLS are spoken; what is empty is Envoy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsParameters {
    /// Lowest version.
    pub min: Option<TlsVersion>,
    /// Highest version.
    pub max: Option<TlsVersion>,
    /// Names of cipher suites of TLS 1.2 and below.
    pub ciphers: Vec<String>,
    /// Names of curves.
    pub curves: Vec<String>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0
    V1_0,
    /// 1.1
    V1_1,
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// How one of several addresses is chosen (`Cluster.LbPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one of two with fewer requests under way.
    LeastRequest,
    /// By a hash, on a ring.
    RingHash,
    /// By a hash, in a table.
    Maglev,
}

/// Limits of what an upstream is given at a time; `None`: Envoy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Whether it counts requests of high priority, or the others.
    pub high_priority: bool,
    /// Connections open at a time.
    pub max_connections: Option<u32>,
    /// Requests waiting for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way at a time.
    pub max_requests: Option<u32>,
    /// Retries under way at a time.
    pub max_retries: Option<u32>,
}

/// TCP keepalive; `None`: the default of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Probes without an answer until a connection is taken for dead.
    pub probes: Option<u32>,
    /// Seconds without traffic until the first probe.
    pub idle_seconds: Option<u32>,
    /// Seconds between probes.
    pub interval_seconds: Option<u32>,
}

/// How addresses are asked whether they are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time to wait for an answer.
    pub timeout: Duration,
    /// Time between checks.
    pub interval: Duration,
    /// How many checks have to fail in a row.
    pub unhealthy_threshold: u32,
    /// How many checks have to pass in a row.
    pub healthy_threshold: u32,
    /// What is asked.
    pub checker: HealthChecker,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthChecker {
    /// An HTTP request.
    Http {
        /// Path.
        path: String,
        /// Host header; empty: the name of the cluster.
        host: String,
        /// Headers that are added, by name.
        add_headers: BTreeMap<String, AddedHeader>,
        /// Headers that are removed.
        remove_headers: Vec<String>,
        /// Ranges of status codes that pass, the second not included; empty: 200.
        expected: Vec<(u16, u16)>,
    },
    /// The gRPC health service.
    Grpc {
        /// Service that is asked about.
        service: String,
        /// Value of `:authority`; empty: the name of the cluster.
        authority: String,
    },
}

/// When an address that fails is left out for a while (`envoy.config.cluster.v3.OutlierDetection`); `None`: Envoy's
/// default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Errors in a row.
    pub consecutive_5xx: Option<u32>,
    /// Errors of gateways (502, 503, 504) in a row.
    pub consecutive_gateway_failure: Option<u32>,
    /// Time between looks at who may come back.
    pub interval: Option<Duration>,
    /// Time for which an address is left out, times how often it was.
    pub base_ejection_time: Option<Duration>,
    /// Percentage of addresses that may be left out at a time.
    pub max_ejection_percent: Option<u32>,
}
