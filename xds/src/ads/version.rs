//! The version of Envoy that a `Node` says.

use nuncio_ir::EnvoyVersion;

use crate::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};

/// That of a client, if it says so.
pub(super) fn of(node: &Node) -> Option<EnvoyVersion> {
    let Some(UserAgentVersionType::UserAgentBuildVersion(build)) = &node.user_agent_version_type
    else {
        return None;
    };
    let version = build.version.as_ref()?;
    Some(EnvoyVersion {
        major: version.major_number,
        minor: version.minor_number,
    })
}
