//! Mapping: a route for HTTP requests.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::field::{
    AddedHeader, CircuitBreaker, Cors, Docs, ErrorResponseOverride, HealthCheck, Keepalive,
    LabelGroup, LoadBalancer, RegexMap, RetryPolicy, V2ExplicitTls, conditions, undescribed,
    untyped,
};

/// Route for HTTP requests: which requests it matches, and the service they go to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "Mapping",
    plural = "mappings",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    shortname = "amap",
    status = "MappingStatus",
    derive = "PartialEq",
    doc = "Route for HTTP requests: which requests it matches, and the service they go to.",
    printcolumn = r#"{"name":"Hostname","type":"string","jsonPath":".spec.hostname"}"#,
    printcolumn = r#"{"name":"Source Host","type":"string","jsonPath":".spec.host","priority":1}"#,
    printcolumn = r#"{"name":"Source Prefix","type":"string","jsonPath":".spec.prefix"}"#,
    printcolumn = r#"{"name":"Dest Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#
)]
pub struct MappingSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Hostname of requests, or a glob with `*` as its first or last character. Without it, this Mapping attaches only to
    /// Hosts whose `mappingSelector` matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Deprecated: use `hostname`, which takes precedence. Hostname, or a regular expression with `host_regex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Deprecated: whether `host` is a regular expression (RE2). Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_regex: Option<bool>,
    /// Path prefix of requests; the whole path with `prefix_exact`, a regular expression with `prefix_regex`.
    pub prefix: String,
    /// Whether the whole path must equal `prefix`. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_exact: Option<bool>,
    /// Whether `prefix` is a regular expression (RE2) that must match the whole path. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_regex: Option<bool>,
    /// Whether path matching is case-sensitive. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
    /// HTTP method of requests, or a regular expression with `method_regex`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Whether `method` is a regular expression (RE2). Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_regex: Option<bool>,
    /// Headers that requests must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers that requests must have, with values that match these regular expressions (RE2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regex_headers: BTreeMap<String, String>,
    /// Query parameters that requests must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query_parameters: BTreeMap<String, String>,
    /// Query parameters that requests must have, with values that match these regular expressions (RE2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regex_query_parameters: BTreeMap<String, String>,
    /// Precedence over other Mappings, whatever else they match; the highest is tried first. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precedence: Option<i64>,
    /// Service that receives the requests: `[scheme://]host[:port]`. `https://` originates TLS. A host without a dot is a
    /// Service in the namespace of this object.
    pub service: String,
    /// Resolver of the addresses of the service: `kubernetes-service` (cluster IP), `endpoint` (endpoints), or the name of a
    /// resolver object. Default: `kubernetes-service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Percentage of the requests, among Mappings with the same match. Default: an equal share of the remaining percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// Replacement for the matched prefix; empty to keep the path. Default: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// Replacement for the parts of the path that match a regular expression; takes precedence over `rewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex_rewrite: Option<RegexMap>,
    /// Host header sent to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rewrite: Option<String>,
    /// Whether to send the DNS name of the service as the Host header. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_host_rewrite: Option<bool>,
    /// Whether to redirect clients to `service` instead of forwarding their requests. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_redirect: Option<bool>,
    /// Path of the redirect, with `host_redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_redirect: Option<String>,
    /// Replacement for the matched prefix, with `host_redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_redirect: Option<String>,
    /// Replacement for the parts of the path that match a regular expression, with `host_redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex_redirect: Option<RegexMap>,
    /// Status code of the redirect, with `host_redirect`: 301, 302, 303, 307 or 308. Default: 301.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_response_code: Option<RedirectCode>,
    /// Whether `service` receives copies of the requests of other Mappings with the same match; its responses are discarded.
    /// Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
    /// Headers to add to requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_request_headers: BTreeMap<String, AddedHeader>,
    /// Headers to add to responses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_response_headers: BTreeMap<String, AddedHeader>,
    /// Headers to remove from requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_request_headers: Vec<String>,
    /// Headers to remove from responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_response_headers: Vec<String>,
    /// Whether to add the routing header of Linkerd 1 (`l5d-dst-override`) to requests. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_linkerd_headers: Option<bool>,
    /// Timeout for the whole response in milliseconds; 0 for no timeout. Default: 3000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
    /// Idle timeout of a stream in milliseconds; 0 for no timeout. Default: 300000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<i64>,
    /// Timeout for connecting to the service in milliseconds. Default: 3000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<i64>,
    /// Idle timeout of connections to the service in milliseconds. Default: 3600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_idle_timeout_ms: Option<i64>,
    /// Maximum lifetime of connections to the service in milliseconds. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_max_connection_lifetime_ms: Option<i64>,
    /// Policy for retrying failed requests. Default: no retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Cross-origin resource sharing (CORS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Circuit breakers for the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// Load balancing between the addresses of the service. Requires a resolver that finds endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Active health checks of the addresses of the service. Requires a resolver that finds endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub health_checks: Vec<HealthCheck>,
    /// TCP keepalive of connections to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// TLSContext for TLS to the service; `true` for TLS without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Whether to use HTTP/2 to the service, which gRPC requires. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<bool>,
    /// DNS resolution type. `strict_dns`: use all addresses; `logical_dns`: use the first address for new connections.
    /// Default: `strict_dns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_type: Option<String>,
    /// Whether to refresh DNS answers when their TTL expires. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respect_dns_ttl: Option<bool>,
    /// Whether to resolve IPv4 addresses with DNS. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether to resolve IPv6 addresses with DNS. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Tag that keeps the Envoy cluster of this Mapping apart from those of others with equal settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_tag: Option<String>,
    /// Name of the Envoy cluster in statistics. Default: derived from `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
    /// Protocols that connections can be upgraded to, such as `websocket`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_upgrade: Vec<String>,
    /// Deprecated: use `allow_upgrade: [websocket]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_websocket: Option<bool>,
    /// Priority of the requests, which selects the circuit breakers: `default` or `high`. Default: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Whether requests bypass the AuthService. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_auth: Option<bool>,
    /// AuthService that authorizes the requests of this Mapping, instead of the default ones: `name`, or `name.namespace`.
    /// Default: all AuthServices with `default: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_service: Option<String>,
    /// Context that is sent to the AuthService with the requests of this Mapping.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auth_context_extensions: BTreeMap<String, String>,
    /// Labels that are sent to the RateLimitService with requests: label groups by domain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Vec<LabelGroup>>,
    /// Responses that replace error responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub error_response_overrides: Vec<ErrorResponseOverride>,
    /// Whether to ignore the error response overrides of the Module. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_error_response_overrides: Option<bool>,
    /// Outlier detection, as Envoy's message in JSON or YAML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<String>,
    /// Location of the service's documentation. No effect on traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<Docs>,
    /// No effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "untyped")]
    pub envoy_override: Option<Value>,
    /// No effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "untyped_list")]
    pub modules: Vec<Value>,
    /// TLS as version v2 writes it. For conversion only.
    #[serde(rename = "v2ExplicitTLS", skip_serializing_if = "Option::is_none")]
    pub v2_explicit_tls: Option<V2ExplicitTls>,
    /// Headers that version v2 writes as booleans. For conversion only.
    #[serde(
        rename = "v2BoolHeaders",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub v2_bool_headers: Vec<String>,
    /// Query parameters that version v2 writes as booleans. For conversion only.
    #[serde(
        rename = "v2BoolQueryParameters",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub v2_bool_query_parameters: Vec<String>,
}

