//! What a Listener adds: a port to listen on.

use jiff::Timestamp;
use nuncio_ir::ListenerKey;

use crate::selector::Selector;

/// A port to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// When the object was created, by which Listeners of different namespaces are ordered; `None` where that is unknown.
    pub created: Option<Timestamp>,
    /// The socket.
    pub key: ListenerKey,
    /// Whether Hosts can be served; without it the port is for TCP only.
    pub http: bool,
    /// Whether TLS is terminated.
    pub tls: bool,
    /// Whether connections start with a PROXY protocol header.
    pub proxy: bool,
    /// How secure requests are distinguished from insecure ones.
    pub security_model: SecurityModel,
    /// Number of trusted HTTP proxies in front.
    pub l7_depth: u32,
    /// Prefix of the names of its statistics.
    pub stat_prefix: String,
    /// Maximum number of HTTP/2 streams per client connection.
    pub max_concurrent_streams: Option<u32>,
    /// Namespaces whose Hosts can attach.
    pub namespaces: Namespaces,
    /// Labels of the Hosts that can attach.
    pub host_selector: Selector,
}

/// Namespaces whose Hosts can attach to a Listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Namespaces {
    /// The Listener's own.
    Own,
    /// All.
    All,
    /// Those with matching labels.
    Selected(Selector),
}

/// How a Listener distinguishes secure requests from insecure ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityModel {
    /// By `x-forwarded-proto`, which Envoy sets from the connection unless a trusted proxy is in front.
    Xfp,
    /// All requests are secure.
    Secure,
    /// No request is secure.
    Insecure,
}
