//! Access logs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::Origin;

/// An access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Lines in a file.
    File {
        /// Path, such as `/dev/stdout`.
        path: String,
        /// Format of a line.
        format: LogFormat,
    },
    /// Sent to a service.
    Service(LogService),
}

/// Format of a log line; texts can contain Envoy's `%…%` operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text, with its line end.
    Text(String),
    /// A JSON object with these fields.
    Json(BTreeMap<String, LogValue>),
}

/// A value in a JSON log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogValue {
    /// Text. With a single operator, it has that operator's type.
    Text(String),
    /// An object.
    Map(BTreeMap<String, Self>),
}

/// A service that gets access logs over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogService {
    /// Name of its [`crate::Cluster`].
    pub cluster: Arc<str>,
    /// Identifies the log for a service that gets several.
    pub log_name: String,
    /// Interval at which it is sent.
    pub flush_interval: Duration,
    /// Size in bytes at which it is sent.
    pub buffer_bytes: u32,
    /// Additional headers of requests, responses and trailers, for logs of HTTP requests; `None`: a log of connections.
    pub headers: Option<LoggedHeaders>,
    /// The object that names it.
    pub origin: Origin,
}

/// Additional headers that are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedHeaders {
    /// Of requests.
    pub request: Vec<String>,
    /// Of responses.
    pub response: Vec<String>,
    /// Of response trailers.
    pub trailer: Vec<String>,
}
