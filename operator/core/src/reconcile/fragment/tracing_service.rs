//! What a TracingService adds: a service that gets traces.

use nuncio_ir::{SpanTag, TracingDriver};

use super::Upstream;

/// A service that gets traces.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingService {
    /// Where they are sent.
    pub upstream: Upstream,
    /// Protocol of the collector.
    pub driver: TracingDriver,
    /// Percentages of requests that are traced.
    pub sampling: Sampling,
    /// Tags of the spans, by name.
    pub tags: Vec<(String, SpanTag)>,
}

/// Percentages of requests that are traced; `None` is not set. See [`nuncio_ir::Tracing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Of requests that ask for it.
    pub client: Option<u32>,
    /// Of all requests, at random.
    pub random: Option<u32>,
    /// At most.
    pub overall: Option<u32>,
}
