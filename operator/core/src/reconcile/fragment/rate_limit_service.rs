//! What a RateLimitService adds: a service that limits the rate of requests.

use std::time::Duration;

use super::Upstream;

/// A service that limits the rate of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitService {
    /// Where it is called.
    pub upstream: Upstream,
    /// Domain of the labels that it gets; `None`: that of the Module.
    pub domain: Option<String>,
    /// Timeout of a call; zero: no limit.
    pub timeout: Duration,
    /// Whether requests are rejected if it cannot be reached.
    pub deny_on_failure: bool,
    /// Whether limited gRPC requests get `RESOURCE_EXHAUSTED` instead of `UNAVAILABLE`.
    pub resource_exhausted: bool,
}
