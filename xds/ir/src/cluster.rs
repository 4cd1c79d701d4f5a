//! Upstreams: how endpoints are discovered and how Envoy connects to them. Routes with equal settings share one.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::AddedHeader;

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Readable name, unique to these settings.
    pub name: Arc<str>,
    /// Name in statistics.
    pub stat_name: String,
    /// How endpoints are discovered.
    pub discovery: Discovery,
    /// TLS to the upstream; `None`: cleartext.
    pub tls: Option<ClientTls>,
    /// Whether to use HTTP/2, as gRPC requires; without TLS by prior knowledge.
    pub http2: bool,
    /// Connect timeout.
    pub connect_timeout: Duration,
    /// Idle timeout of a connection; zero: no limit; `None`: Envoy's default of one hour.
    pub idle_timeout: Option<Duration>,
    /// Maximum lifetime of a connection; `None`: no limit.
    pub max_connection_lifetime: Option<Duration>,
    /// Load balancing policy.
    pub balancer: Balancer,
    /// Whether requests stay in the zone of the Envoy as long as there are endpoints for it.
    pub by_zone: bool,
    /// Limits on concurrent connections and requests.
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// TCP keepalive; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// Active health checks.
    pub health_checks: Vec<HealthCheck>,
    /// Passive health checks; `None`: off.
    pub outlier_detection: Option<OutlierDetection>,
}

/// How the endpoints of an upstream are discovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// One fixed address: a ClusterIP or an IP literal.
    Static {
        /// IP address.
        address: IpAddr,
        /// TCP port.
        port: u16,
    },
    /// The addresses of a DNS name.
    Dns {
        /// Host name.
        host: String,
        /// TCP port.
        port: u16,
        /// Address families to look up.
        family: DnsFamily,
        /// Whether all addresses are one endpoint (`LOGICAL_DNS`) instead of one endpoint each (`STRICT_DNS`).
        logical: bool,
        /// Whether to resolve again when the record's TTL expires, instead of every five seconds.
        respect_ttl: bool,
    },
    /// The [`super::Endpoints`] resource with this name (EDS).
    Endpoints(Arc<str>),
    /// Several addresses and DNS names, in turn.
    Several {
        /// Hosts, as IP addresses or names, with TCP ports.
        targets: Vec<(String, u16)>,
        /// Address families to look up.
        family: DnsFamily,
    },
    /// No endpoints: requests get 503.
    Empty,
}

/// Address families of a DNS lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv6 if the name has any, otherwise IPv4.
    Auto,
}

/// TLS to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Name of the [`super::Secret`] with the client certificate.
    pub certificate: Option<Arc<str>>,
    /// Name of the [`super::Secret`] that server certificates are verified with; `None`: they are not verified.
    pub trusted: Option<Arc<str>>,
    /// Server name that is sent (SNI).
    pub server_name: Option<String>,
    /// ALPN protocols, preferred first.
    pub alpn: Vec<String>,
    /// Versions, ciphers and curves.
    pub parameters: TlsParameters,
}

/// TLS versions, cipher suites and curves; empty means Envoy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsParameters {
    /// Minimum version.
    pub min: Option<TlsVersion>,
    /// Maximum version.
    pub max: Option<TlsVersion>,
    /// Cipher suites for TLS 1.2 and below.
    pub ciphers: Vec<String>,
    /// ECDH curves.
    pub curves: Vec<String>,
}

/// A TLS version.
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

/// Load balancing policy (`Cluster.LbPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Endpoints in turn.
    #[default]
    RoundRobin,
    /// The endpoint with fewer active requests, of two random ones.
    LeastRequest,
    /// Consistent hashing on a ring (ketama).
    RingHash,
    /// Consistent hashing with a lookup table (Maglev).
    Maglev,
}

/// Limits of an upstream; `None`: Envoy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Whether the limits apply to requests of high priority, or to those of default priority.
    pub high_priority: bool,
    /// Maximum number of connections.
    pub max_connections: Option<u32>,
    /// Maximum number of requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Maximum number of active requests.
    pub max_requests: Option<u32>,
    /// Maximum number of active retries.
    pub max_retries: Option<u32>,
}

/// TCP keepalive; `None`: the default of the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Unanswered probes until the connection is closed.
    pub probes: Option<u32>,
    /// Idle seconds until the first probe.
    pub idle_seconds: Option<u32>,
    /// Seconds between probes.
    pub interval_seconds: Option<u32>,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Timeout of a check.
    pub timeout: Duration,
    /// Interval between checks.
    pub interval: Duration,
    /// Consecutive failures until an endpoint is unhealthy.
    pub unhealthy_threshold: u32,
    /// Consecutive successes until an endpoint is healthy.
    pub healthy_threshold: u32,
    /// Kind of check.
    pub checker: HealthChecker,
}

/// Kind of health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthChecker {
    /// An HTTP request.
    Http {
        /// Path.
        path: String,
        /// Host header; empty: the name of the cluster.
        host: String,
        /// Headers to add, by name.
        add_headers: BTreeMap<String, AddedHeader>,
        /// Headers to remove.
        remove_headers: Vec<String>,
        /// Ranges of status codes that pass, without their upper bound; empty: 200.
        expected: Vec<(u16, u16)>,
    },
    /// The gRPC health checking protocol.
    Grpc {
        /// Name of the service to check.
        service: String,
        /// Value of `:authority`; empty: the name of the cluster.
        authority: String,
    },
}

/// Passive health checks, by which failing endpoints are ejected (`envoy.config.cluster.v3.OutlierDetection`); `None`:
/// Envoy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Consecutive 5xx responses.
    pub consecutive_5xx: Option<u32>,
    /// Consecutive gateway errors (502, 503, 504).
    pub consecutive_gateway_failure: Option<u32>,
    /// Interval between ejection sweeps.
    pub interval: Option<Duration>,
    /// Ejection time, which is multiplied by the number of ejections of the endpoint.
    pub base_ejection_time: Option<Duration>,
    /// Maximum percentage of ejected endpoints.
    pub max_ejection_percent: Option<u32>,
}
