//! Module: settings of the whole gateway.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::field::{conditions, untyped};

/// Settings of the whole gateway. The one named `ambassador` is used.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "Module",
    plural = "modules",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "ModuleStatus",
    derive = "PartialEq",
    doc = "Settings of the whole gateway. The one named `ambassador` is used."
)]
pub struct ModuleSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Settings by key.
    #[schemars(schema_with = "untyped")]
    pub config: Value,
}

/// Status of a Module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
