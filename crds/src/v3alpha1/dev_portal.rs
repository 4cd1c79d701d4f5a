//! DevPortal: has no effect; accepted so that manifests of Emissary apply.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{conditions, undescribed};

/// No effect. Emissary ignores this kind, too.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "DevPortal",
    plural = "devportals",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "DevPortalStatus",
    derive = "PartialEq",
    doc = "No effect. Emissary ignores this kind, too."
)]
pub struct DevPortalSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<DevPortalContent>,
    /// No effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub docs: Vec<DevPortalDocs>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<DevPortalSelector>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub naming_scheme: Option<DevPortalNaming>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<DevPortalSearch>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve_servers: Option<bool>,
}

/// No effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DevPortalContent {
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
}

/// No effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DevPortalDocs {
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i64>,
}

/// No effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct DevPortalSelector {
    /// No effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_namespaces: Vec<String>,
    /// No effect.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// No effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum DevPortalNaming {
    /// No effect.
    #[serde(rename = "namespace.name")]
    NamespaceName,
    /// No effect.
    #[serde(rename = "name.prefix")]
    NamePrefix,
}

/// No effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DevPortalSearch {
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// No effect.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DevPortalSearchType>,
}

/// No effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = undescribed)]
pub enum DevPortalSearchType {
    /// No effect.
    TitleOnly,
    /// No effect.
    AllContent,
}

/// Status of a DevPortal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DevPortalStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
