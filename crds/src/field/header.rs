//! Headers to add to requests and responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Value of a header to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddedHeader {
    /// Value; can contain Envoy's `%…%` operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether to append to existing values instead of replacing them. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<bool>,
    /// The header as version v2 writes it. For conversion only.
    #[serde(rename = "v2Representation", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "string", "null"]))]
    pub v2_representation: Option<String>,
}
