//! LogService: an external service that gets access logs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProtocolVersion;
use crate::field::{conditions, undescribed};

/// External service that gets access logs.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "LogService",
    plural = "logservices",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "LogServiceStatus",
    derive = "PartialEq",
    doc = "External service that gets access logs.",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"Driver","type":"string","jsonPath":".spec.driver"}"#
)]
pub struct LogServiceSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// gRPC service that gets the logs: `[http[s]://]host[:port]`. Names without a dot are Services in the gateway's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Content of the log: HTTP requests (`http`), or connections (`tcp`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<LogDriver>,
    /// Settings of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<LogDriverConfig>,
    /// Interval in seconds at which the log is sent. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_interval_time: Option<i64>,
    /// Size in bytes at which the log is sent. Default: 16384.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_interval_byte_size: Option<i64>,
    /// No effect: connections to the service always use HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<bool>,
    /// Version of the gRPC protocol; must be `v3`. Default: `v2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<ProtocolVersion>,
    /// Name in statistics. Default: derived from `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = undescribed)]
pub enum LogDriver {
    /// Connections.
    Tcp,
    /// HTTP requests.
    Http,
}

/// Settings of a LogService's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LogDriverConfig {
    /// Additional headers that are logged. `http` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_log_headers: Vec<AdditionalLogHeader>,
}

/// An additional header that is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct AdditionalLogHeader {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// Whether that of requests is logged. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during_request: Option<bool>,
    /// Whether that of responses is logged. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during_response: Option<bool>,
    /// Whether that of response trailers is logged. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during_trailer: Option<bool>,
}

/// Status of a LogService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogServiceStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
