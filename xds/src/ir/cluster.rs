//! An upstream: how its addresses are found and how connections to them are made. Shared by all routes whose
//! settings are equal.

use std::{net::IpAddr, sync::Arc, time::Duration};

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Readable name, unique for its settings.
    pub name: Arc<str>,
    /// Name in statistics.
    pub stat_name: String,
    /// How its addresses are found.
    pub discovery: Discovery,
    /// Whether connections are made with TLS. Certificates of upstreams are not verified unless a context says how.
    pub tls: bool,
    /// Whether upstreams speak HTTP/2 (with prior knowledge when `tls` is off), as gRPC needs.
    pub http2: bool,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
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
    },
    /// An [`super::Endpoints`] resource of this name.
    Endpoints(Arc<str>),
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
