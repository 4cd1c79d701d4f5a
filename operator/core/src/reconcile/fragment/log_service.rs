//! What a LogService adds: a service that gets access logs.

use std::time::Duration;

use nuncio_ir::LoggedHeaders;

use super::Upstream;

/// A service that gets access logs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogService {
    /// Where they are sent.
    pub upstream: Upstream,
    /// Interval at which they are sent.
    pub flush_interval: Duration,
    /// Size in bytes at which they are sent.
    pub buffer_bytes: u32,
    /// Additional headers, for logs of HTTP requests; `None`: logs of connections.
    pub headers: Option<LoggedHeaders>,
}
