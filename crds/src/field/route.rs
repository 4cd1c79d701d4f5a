//! Settings of routes and upstreams.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::undescribed;

/// Regular expression with its replacement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegexMap {
    /// Regular expression (RE2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Replacement; `\1` to `\9` refer to capture groups of the pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substitution: Option<String>,
}

/// Limits of connections and requests to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CircuitBreaker {
    /// Priority of the requests that these limits apply to. Default: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<BreakerPriority>,
    /// Maximum number of connections. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
    /// Maximum number of requests that wait for a connection. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<i64>,
    /// Maximum number of concurrent requests. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<i64>,
    /// Maximum number of concurrent retries. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
}

/// Priority of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = undescribed)]
pub enum BreakerPriority {
    /// Requests of Mappings without a priority.
    Default,
    /// Requests of Mappings with `priority: high`.
    High,
}

/// TCP keepalive of connections to upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Keepalive {
    /// Number of unanswered probes after which a connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<i64>,
    /// Seconds of idle time before the first probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_time: Option<i64>,
    /// Seconds between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
}

/// Cross-origin resource sharing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cors {
    /// Allowed origins; `*` for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Allowed methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Allowed request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Response headers exposed to scripts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_headers: Vec<String>,
    /// Whether credentials are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<bool>,
    /// Seconds for which browsers can cache the result of a preflight request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// Whether version v2 writes the origins as one text with commas. For conversion only.
    #[serde(
        rename = "v2CommaSeparatedOrigins",
        skip_serializing_if = "Option::is_none"
    )]
    pub v2_comma_separated_origins: Option<bool>,
}

/// Policy for retrying failed requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryPolicy {
    /// Failure to retry on. `5xx`: status 500 to 599, or no response; `gateway-error`: status 502, 503 or 504;
    /// `connect-failure`: connection failed; `retriable-4xx`: status 409; `refused-stream`: the upstream reset the stream
    /// with REFUSED_STREAM; `retriable-status-codes`: status codes in the request header `x-envoy-retriable-status-codes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<RetryOn>,
    /// Maximum number of retries. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<i64>,
    /// Timeout of each try, such as `2s`. Default: the timeout of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<String>,
}

/// Failure to retry on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = undescribed)]
pub enum RetryOn {
    /// Status 500 to 599, or no response.
    #[serde(rename = "5xx")]
    FiveHundreds,
    /// Status 502, 503 or 504.
    GatewayError,
    /// Connection failed.
    ConnectFailure,
    /// Status 409.
    #[serde(rename = "retriable-4xx")]
    RetriableFourHundreds,
    /// The upstream reset the stream with REFUSED_STREAM.
    RefusedStream,
    /// Status codes in the request header `x-envoy-retriable-status-codes`.
    RetriableStatusCodes,
}

/// Load balancing between the addresses of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancer {
    /// Load balancing policy. `round_robin`: each address in turn; `least_request`: of two random addresses, the one with
    /// fewer active requests; `ring_hash` and `maglev`: by a hash of `cookie`, `header` or `source_ip`.
    pub policy: LoadBalancerPolicy,
    /// Cookie to hash, with `ring_hash` and `maglev`; gives a client the same address each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<HashCookie>,
    /// Name of the request header to hash, with `ring_hash` and `maglev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether to hash the IP address of the client, with `ring_hash` and `maglev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<bool>,
}

/// Load balancing policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline, transform = undescribed)]
pub enum LoadBalancerPolicy {
    /// Each address in turn.
    RoundRobin,
    /// By a hash, with consistent hashing on a ring.
    RingHash,
    /// By a hash, with the Maglev algorithm.
    Maglev,
    /// Of two random addresses, the one with fewer active requests.
    LeastRequest,
}

/// Cookie that gives a client the same address each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HashCookie {
    /// Name of the cookie.
    pub name: String,
    /// Path of a cookie that Envoy sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Lifetime of the cookie that Envoy sets, such as `60s`. Default: Envoy does not set a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// Location of a service's documentation. No effect on traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Docs {
    /// Path of the OpenAPI document on the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// URL of the OpenAPI document, if it is not on the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Display name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whether to omit the service from the documentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<bool>,
    /// Timeout for fetching the document in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
}

/// Response that replaces an error response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorResponseOverride {
    /// Status code of the responses to replace.
    #[schemars(range(min = 400, max = 599))]
    pub on_status_code: i64,
    /// Body of the response.
    pub body: ErrorResponseBody,
}

/// Body of a response that replaces an error response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorResponseBody {
    /// Text; can contain Envoy's `%…%` operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_format: Option<String>,
    /// JSON object; values can contain Envoy's `%…%` operators.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json_format: BTreeMap<String, String>,
    /// Not supported: use `text_format`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_format_source: Option<TextFormatSource>,
    /// Content type of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// File with the text of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextFormatSource {
    /// Not supported: use `text_format`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// TLS as version v2 writes it. For conversion only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct V2ExplicitTls {
    /// Value of `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "null", "bool:true", "bool:false", "string"]))]
    pub tls: Option<String>,
    /// Scheme of the service.
    #[serde(rename = "serviceScheme", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([hH][tT][tT][pP][sS]?://)?$"))]
    pub service_scheme: Option<String>,
}
