//! Listeners and their filter chains. Chains refer to route tables and secrets by name, so that neither a new route nor
//! a rotated certificate changes the listener.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{AccessLog, HttpFilter, HttpOptions, Origin, TableKey, TableScope, TlsParameters};

/// Transport protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP, for QUIC
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Identity of a listener: its socket. It does not depend on the object that defines the listener, so that Envoy updates
/// the listener in place when another object takes over the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// Port number, 1 to 65535.
    pub port: u16,
    /// Transport protocol.
    pub transport: Transport,
    /// Address to bind, if it is not the default one.
    pub address: Option<IpAddr>,
}

impl ListenerKey {
    /// The key that is printed like this.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (transport, rest) = text.split_once('-')?;
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return None,
        };
        let (address, port) = match rest.rsplit_once('-') {
            Some((address, port)) => (Some(address.parse().ok()?), port),
            None => (None, rest),
        };
        Some(Self {
            port: port.parse().ok()?,
            transport,
            address,
        })
    }
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.transport)?;
        if let Some(address) = self.address {
            write!(f, "{address}-")?;
        }
        write!(f, "{}", self.port)
    }
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Identity.
    pub key: ListenerKey,
    /// Address to bind.
    pub address: IpAddr,
    /// Prefix of its statistics.
    pub stat_prefix: String,
    /// Whether clients send a PROXY protocol header (version 1 or 2).
    pub proxy_protocol: bool,
    /// Whether chains are selected by the TLS ClientHello (server name).
    pub tls: bool,
    /// Number of trusted HTTP proxies in front (`xff_num_trusted_hops`).
    pub l7_depth: u32,
    /// Maximum number of concurrent HTTP/2 streams of a connection; `None`: the default for edge proxies.
    pub max_concurrent_streams: Option<u32>,
    /// HTTP filters of every HTTP chain, in the order in which requests pass through them. The router is implied.
    pub filters: BTreeSet<HttpFilter>,
    /// Settings of every HTTP chain.
    pub http: Arc<HttpOptions>,
    /// Where connections of TCP chains are logged.
    pub tcp_access_logs: Vec<AccessLog>,
    /// `buffer_limit_bytes`: bytes that are buffered for a connection in each direction; `None`: Envoy's default of 1 MiB.
    pub buffer_limit_bytes: Option<u32>,
    /// Filter chains. Their order has no meaning: Envoy selects the most specific one.
    pub chains: Vec<FilterChain>,
    /// The object that defines it; `None`: only its chains do.
    pub origin: Option<Origin>,
}

impl Listener {
    /// Whether a chain is for many server names, so that these are not part of it: see [`ChainAction::HttpByServerName`].
    #[must_use]
    pub fn shares_chains(&self) -> bool {
        let mut chains = self.chains.iter();
        chains.any(|chain| chain.action == ChainAction::HttpByServerName)
    }

    /// The table for this server name.
    #[must_use]
    pub fn table_of(&self, server_name: &str) -> TableKey {
        TableKey {
            listener: self.key,
            scope: TableScope::Tls(server_name.into()),
        }
    }

    /// Address and port.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.key.port)
    }
}

/// A filter chain: what is done with the connections that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterChain {
    /// Unique within the listener.
    pub name: String,
    /// TLS server names that select this chain, exact or `*.suffix`; empty: any. No other chain has any of them. Cleartext
    /// connections never match a chain with `tls`.
    pub server_names: Vec<String>,
    /// TLS termination; `None`: cleartext.
    pub tls: Option<Arc<ServerTls>>,
    /// What is done with its connections.
    pub action: ChainAction,
}

/// What is done with the connections of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainAction {
    /// Route HTTP requests with this table.
    Http(TableKey),
    /// Route HTTP requests with the table of their host name, or else with this one.
    HttpByHost(TableKey),
    /// Route HTTP requests with the table of the connection's server name, which is one of the chain's.
    HttpByServerName,
    /// Proxy TCP.
    Tcp(TcpProxy),
    /// Close TLS connections after their ClientHello: TLS of these objects cannot be terminated.
    Close(Vec<Origin>),
}

/// TCP proxying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// What the connections are shared among.
    pub targets: Vec<TcpTarget>,
    /// Idle timeout; zero: no limit; `None`: Envoy's default of one hour.
    pub idle_timeout: Option<Duration>,
}

/// An upstream that gets a share of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpTarget {
    /// Name of the [`super::Cluster`].
    pub cluster: Arc<str>,
    /// Its weight among the targets; not zero.
    pub weight: u32,
    /// The object that names the upstream.
    pub origin: Origin,
}

/// TLS termination.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerTls {
    /// Name of the [`super::Secret`] with the certificate and its key.
    pub secret: Arc<str>,
    /// Name of the [`super::Secret`] that client certificates are verified with; `None`: no certificate is requested.
    pub trusted: Option<Arc<str>>,
    /// Whether clients without a certificate are rejected.
    pub require_client_certificate: bool,
    /// ALPN protocols, preferred first; empty: no ALPN.
    pub alpn: Vec<String>,
    /// Versions, ciphers and curves.
    pub parameters: TlsParameters,
}

impl ServerTls {
    /// Whether client certificates are neither required nor verified.
    #[must_use]
    pub const fn ignores_clients(&self) -> bool {
        self.trusted.is_none() && !self.require_client_certificate
    }

    /// Whether both accept the same client certificates.
    #[must_use]
    pub fn accepts_same_clients(&self, other: &Self) -> bool {
        self.trusted == other.trusted
            && self.require_client_certificate == other.require_client_certificate
    }
}
