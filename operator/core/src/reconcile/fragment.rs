//! What one object adds to the gateway, seen alone. Nothing here depends on another object: references are names.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use nuncio_ir::{
    AddedHeader, Balancer, CircuitBreaker, Cors, DnsFamily, Forward, HeaderMatch, HealthCheck,
    Keepalive, ListenerKey, OutlierDetection, PathMatch, QueryMatch, Redirect, RetryPolicy,
    Rewrite, TlsParameters,
};

use crate::selector::{Labels, Selector};

/// What one object adds to the gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum Fragment {
    /// A port to listen on.
    Listener(Arc<Listener>),
    /// A host name to serve.
    Host(Arc<Host>),
    /// Requests that go somewhere.
    Mapping(Arc<Mapping>),
    /// Connections that go somewhere.
    TcpMapping(Arc<TcpMapping>),
    /// How TLS is spoken.
    TlsContext(Arc<TlsContext>),
    /// How the addresses of upstreams are found.
    Resolver(ResolverKind),
    /// Where a Service is found.
    Service(Arc<Service>),
    /// Where some of a Service's pods are found.
    EndpointSlice(Arc<EndpointSlice>),
    /// A certificate.
    Secret(Arc<Secret>),
    /// Labels of a namespace.
    Namespace(Arc<Labels>),
}

/// Name of an object of a kind that the context tells, within its namespace.
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

/// A port to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The socket.
    pub key: ListenerKey,
    /// Whether Hosts can be served; without it the port is for TCP only.
    pub http: bool,
    /// Whether TLS is terminated.
    pub tls: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy: bool,
    /// How requests are told to be secure.
    pub security_model: SecurityModel,
    /// How many trusted HTTP proxies are in front.
    pub l7_depth: u32,
    /// First part of the names of its statistics.
    pub stat_prefix: String,
    /// HTTP/2 streams per client connection.
    pub max_concurrent_streams: Option<u32>,
    /// Of which namespaces Hosts are taken.
    pub namespaces: Namespaces,
    /// Which Hosts are taken, by their labels.
    pub host_selector: Selector,
}

/// Of which namespaces a Listener takes Hosts.
#[derive(Clone, Debug, PartialEq)]
pub enum Namespaces {
    /// Its own.
    Own,
    /// All.
    All,
    /// Those with these labels.
    Selected(Selector),
}

/// How a Listener tells secure requests from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityModel {
    /// By `x-forwarded-proto`, which Envoy sets from the connection unless a trusted proxy is in front.
    Xfp,
    /// All are secure.
    Secure,
    /// None is secure.
    Insecure,
}

/// A host name to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Labels, by which Listeners choose.
    pub labels: Labels,
    /// Glob, lower case; the domain of its virtual host.
    pub hostname: Arc<str>,
    /// The host name without a port: what a TLS client asks for.
    pub server_name: Arc<str>,
    /// Which Mappings are taken, by their labels; `None`: those whose host name fits.
    pub mapping_selector: Option<Selector>,
    /// What becomes of insecure requests.
    pub insecure: InsecureAction,
    /// Termination of TLS.
    pub tls: Option<HostTls>,
}

/// What becomes of insecure requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsecureAction {
    /// They are redirected to https.
    Redirect,
    /// They are not answered.
    Reject,
    /// They are routed like secure ones.
    Route,
}

/// How a Host terminates TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTls {
    /// Secret with the certificate.
    pub secret: Name,
    /// All else.
    pub terms: HostTerms,
}

/// On which terms a Host terminates TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum HostTerms {
    /// As the Host itself says.
    Own(TlsSettings),
    /// As this TLSContext says; it is looked for in the Host's namespace first.
    Context(Name),
    /// As the TLSContext of this very name says, if there is one; else without further terms.
    Implicit(Name),
    /// It asks for something that cannot be enforced: its TLS is not served at all. The reconciler has said why.
    Refused,
}

