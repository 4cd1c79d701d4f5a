//! What edge services have in common: services that the whole gateway calls.

use nuncio_crds::v3alpha1::ProtocolVersion;

use super::{
    ClusterSettings, Upstream, not_served,
    upstream::{self, UpstreamFields},
};
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    settings::Settings,
};

/// That the certificate of a service is not verified, without advice.
const NOT_VERIFIED: &str = "the certificate of the service is not verified";

/// The upstream of a service that gets no requests of clients: circuit breakers of the Module are not for it.
///
/// # Errors
/// The problem with the service.
pub(super) fn upstream(
    fields: UpstreamFields<'_>,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Upstream, Problem> {
    let fields = UpstreamFields {
        is_edge: true,
        ..fields
    };
    let first = problems.len();
    let mut upstream = upstream::upstream(&fields, object, settings, problems)?;
    if matches!(object.kind, Kind::LogService | Kind::TracingService) {
        // they have no field for a TLSContext
        for problem in &mut problems[first..] {
            if problem.reason == Reason::UNVERIFIED_UPSTREAM {
                NOT_VERIFIED.clone_into(&mut problem.message);
            }
        }
    }
    upstream.settings = ClusterSettings {
        circuit_breakers: Some(Vec::new()),
        ..(*upstream.settings).clone()
    }
    .into();
    Ok(upstream)
}

/// Envoy has version 3 of its protocols only. A service that does not name it may speak version 2, the default.
///
/// # Errors
/// It does not name version 3.
pub(super) fn check_version(version: Option<ProtocolVersion>, kind: Kind) -> Result<(), Problem> {
    let fact = match version {
        Some(ProtocolVersion::V3) => return Ok(()),
        Some(ProtocolVersion::V2) => "v2 is not supported; must be v3",
        None => "must be v3; the default of v2 is not supported",
    };
    Err(not_served(kind, "spec.protocol_version", fact))
}

/// The name of a header of a message, or of one of HTTP/2's such as `:path`, in lower case.
pub(super) fn header_name(text: &str) -> Option<String> {
    let name = text.strip_prefix(':').unwrap_or(text);
    super::is_header_name(name).then(|| text.to_ascii_lowercase())
}
