//! The version of Envoy in which an operator first exists.
//!
//! Nuncio renders for Envoy 1.40. Older versions (1.36.4, 1.37.0 and 1.38.3 were tried with every golden input) accept all
//! of it, except for these operators and one cipher suite (`tls_settings::cipher`).

use nuncio_ir::EnvoyVersion;

/// Operators by the minor version that introduced them.
const NEW: [(u32, &[&str]); 4] = [
    (
        40,
        &[
            "DOWNSTREAM_CX_RTT",
            "LISTENER_NAME",
            "ROUTE_RESOLUTION_COUNT",
            "ROUTE_RESOLUTION_TIME_US",
        ],
    ),
    (
        39,
        &[
            "DOWNSTREAM_TLS_GROUP",
            "UPSTREAM_SERVER_NAME",
            "UPSTREAM_TLS_GROUP",
        ],
    ),
    (
        38,
        &[
            "DOWNSTREAM_DETECTED_CLOSE_TYPE",
            "DOWNSTREAM_LOCAL_CLOSE_REASON",
            "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
            "DOWNSTREAM_PEER_ISSUER_SERIAL",
            "QUERY_PARAMS",
            "SPAN_ID",
            "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
            "UPSTREAM_DETECTED_CLOSE_TYPE",
            "UPSTREAM_HOSTS_ATTEMPTED",
            "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
            "UPSTREAM_HOST_NAMES_ATTEMPTED",
            "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
            "UPSTREAM_LOCAL_CLOSE_REASON",
        ],
    ),
    (
        37,
        &[
            "COALESCE",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
            "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
            "REQUEST_HEADER",
            "RESPONSE_HEADER",
            "RESPONSE_TRAILER",
            "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
        ],
    ),
];

/// The first version that has an operator with this argument, which may be empty. The oldest known one for those that all
/// have.
pub(super) fn since(name: &str, argument: &str) -> EnvoyVersion {
    let new = NEW.iter().find(|(_, names)| names.contains(&name));
    if let Some((minor, _)) = new {
        return EnvoyVersion::minor(*minor);
    }
    let has_argument = !argument.is_empty();
    match name {
        _ if has_argument && name.ends_with("_ADDRESS_WITHOUT_PORT") => EnvoyVersion::minor(38),
        "REQUESTED_SERVER_NAME" if has_argument => EnvoyVersion::minor(37),
        "METADATA" if argument.starts_with("LISTENER_FILTER_CHAIN") => EnvoyVersion::minor(37),
        _ => EnvoyVersion::OLDEST,
    }
}
