//! AuthService: an external service that authorizes requests.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProtocolVersion;
use crate::field::{CircuitBreaker, V2ExplicitTls, conditions, undescribed};

/// External service that authorizes requests.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "AuthService",
    plural = "authservices",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "AuthServiceStatus",
    derive = "PartialEq",
    doc = "External service that authorizes requests.",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.auth_service"}"#,
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.proto"}"#
)]
pub struct AuthServiceSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Service that is called: `[http[s]://]host[:port]`. Names without a dot are Services in the gateway's namespace.
    pub auth_service: String,
    /// Whether this service authorizes the requests of every Mapping that names no AuthService. If false, it authorizes only
    /// the requests of Mappings that name it in `auth_service`. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Protocol of the service: a request of its own for each request (`http`), or Envoy's gRPC authorization service (`grpc`).
    /// Default: `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<AuthProtocol>,
    /// Version of the gRPC protocol. `grpc` requires `v3`; `http` ignores it. Default: `v2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<ProtocolVersion>,
    /// Prefix added to the path of requests to the service. `http` only. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// TLSContext for connections to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Timeout of a call in milliseconds. Default: 5000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
    /// Additional request headers that the service gets. `http` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_request_headers: Vec<String>,
    /// Additional headers of the service's response that are passed on, to the upstream if it allows the request, or else to the
    /// client. `http` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_authorization_headers: Vec<String>,
    /// Headers added to requests to the service. `http` only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_auth_headers: BTreeMap<String, String>,
    /// Whether the service gets the request body, up to 4096 bytes; `include_body` replaces it. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_request_body: Option<bool>,
    /// Request body that the service gets. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_body: Option<IncludeBody>,
    /// Whether requests to the service have the `l5d-dst-override` header, which Linkerd routes by. `http` only. Default: that
    /// of the Module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_linkerd_headers: Option<bool>,
    /// Whether requests are allowed if the service cannot be reached or responds with a 5xx status. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_mode_allow: Option<bool>,
    /// Status of the response if the service cannot be reached. Default: 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_on_error: Option<StatusOnError>,
    /// Name in statistics. Default: derived from `auth_service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
    /// Limits on connections and requests to the service. Default: those of the Module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// No effect: keeps the original value of `tls` in version v2.
    #[serde(rename = "v2ExplicitTLS", skip_serializing_if = "Option::is_none")]
    pub v2_explicit_tls: Option<V2ExplicitTls>,
}

/// Protocol of an AuthService.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = undescribed)]
pub enum AuthProtocol {
    /// A request of its own.
    #[default]
    Http,
    /// Envoy's gRPC authorization service.
    Grpc,
}

/// Request body that an AuthService gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct IncludeBody {
    /// Maximum size in bytes.
    pub max_bytes: i64,
    /// Whether the service gets the beginning of a larger body; otherwise the response is 413.
    pub allow_partial: bool,
}

/// Status of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StatusOnError {
    /// HTTP status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
}

/// Status of an AuthService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuthServiceStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
