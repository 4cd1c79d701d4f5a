//! A port that Envoys listen on, and its filter chains. Chains hold names only (of a route table, of a secret),
//! so that neither a new route nor a rotated certificate changes the listener.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{HttpFilter, TableKey, TlsParameters};

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

/// Identity of a listener: one socket. Its name does not depend on the object that asked for it, so that a listener
/// which changes hands is updated in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// Port number, 1 to 65535.
    pub port: u16,
    /// Transport protocol.
    pub transport: Transport,
    /// Address to bind, if it is not the usual one.
    pub address: Option<IpAddr>,
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
    /// Which one.
    pub key: ListenerKey,
    /// Address to bind.
    pub address: IpAddr,
    /// First part of the names of its statistics.
    pub stat_prefix: String,
    /// Whether connections start with a PROXY protocol header (version 1 or 2).
    pub proxy_protocol: bool,
    /// Whether chains are chosen by what the client's TLS hello says.
    pub tls: bool,
    /// How many trusted HTTP proxies are in front (`xff_num_trusted_hops`).
    pub l7_depth: u32,
    /// HTTP/2 streams that one client connection may have open; `None`: the default for edge proxies.
    pub max_concurrent_streams: Option<u32>,
    /// HTTP filters of every HTTP chain, in the order in which requests pass through them. The router is implied.
    pub filters: BTreeSet<HttpFilter>,
    /// In the order in which they are written; Envoy picks the most specific, not the first.
    pub chains: Vec<FilterChain>,
}

impl Listener {
    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.key.port)
    }
}

/// What is done with connections of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterChain {
    /// Unique within the listener.
    pub name: String,
    /// Names in the TLS hello that select this chain: exact or `*.suffix`; empty for any name. Cleartext
    /// connections never match a chain with `tls`.
    pub server_names: Vec<String>,
    /// TLS termination; `None` for the chain of cleartext connections.
    pub tls: Option<ServerTls>,
    /// What is done with what it carries.
    pub action: ChainAction,
}

/// What is done with the connections of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainAction {
    /// They carry HTTP, and these are the routes.
    Http(TableKey),
    /// Their bytes are passed on.
    Tcp(TcpProxy),
    /// They begin with a TLS hello, and are closed at once.
    Close,
}

/// Passes bytes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// Names of [`super::Cluster`]s, with the share of connections that each gets; no share is zero.
    pub clusters: Vec<(Arc<str>, u32)>,
    /// Time without traffic after which a connection is closed; zero: never; `None`: Envoy's default of an hour.
    pub idle_timeout: Option<Duration>,
}

/// How TLS is terminated.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerTls {
    /// Name of the [`super::Secret`] with certificate and key.
    pub secret: Arc<str>,
    /// Name of the [`super::Secret`] that says which clients are trusted; `None`: they are asked for no certificate.
    pub trusted: Option<Arc<str>>,
    /// Whether a client without a certificate is refused.
    pub require_client_certificate: bool,
    /// Protocols offered by ALPN, preferred first; empty: none is offered.
    pub alpn: Vec<String>,
    /// Versions, ciphers and curves.
    pub parameters: TlsParameters,
}

impl ServerTls {
    /// Whether clients are let in on the same terms, whatever certificate they are shown.
    #[must_use]
    pub fn has_same_terms(&self, other: &Self) -> bool {
        self.trusted == other.trusted
            && self.require_client_certificate == other.require_client_certificate
            && self.parameters == other.parameters
    }
}
