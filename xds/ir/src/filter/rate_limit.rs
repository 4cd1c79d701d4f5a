//! Settings of the rate limit filter.

use std::{sync::Arc, time::Duration};

use crate::Origin;

/// A rate limit service (`envoy.extensions.filters.http.ratelimit.v3.RateLimit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitService {
    /// Name of its [`crate::Cluster`].
    pub cluster: Arc<str>,
    /// Domain of the descriptors.
    pub domain: String,
    /// Timeout of a call; zero: no limit.
    pub timeout: Duration,
    /// Whether requests are rejected if it cannot be reached.
    pub deny_on_failure: bool,
    /// Whether limited gRPC requests get `RESOURCE_EXHAUSTED` instead of `UNAVAILABLE`.
    pub resource_exhausted: bool,
    /// The object that names it.
    pub origin: Origin,
}
