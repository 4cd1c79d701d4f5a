//! Parts of what a Mapping says about its routes and upstreams.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::undescribed;

/// A pattern and what replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegexMap {
    /// Regular expression (RE2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Replacement; `\1` to `\9` stand for groups of the pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substitution: Option<String>,
}

/// Limits of what an upstream is given at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CircuitBreaker {
    /// Which requests are meant: those of routes with this priority. Default: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<BreakerPriority>,
    /// Connections open at a time. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
    /// Requests waiting for a connection. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<i64>,
    /// Requests under way at a time. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<i64>,
    /// Retries under way at a time. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
}

/// Priority of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = undescribed)]
pub enum BreakerPriority {
    /// Ordinary routes.
    Default,
    /// Routes with `priority: high`.
    High,
}

/// TCP keepalive of connections to upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Keepalive {
    /// Probes without an answer until a connection is taken for dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<i64>,
    /// Seconds without traffic until the first probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_time: Option<i64>,
    /// Seconds between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
}

/// Cross-origin resource sharing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cors {
    /// Origins that are allowed; `*` for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Methods that are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Request headers that are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Response headers that scripts may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_headers: Vec<String>,
    /// Whether credentials may be sent along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<bool>,
    /// Seconds for which a browser may keep the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// How version v2 spelled the origins; kept for conversion only.
    #[serde(
        rename = "v2CommaSeparatedOrigins",
        skip_serializing_if = "Option::is_none"
    )]
    pub v2_comma_separated_origins: Option<bool>,
}

/// When a request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryPolicy {
    /// On which failure. `5xx`: status 500 to 599, or no answer; `gateway-error`: 502, 503 or 504; `connect-failure`: no
    /// connection; `retriable-4xx`: 409; `refused-stream`: the upstream refused the stream; `retriable-status-codes`: those
    /// that a request header lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<RetryOn>,
    /// How often at most. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<i64>,
    /// Time for each try, such as `2s`. Default: the time for the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<String>,
}

/// A failure on which a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = undescribed)]
pub enum RetryOn {
    /// Status 500 to 599, or no answer.
    #[serde(rename = "5xx")]
    FiveHundreds,
    /// Status 502, 503 or 504.
    GatewayError,
    /// No connection.
    ConnectFailure,
    /// Status 409.
    #[serde(rename = "retriable-4xx")]
    RetriableFourHundreds,
    /// The upstream refused the stream.
    RefusedStream,
    /// Status codes that a request header lists.
    RetriableStatusCodes,
}

/// How one of several upstream addresses is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancer {
    /// `round_robin`: each in turn; `least_request`: the one of two with fewer requests under way; `ring_hash` and `maglev`: by
    /// a hash of what the other fields name.
    pub policy: LoadBalancerPolicy,
    /// For hashing policies: a cookie that keeps a client with its upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<HashCookie>,
    /// For hashing policies: the header whose value is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// For hashing policies: the client's address is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<bool>,
}

/// Rule by which an address is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline, transform = undescribed)]
pub enum LoadBalancerPolicy {
    /// Each in turn.
    RoundRobin,
    /// By a hash, on a ring.
    RingHash,
    /// By a hash, in a table.
    Maglev,
    /// The one of two with fewer requests under way.
    LeastRequest,
}

/// A cookie that keeps a client with its upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HashCookie {
    /// Name of the cookie.
    pub name: String,
    /// Path of a cookie that is set by the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How long a cookie that is set by the gateway lives, such as `60s`; without it none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// Where the documentation of a service is found; without effect on traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Docs {
    /// Path of the service's OpenAPI document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Address of the document, when it is elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whether the service is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<bool>,
    /// Milliseconds to wait for the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
}

/// What is answered instead of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorResponseOverride {
    /// Status code that is meant.
    #[schemars(range(min = 400, max = 599))]
    pub on_status_code: i64,
    /// The answer.
    pub body: ErrorResponseBody,
}

/// Body of an answer that replaces an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorResponseBody {
    /// Text; may hold Envoy's `%…%` operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_format: Option<String>,
    /// JSON object; values may hold Envoy's `%…%` operators.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json_format: BTreeMap<String, String>,
    /// A file with the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_format_source: Option<TextFormatSource>,
    /// Content type of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// A file with the text of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextFormatSource {
    /// Path of the file, where Envoy runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// How version v2 spelled TLS; kept for conversion only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct V2ExplicitTls {
    /// The value of `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "null", "bool:true", "bool:false", "string"]))]
    pub tls: Option<String>,
    /// The scheme of the service.
    #[serde(rename = "serviceScheme", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([hH][tT][tT][pP][sS]?://)?$"))]
    pub service_scheme: Option<String>,
}
