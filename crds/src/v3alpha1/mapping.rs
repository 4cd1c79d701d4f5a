//! A Mapping: which requests, and where they go.

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

/// Which requests go where.
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
    doc = "Which requests go where.",
    printcolumn = r#"{"name":"Hostname","type":"string","jsonPath":".spec.hostname"}"#,
    printcolumn = r#"{"name":"Source Host","type":"string","jsonPath":".spec.host","priority":1}"#,
    printcolumn = r#"{"name":"Source Prefix","type":"string","jsonPath":".spec.prefix"}"#,
    printcolumn = r#"{"name":"Dest Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#
)]
pub struct MappingSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Host name that requests are for, or a glob with `*` as its first or last character. Without it only Hosts whose `mappingSelector` fits take this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Deprecated: use `hostname`, which wins. A whole host name, or a regular expression with `host_regex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Deprecated. Whether `host` is a regular expression (RE2). Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_regex: Option<bool>,
    /// Beginning of the path of requests; the whole path with `prefix_exact`, a regular expression with `prefix_regex`.
    pub prefix: String,
    /// Whether the path has to be `prefix` and nothing more. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_exact: Option<bool>,
    /// Whether `prefix` is a regular expression (RE2) for the whole path. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_regex: Option<bool>,
    /// Whether letters of the path are compared with their case. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
    /// Method that requests have, or a regular expression with `method_regex`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Whether `method` is a regular expression (RE2). Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_regex: Option<bool>,
    /// Headers that requests have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers that requests have, with values that match these regular expressions (RE2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regex_headers: BTreeMap<String, String>,
    /// Query parameters that requests have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query_parameters: BTreeMap<String, String>,
    /// Query parameters that requests have, with values that match these regular expressions (RE2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regex_query_parameters: BTreeMap<String, String>,
    /// Comes before all else in the order in which routes are tried; higher first. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precedence: Option<i64>,
    /// Where requests go: `[scheme://]host[:port]`. `https://` originates TLS. A host without a dot is a Service in this namespace.
    pub service: String,
    /// How the addresses of the service are found: `kubernetes-service` by its cluster IP, `endpoint` by its endpoints, or the name of a resolver. Default: kubernetes-service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Percentage of the requests that Mappings with the same match share. Default: an equal share of what is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// What the matched prefix is replaced with; empty: nothing is replaced. Default: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// What parts of the path are replaced with; wins over `rewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex_rewrite: Option<RegexMap>,
    /// Host header that the service gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rewrite: Option<String>,
    /// Whether the service gets its own DNS name as the Host header. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_host_rewrite: Option<bool>,
    /// Whether requests are redirected to `service` instead of being forwarded to it. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_redirect: Option<bool>,
    /// With `host_redirect`: the path of the redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_redirect: Option<String>,
    /// With `host_redirect`: what the matched prefix is replaced with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_redirect: Option<String>,
    /// With `host_redirect`: what parts of the path are replaced with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex_redirect: Option<RegexMap>,
    /// With `host_redirect`: status code of the answer: 301, 302, 303, 307 or 308. Default: 301.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_response_code: Option<RedirectCode>,
    /// Whether `service` gets copies of the requests that other Mappings with the same match get, its answers being dropped. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
    /// Headers added to requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_request_headers: BTreeMap<String, AddedHeader>,
    /// Headers added to responses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_response_headers: BTreeMap<String, AddedHeader>,
    /// Headers removed from requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_request_headers: Vec<String>,
    /// Headers removed from responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_response_headers: Vec<String>,
    /// Whether requests get the header by which Linkerd 1 routes. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_linkerd_headers: Option<bool>,
    /// Milliseconds for the whole response; 0: no limit. Default: 3000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
    /// Milliseconds without traffic after which a stream is ended; 0: no limit. Default: 300000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<i64>,
    /// Milliseconds to establish a connection to the service. Default: 3000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<i64>,
    /// Milliseconds without requests after which a connection to the service is closed. Default: 3600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_idle_timeout_ms: Option<i64>,
    /// Milliseconds after which a connection to the service is closed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_max_connection_lifetime_ms: Option<i64>,
    /// When a request is tried again. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Cross-origin resource sharing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Limits of what the service is given at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// How one of several addresses of the service is chosen; needs a resolver of endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// How addresses of the service are asked whether they are healthy; needs a resolver of endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub health_checks: Vec<HealthCheck>,
    /// TCP keepalive of connections to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// TLSContext with which TLS to the service is originated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Whether the service speaks HTTP/2, as gRPC needs. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<bool>,
    /// `strict_dns`: all addresses that DNS knows; `logical_dns`: one at a time. Default: strict_dns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_type: Option<String>,
    /// Whether DNS is asked again when its answers expire. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respect_dns_ttl: Option<bool>,
    /// Whether DNS is asked for IPv4 addresses. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether DNS is asked for IPv6 addresses. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Keeps the cluster of this Mapping apart from others with equal settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_tag: Option<String>,
    /// Name of the cluster in statistics. Default: from the name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
    /// Protocols that a connection may be upgraded to, such as `websocket`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_upgrade: Vec<String>,
    /// Deprecated: use `allow_upgrade: [websocket]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_websocket: Option<bool>,
    /// `default` or `high`: which circuit breakers count its requests. Default: default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Whether requests are not shown to the AuthService. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_auth: Option<bool>,
    /// What the AuthService is told about requests of this Mapping.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auth_context_extensions: BTreeMap<String, String>,
    /// How requests are described to the RateLimitService: domain, then groups of labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Vec<LabelGroup>>,
    /// What is answered instead of errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub error_response_overrides: Vec<ErrorResponseOverride>,
    /// Whether errors are answered as they are, whatever the Module says. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_error_response_overrides: Option<bool>,
    /// When an address that fails is left out for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<String>,
    /// Where the documentation of the service is found; without effect on traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<Docs>,
    /// Without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "untyped")]
    pub envoy_override: Option<Value>,
    /// Without effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "untyped_list")]
    pub modules: Vec<Value>,
    /// How version v2 spelled TLS; kept for conversion only.
    #[serde(rename = "v2ExplicitTLS", skip_serializing_if = "Option::is_none")]
    pub v2_explicit_tls: Option<V2ExplicitTls>,
    /// Headers that version v2 spelled as booleans; kept for conversion only.
    #[serde(
        rename = "v2BoolHeaders",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub v2_bool_headers: Vec<String>,
    /// Query parameters that version v2 spelled as booleans; kept for conversion only.
    #[serde(
        rename = "v2BoolQueryParameters",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub v2_bool_query_parameters: Vec<String>,
}

/// Any objects; what is in them is kept.
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
                "{code} is no code of a redirect: 301, 302, 303, 307 and 308 are"
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

/// What has become of a Mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MappingStatus {
    /// `Running`: it is served; `Inactive`: nothing of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<MappingState>,
    /// Why it is not served, or not as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// State of a Mapping in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum MappingState {
    /// Not known.
    #[serde(rename = "")]
    Unknown,
    /// Nothing of it is served.
    Inactive,
    /// It is served.
    Running,
}