/// How TLS from clients is spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// Secret with the certificates of authorities that are trusted.
    pub trusted: Option<Name>,
    /// Secret with lists of revoked certificates.
    pub revoked: Option<Name>,
    /// Whether clients have to show a certificate.
    pub require_client_certificate: bool,
    /// Protocols offered by ALPN.
    pub alpn: Vec<String>,
    /// Versions, ciphers and curves.
    pub parameters: TlsParameters,
}

/// Requests that go somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// Labels, by which Hosts choose.
    pub labels: Labels,
    /// Which host names.
    pub host: HostMatch,
    /// Which paths.
    pub path: PathMatch,
    /// Whether letters of the path are compared with their case.
    pub case_sensitive: bool,
    /// Which headers: exact ones by name, then regexes by name, then the method.
    pub headers: Vec<HeaderMatch>,
    /// Which query parameters: exact ones by name, then regexes by name.
    pub query: Vec<QueryMatch>,
    /// Comes before all else in the order of routes.
    pub precedence: i64,
    /// Percentage of the requests of its group; `None`: a share of what the others leave.
    pub weight: Option<u32>,
    /// What it is in its group.
    pub role: Role,
    /// Where requests go.
    pub upstream: Upstream,
    /// Change of the path, when the Mapping says one.
    pub rewrite: Option<Rewrite>,
    /// What becomes of its own share of requests. What the group decides is blank: the cluster, the change of the path,
    /// copies, and all of [`Shared`].
    pub forward: Forward,
    /// What holds for the whole group.
    pub shared: Shared,
}

/// What a Mapping is in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It gets a share of the requests.
    Forward,
    /// It sends clients elsewhere.
    Redirect(Redirect),
    /// It gets copies of requests.
    Shadow,
}

/// Settings that hold for every Mapping of a group, whichever of them says so; `None`: it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// When a request is tried again.
    pub retry_policy: Option<RetryPolicy>,
    /// Cross-origin resource sharing.
    pub cors: Option<Cors>,
    /// Protocols that a connection may be upgraded to.
    pub allow_upgrade: Option<Vec<String>>,
    /// Whether the circuit breakers for high priority count.
    pub high_priority: Option<bool>,
    /// Change of the path, for Mappings that say none of their own.
    pub regex_rewrite: Option<Rewrite>,
    /// Headers removed from requests.
    pub remove_request_headers: Option<Vec<String>>,
    /// Headers removed from responses.
    pub remove_response_headers: Option<Vec<String>>,
    /// Headers added to requests; those of all Mappings of the group together.
    pub add_request_headers: BTreeMap<String, AddedHeader>,
    /// Headers added to responses; those of all Mappings of the group together.
    pub add_response_headers: BTreeMap<String, AddedHeader>,
}

/// Connections that go somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpMapping {
    /// The socket.
    pub key: ListenerKey,
    /// TLS server name, lower case; `None`: every connection, without TLS.
    pub server_name: Option<Arc<str>>,
    /// Share of the connections; `None`: a share of what the others leave.
    pub weight: Option<u32>,
    /// Where they go.
    pub upstream: Upstream,
    /// Time without traffic after which a connection is closed.
    pub idle_timeout: Option<Duration>,
}

/// How TLS is spoken, for whoever refers to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsContext {
    /// Server names that it is for, lower case.
    pub hosts: Vec<Arc<str>>,
    /// Secret with certificate and key.
    pub certificate: Option<Name>,
    /// Name in the TLS hello to upstreams.
    pub server_name: Option<String>,
    /// All else.
    pub settings: TlsSettings,
}

/// What the name of a resolver means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolverKind {
    /// The address of the Service.
    Service,
    /// The addresses of its pods.
    Endpoints,
}

/// Which host names a Mapping is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostMatch {
    /// It does not say: only Hosts that select it by label take it.
    Unset,
    /// A glob, lower case.
    Glob(String),
    /// A regex (RE2) for the whole `:authority`.
    Regex(String),
}

