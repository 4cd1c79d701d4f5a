//! Labels of requests, by which a rate limit service counts them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One part of a request's description: exactly one of these is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct LabelSpecifier {
    /// The cluster that the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_cluster: Option<SourceCluster>,
    /// The cluster that the request goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_cluster: Option<DestinationCluster>,
    /// The address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<RemoteAddress>,
    /// The value of a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<RequestHeaders>,
    /// A fixed value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic_key: Option<GenericKey>,
}

/// The cluster that the request came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCluster {
    /// Always `source_cluster`.
    #[schemars(extend("enum" = ["source_cluster"]))]
    pub key: String,
}

/// The cluster that the request goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationCluster {
    /// Always `destination_cluster`.
    #[schemars(extend("enum" = ["destination_cluster"]))]
    pub key: String,
}

/// The address of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoteAddress {
    /// Always `remote_address`.
    #[schemars(extend("enum" = ["remote_address"]))]
    pub key: String,
}

/// The value of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestHeaders {
    /// Name of this part of the description.
    pub key: String,
    /// Name of the header.
    pub header_name: String,
    /// Whether a request without the header is described without this part, or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omit_if_not_present: Option<bool>,
}

/// A fixed value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenericKey {
    /// Name of this part of the description. Default: `generic_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value.
    pub value: String,
    /// How version v2 spelled it; kept for conversion only.
    #[serde(rename = "v2Shorthand", skip_serializing_if = "Option::is_none")]
    pub v2_shorthand: Option<bool>,
}

/// A name for a list of parts: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct LabelGroup(pub BTreeMap<String, Vec<LabelSpecifier>>);
