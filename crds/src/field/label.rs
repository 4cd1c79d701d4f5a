//! Labels of requests for rate limiting.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Label of a request; exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct LabelSpecifier {
    /// Envoy cluster that the request comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_cluster: Option<SourceCluster>,
    /// Envoy cluster that the request goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_cluster: Option<DestinationCluster>,
    /// IP address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<RemoteAddress>,
    /// Value of a request header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<RequestHeaders>,
    /// Fixed value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic_key: Option<GenericKey>,
}

/// Envoy cluster that the request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCluster {
    /// Key of the label; must be `source_cluster`.
    #[schemars(extend("enum" = ["source_cluster"]))]
    pub key: String,
}

/// Envoy cluster that the request goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationCluster {
    /// Key of the label; must be `destination_cluster`.
    #[schemars(extend("enum" = ["destination_cluster"]))]
    pub key: String,
}

/// IP address of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoteAddress {
    /// Key of the label; must be `remote_address`.
    #[schemars(extend("enum" = ["remote_address"]))]
    pub key: String,
}

/// Value of a request header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestHeaders {
    /// Key of the label.
    pub key: String,
    /// Name of the header.
    pub header_name: String,
    /// Whether to omit only this label when the request does not have the header; otherwise the whole group is omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omit_if_not_present: Option<bool>,
}

/// Fixed value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenericKey {
    /// Key of the label. Default: `generic_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Value of the label.
    pub value: String,
    /// The label as version v2 writes it. For conversion only.
    #[serde(rename = "v2Shorthand", skip_serializing_if = "Option::is_none")]
    pub v2_shorthand: Option<bool>,
}

/// Labels by the name of their group; must have exactly one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct LabelGroup(pub BTreeMap<String, Vec<LabelSpecifier>>);