/// Schema of a list of arbitrary objects, whose fields are kept.
fn untyped_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": untyped(generator)})
}

/// Status code of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum RedirectCode {
    /// 301
    MovedPermanently,
    /// 302
    Found,
    /// 303
    SeeOther,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

impl TryFrom<u16> for RedirectCode {
    type Error = String;

    fn try_from(code: u16) -> Result<Self, String> {
        match code {
            301 => Ok(Self::MovedPermanently),
            302 => Ok(Self::Found),
            303 => Ok(Self::SeeOther),
            307 => Ok(Self::TemporaryRedirect),
            308 => Ok(Self::PermanentRedirect),
            _ => Err(format!(
                "invalid redirect status code {code}: use 301, 302, 303, 307 or 308"
            )),
        }
    }
}

impl From<RedirectCode> for u16 {
    fn from(code: RedirectCode) -> Self {
        match code {
            RedirectCode::MovedPermanently => 301,
            RedirectCode::Found => 302,
            RedirectCode::SeeOther => 303,
            RedirectCode::TemporaryRedirect => 307,
            RedirectCode::PermanentRedirect => 308,
        }
    }
}

impl JsonSchema for RedirectCode {
    fn schema_name() -> Cow<'static, str> {
        "RedirectCode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "enum": [301, 302, 303, 307, 308]})
    }
}

/// Status of a Mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MappingStatus {
    /// State. `Running`: served; `Inactive`: not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<MappingState>,
    /// Description of the most severe problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// State of a Mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum MappingState {
    /// Unknown.
    #[serde(rename = "")]
    Unknown,
    /// Not served.
    Inactive,
    /// Served.
    Running,
}
