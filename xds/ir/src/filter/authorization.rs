//! Settings of an authorization filter.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::Origin;

/// An authorization service (`envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationService {
    /// Name of its [`crate::Cluster`].
    pub cluster: Arc<str>,
    /// How it is called.
    pub call: AuthorizationCall,
    /// Timeout of a call; zero: no limit.
    pub timeout: Duration,
    /// The request body that it gets; `None`: none.
    pub body: Option<AuthorizationBody>,
    /// Whether requests are allowed if it cannot be reached.
    pub allow_on_failure: bool,
    /// Status of the response if it cannot be reached; `None`: 403.
    pub status_on_error: Option<u16>,
    /// The objects that it is made from, the first first.
    pub origins: Vec<Origin>,
}

/// How an authorization service is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationCall {
    /// A request of its own.
    Http(HttpAuthorization),
    /// Envoy's gRPC service.
    Grpc,
}

/// A request of its own for each request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAuthorization {
    /// Whether the connection has TLS.
    pub tls: bool,
    /// Prefix of the path; empty: none.
    pub path_prefix: String,
    /// Request headers that are passed on, lower case, sorted.
    pub request_headers: Vec<String>,
    /// Response headers that are passed on, lower case, sorted.
    pub response_headers: Vec<String>,
    /// Headers that are added.
    pub added_headers: BTreeMap<String, String>,
}

/// The request body that an authorization service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorizationBody {
    /// Maximum size in bytes.
    pub max_bytes: u32,
    /// Whether the beginning of a larger one is sent; otherwise the response is 413.
    pub allow_partial: bool,
}
