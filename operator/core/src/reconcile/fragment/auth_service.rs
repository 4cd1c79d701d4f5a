//! What an AuthService adds: a service that authorizes requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nuncio_ir::AuthorizationBody;

use super::Upstream;

/// A service that authorizes requests.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthService {
    /// Whether it authorizes the requests of every Mapping that names no AuthService.
    pub is_default: bool,
    /// Where it is called.
    pub upstream: Upstream,
    /// How it is called.
    pub call: AuthCall,
    /// Timeout of a call; zero: no limit.
    pub timeout: Duration,
    /// The request body that it gets.
    pub body: Option<AuthorizationBody>,
    /// Whether requests are allowed if it cannot be reached.
    pub allow_on_failure: bool,
    /// Status of the response if it cannot be reached; `None`: not set.
    pub status_on_error: Option<u16>,
}

/// How an AuthService is called.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthCall {
    /// A request of its own.
    Http(AuthRequests),
    /// Envoy's gRPC service.
    Grpc,
}

/// Requests to an AuthService.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthRequests {
    /// Prefix of the path; empty: none.
    pub path_prefix: String,
    /// Request headers that are passed on, lower case.
    pub request_headers: BTreeSet<String>,
    /// Response headers that are passed on, lower case.
    pub response_headers: BTreeSet<String>,
    /// Headers that are added, lower case.
    pub added_headers: BTreeMap<String, String>,
    /// Whether the header that Linkerd routes by is added.
    pub add_linkerd_headers: Option<bool>,
}
