//! Headers that are added to requests and responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A header that is added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddedHeader {
    /// Value; may hold Envoy's `%…%` operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether it is added beside values that are there already, or replaces them. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<bool>,
    /// How version v2 spelled it; kept for conversion only.
    #[serde(rename = "v2Representation", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "string", "null"]))]
    pub v2_representation: Option<String>,
}
