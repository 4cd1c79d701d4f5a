//! Versions of Envoy, as a `Node` says them and as users write them.
//!
//! What Nuncio renders is for Envoy 1.40. Older versions (1.36.4, 1.37.0 and 1.38.3 were tried with every golden input) accept
//! all of it, except for these operators in headers, logs and error bodies, and one cipher suite. Each version lacks what the
//! later ones do, too:
//!
//! - 1.39: `DOWNSTREAM_CX_RTT`, `LISTENER_NAME`, `ROUTE_RESOLUTION_COUNT`, `ROUTE_RESOLUTION_TIME_US`
//! - 1.38: `DOWNSTREAM_TLS_GROUP`, `UPSTREAM_SERVER_NAME`, `UPSTREAM_TLS_GROUP`
//! - 1.37: `DOWNSTREAM_DETECTED_CLOSE_TYPE`, `DOWNSTREAM_LOCAL_CLOSE_REASON`, `DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256`,
//!   `DOWNSTREAM_PEER_ISSUER_SERIAL`, `QUERY_PARAMS`, `SPAN_ID`, `UPSTREAM_CONNECTION_IDS_ATTEMPTED`,
//!   `UPSTREAM_DETECTED_CLOSE_TYPE`, `UPSTREAM_LOCAL_CLOSE_REASON`, `UPSTREAM_HOSTS_ATTEMPTED` and
//!   `UPSTREAM_HOST_NAMES_ATTEMPTED`, also with `_WITHOUT_PORT`; arguments of `…_ADDRESS_WITHOUT_PORT`; the cipher suite
//!   `ECDHE-ECDSA-AES128-SHA256`
//! - 1.36: `COALESCE`, `…_ENDPOINT_ID` of local addresses and of the upstream's, `METADATA(LISTENER_FILTER_CHAIN:…)`,
//!   `REQUEST_HEADER`, `RESPONSE_HEADER`, `RESPONSE_TRAILER`, arguments of `REQUESTED_SERVER_NAME`
//!
//! While Envoys of such a version are connected, what uses one of these is in quarantine ([`crate::quarantine`]).

use std::{fmt, str::FromStr};

use crate::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};

/// A minor version of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
}

impl EnvoyVersion {
    /// The oldest version of which it is known what it lacks.
    pub const OLDEST: Self = Self {
        major: 1,
        minor: 36,
    };

    /// That of a client, if it says so.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let Some(UserAgentVersionType::UserAgentBuildVersion(build)) =
            &node.user_agent_version_type
        else {
            return None;
        };
        let version = build.version.as_ref()?;
        Some(Self {
            major: version.major_number,
            minor: version.minor_number,
        })
    }
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a minor version, such as 1.38")]
pub struct InvalidVersion;

impl FromStr for EnvoyVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let number = |text: &str| text.parse().ok();
        let (major, minor) = text.split_once('.').ok_or(InvalidVersion)?;
        let parsed = number(major).zip(number(minor));
        let (major, minor) = parsed.ok_or(InvalidVersion)?;
        Ok(Self { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text: &str| text.parse::<EnvoyVersion>().unwrap();
        assert!(version("1.9") < EnvoyVersion::OLDEST);
        assert!(version("1.36") < version("1.40"));
        assert_eq!(version("1.40").to_string(), "1.40");
        for text in ["", "1", "1.x", "1.36.4", "v1.36"] {
            assert_eq!(text.parse::<EnvoyVersion>(), Err(InvalidVersion), "{text}");
        }
    }
}
