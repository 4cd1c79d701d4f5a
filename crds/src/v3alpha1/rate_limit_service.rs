//! RateLimitService: an external service that limits the rate of requests.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProtocolVersion;
use crate::field::{V2ExplicitTls, conditions};

/// External service that limits the rate of requests.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "RateLimitService",
    plural = "ratelimitservices",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "RateLimitServiceStatus",
    derive = "PartialEq",
    doc = "External service that limits the rate of requests.",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"Domain","type":"string","jsonPath":".spec.domain"}"#
)]
pub struct RateLimitServiceSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// gRPC service that is called: `[http[s]://]host[:port]`. Names without a dot are Services in the gateway's namespace.
    pub service: String,
    /// Domain of the labels of Mappings that are sent. Default: that of the Module, or else `ambassador`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Timeout of a call in milliseconds. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
    /// TLSContext for connections to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Version of the gRPC protocol; must be `v3`. Default: `v2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<ProtocolVersion>,
    /// Whether requests are rejected if the service cannot be reached. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_mode_deny: Option<bool>,
    /// Responses to gRPC clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<RateLimitGrpc>,
    /// Name in statistics. Default: derived from `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
    /// No effect: keeps the original value of `tls` in version v2.
    #[serde(rename = "v2ExplicitTLS", skip_serializing_if = "Option::is_none")]
    pub v2_explicit_tls: Option<V2ExplicitTls>,
}

/// Responses to gRPC clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RateLimitGrpc {
    /// Whether limited gRPC requests get the status `RESOURCE_EXHAUSTED` instead of `UNAVAILABLE`. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_resource_exhausted_code: Option<bool>,
}

/// Status of a RateLimitService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateLimitServiceStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
