//! Active health checks of upstreams.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AddedHeader;

/// How upstreams are asked whether they are healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// Time to wait for an answer, such as `3s`. Default: 3s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Time between checks, such as `5s`. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How many checks have to fail until an upstream is taken for unhealthy. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<i64>,
    /// How many checks have to pass until an upstream is taken for healthy again. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<i64>,
    /// What is asked.
    pub health_check: HealthChecker,
}

/// What is asked: one of these is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct HealthChecker {
    /// An HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHealthCheck>,
    /// The gRPC health service; needs `grpc: true` on the Mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcHealthCheck>,
}

/// A check by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHealthCheck {
    /// Path that is asked for.
    pub path: String,
    /// Host header. Default: the name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Headers added to the check.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_request_headers: BTreeMap<String, AddedHeader>,
    /// Headers removed from the check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_request_headers: Vec<String>,
    /// Status codes that pass. Default: 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<StatusRange>,
}

/// Status codes from `min` to `max`, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRange {
    /// First code.
    #[schemars(range(min = 100, max = 599))]
    pub min: i64,
    /// Last code.
    #[schemars(range(min = 100, max = 599))]
    pub max: i64,
}

/// A check by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcHealthCheck {
    /// Name of the service that is asked about.
    pub upstream_name: String,
    /// Value of `:authority`. Default: the name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}
