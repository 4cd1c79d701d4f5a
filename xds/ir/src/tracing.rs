//! Tracing.

use std::sync::Arc;

use crate::Origin;

/// Where traces are sent, and of which requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Name of the [`crate::Cluster`] of the collector.
    pub cluster: Arc<str>,
    /// Protocol of the collector.
    pub driver: TracingDriver,
    /// Percentage of the requests with the header `x-client-trace-id` that are traced; `None`: 100.
    pub client_sampling: Option<u32>,
    /// Percentage of the requests that are selected at random; `None`: 100.
    pub random_sampling: Option<u32>,
    /// Maximum percentage of requests that are traced; `None`: 100.
    pub overall_sampling: Option<u32>,
    /// Tags of the spans, by name.
    pub tags: Vec<(String, SpanTag)>,
    /// The object that names the collector.
    pub origin: Origin,
}

/// Protocol of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracingDriver {
    /// Zipkin.
    Zipkin {
        /// Path.
        endpoint: String,
        /// Whether spans are sent as protobuf instead of JSON.
        protobuf: bool,
        /// Host header; `None`: host and port of the collector.
        hostname: Option<String>,
        /// Whether client and server spans share an ID; `None`: they do.
        shared_span_context: Option<bool>,
        /// Whether trace IDs have 128 bits.
        long_ids: bool,
        /// Whether traces are passed on by W3C Trace Context, too.
        w3c: bool,
    },
    /// Datadog.
    Datadog {
        /// Name of the gateway.
        service: String,
        /// Host header; `None`: host and port of the collector.
        hostname: Option<String>,
    },
    /// OpenTelemetry, over gRPC.
    OpenTelemetry {
        /// Name of the gateway.
        service: String,
    },
}

/// Value of a span's tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanTag {
    /// A fixed value.
    Literal(String),
    /// An environment variable of Envoy.
    Environment {
        /// Name.
        name: String,
        /// Value if there is no such variable; empty: no tag.
        default: String,
    },
    /// A request header.
    Header {
        /// Name.
        name: String,
        /// Value if the request does not have it; empty: no tag.
        default: String,
    },
}
