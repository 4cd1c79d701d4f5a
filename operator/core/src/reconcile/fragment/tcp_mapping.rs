//! What a TCPMapping adds: which connections it matches, and where they go.

use std::{sync::Arc, time::Duration};

use nuncio_ir::ListenerKey;

use super::Upstream;

/// Connections and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpMapping {
    /// The socket.
    pub key: ListenerKey,
    /// TLS server name, lower case; `None`: every connection, without TLS.
    pub server_name: Option<Arc<str>>,
    /// Percentage of the connections; `None`: an equal share of what the weights leave.
    pub weight: Option<u32>,
    /// Where they go.
    pub upstream: Upstream,
    /// Time without traffic after which a connection is closed.
    pub idle_timeout: Option<Duration>,
}
