//! Active health checks of upstreams.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AddedHeader;

/// Active health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// Timeout of a check, such as `3s`. Default: 3s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Interval between checks, such as `5s`. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Number of consecutive failed checks after which an address is unhealthy. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<i64>,
    /// Number of consecutive passed checks after which an address is healthy again. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<i64>,
    /// Request to send; exactly one field must be set.
    pub health_check: HealthChecker,
}

/// Request to send; exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct HealthChecker {
    /// HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHealthCheck>,
    /// Request to the gRPC health service. Requires `grpc: true` on the Mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcHealthCheck>,
}

/// HTTP health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHealthCheck {
    /// Path of the request.
    pub path: String,
    /// Host header of the request. Default: name of the Envoy cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Headers to add to the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_request_headers: BTreeMap<String, AddedHeader>,
    /// Headers to remove from the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_request_headers: Vec<String>,
    /// Expected status codes. Default: 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<StatusRange>,
}

/// Range of status codes, from `min` to `max` inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRange {
    /// Lowest status code.
    #[schemars(range(min = 100, max = 599))]
    pub min: i64,
    /// Highest status code.
    #[schemars(range(min = 100, max = 599))]
    pub max: i64,
}

/// gRPC health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcHealthCheck {
    /// Name of the gRPC service to check.
    pub upstream_name: String,
    /// Value of `:authority`. Default: name of the Envoy cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}
