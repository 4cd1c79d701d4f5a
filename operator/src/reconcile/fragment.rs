//! What one object adds to the gateway, seen alone. Nothing here depends on another object: references are names.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use nuncio_xds::ir::{DnsFamily, HeaderMatch, ListenerKey, PathMatch, QueryMatch, Rewrite};

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
    /// Where a Service is found.
    Service(Arc<Service>),
    /// Where some of a Service's pods are found.
    EndpointSlice(Arc<EndpointSlice>),
    /// A certificate.
    Secret(Arc<Secret>),
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
    /// Whether Hosts of every namespace are taken, or those of its own only.
    pub every_namespace: bool,
    /// Which Hosts are taken, by their labels.
    pub host_selector: Selector,
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
    /// Protocols offered by ALPN.
    pub alpn: Vec<String>,
    /// Set when the Host asks for something that we cannot enforce: its TLS is then not served at all.
    pub refused: bool,
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
    /// Where requests go.
    pub upstream: Upstream,
    /// Change of the path.
    pub rewrite: Rewrite,
    /// Time for the whole response; zero: no limit.
    pub timeout: Duration,
    /// Time without traffic on a stream.
    pub idle_timeout: Option<Duration>,
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
    /// Whether TLS is originated.
    pub tls: bool,
    /// Whether requests go to the Service's endpoints and not to its address.
    pub endpoints: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Which addresses are asked of DNS.
    pub dns_family: DnsFamily,
    /// `LOGICAL_DNS`
    pub logical_dns: bool,
    /// Name in statistics, when the user gives one.
    pub stat_name: Option<String>,
    /// Keeps its cluster apart from others with equal settings.
    pub tag: Option<String>,
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

/// A certificate with its key, or why it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// PEM of both, checked: they parse and belong together.
    pub certificate: Result<Certificate, String>,
}

/// A certificate chain with its private key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, the server's own certificate first.
    pub chain: Arc<str>,
    /// PEM
    pub key: Arc<str>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key", &"[redacted]")
            .finish_non_exhaustive()
    }
}
