//! Version of a gRPC protocol of Envoy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::undescribed;

/// Version of a gRPC protocol of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = undescribed)]
pub enum ProtocolVersion {
    /// Not supported: Envoy has removed it.
    V2,
    /// The current one.
    V3,
}