/// An upstream, as a Mapping asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host as DNS would be asked for it, lower case, qualified with the namespace where upstream does so.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The host as an address, when it is one.
    pub address: Option<IpAddr>,
    /// The Service that the host can mean.
    pub service: Option<Name>,
    /// Whether the host can only mean a Service in the cluster.
    pub only_service: bool,
    /// How TLS is originated.
    pub tls: Origination,
    /// How addresses are found.
    pub resolver: Resolver,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// How connections are made and shared.
    pub settings: ClusterSettings,
}

/// How TLS is originated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origination {
    /// It is not.
    None,
    /// Without a certificate of our own, trusting any server.
    Plain,
    /// As the TLSContext of this name says; it is looked for in this namespace first.
    Context(Name),
}

/// How the addresses of an upstream are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// By the address of the Service.
    Service,
    /// By the addresses of its pods.
    Endpoints,
    /// As the resolver of this name says, in whichever namespace it is.
    Named(Arc<str>),
}

/// How connections to an upstream are made and shared; see [`nuncio_ir::Cluster`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Which addresses are asked of DNS.
    pub dns_family: DnsFamily,
    /// `LOGICAL_DNS`
    pub logical_dns: bool,
    /// Whether DNS is asked again when its answer expires.
    pub respect_dns_ttl: bool,
    /// Time without requests after which a connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Time after which a connection is closed.
    pub max_connection_lifetime: Option<Duration>,
    /// How one of several addresses is chosen; `None`: each in turn.
    pub balancer: Option<Balancer>,
    /// Limits of what it is given at a time.
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// TCP keepalive.
    pub keepalive: Option<Keepalive>,
    /// How addresses are asked whether they are healthy.
    pub health_checks: Vec<HealthCheck>,
    /// When an address that fails is left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// Name in statistics, when the user gives one.
    pub stat_name: Option<String>,
    /// Keeps its cluster apart from others with equal settings.
    pub tag: Option<String>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            dns_family: DnsFamily::V4,
            logical_dns: false,
            respect_dns_ttl: false,
            idle_timeout: None,
            max_connection_lifetime: None,
            balancer: None,
            circuit_breakers: Vec::new(),
            keepalive: None,
            health_checks: Vec::new(),
            outlier_detection: None,
            stat_name: None,
            tag: None,
        }
    }
}

/// Where a Service is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The address that stands for all of its pods; none for a headless Service.
    pub cluster_ip: Option<IpAddr>,
    /// `spec.externalName` of a Service of that type.
    pub external_name: Option<String>,
    /// TCP ports: number to name (empty for the only one).
    pub ports: BTreeMap<u16, String>,
    /// UDP ports: number at the pods to number at the Service.
    pub udp: BTreeMap<u16, u16>,
}

/// Where some of a Service's pods are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its Service.
    pub service: Name,
    /// TCP ports: name to number.
    pub ports: BTreeMap<String, u16>,
    /// Addresses that take new connections.
    pub ready: Vec<IpAddr>,
    /// Addresses that still serve while their pods end, used when none is ready.
    pub terminating: Vec<IpAddr>,
}

/// What a Secret holds, each part or why it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// PEM of certificate and key, checked: they parse and belong together.
    pub certificate: Result<Certificate, String>,
    /// PEM of the certificates of authorities, checked: they parse.
    pub trusted: Result<Arc<str>, String>,
    /// PEM of lists of revoked certificates, checked: they parse.
    pub revoked: Result<Arc<str>, String>,
    /// PEM of the authorities that come with a certificate (`root-cert.pem`, as Istio writes it), checked: they parse.
    pub root: Option<Arc<str>>,
}

/// A certificate chain with its private key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, the server's own certificate first.
    pub chain: Arc<str>,
    /// PEM
    pub key: Arc<str>,
    /// When the server's own certificate expires, in seconds of the epoch.
    pub not_after: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key", &"[redacted]")
            .finish_non_exhaustive()
    }
}
