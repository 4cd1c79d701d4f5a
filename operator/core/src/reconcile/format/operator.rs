//! The operators of Envoy 1.40, as `--mode validate` accepts them. A test compares the table with Envoy.
//!
//! Some are left out. `ENVIRONMENT`, `FILE_CONTENT` and `SECRET` would show authors of Mappings what only Envoy may read.
//! The cost of `CEL` and `TYPED_CEL` has no bound, and an invalid expression could only be found by Envoy, which would
//! reject a whole route table.

use nuncio_ir::EnvoyVersion;

use super::{argument::Argument, since::since};

/// What is left out, and why.
const LEFT_OUT: [(&str, &str); 5] = [
    ("CEL", "expressions are not supported"),
    ("ENVIRONMENT", "it reads the environment of Envoy"),
    ("FILE_CONTENT", "it reads files of Envoy"),
    ("SECRET", "it reads secrets of Envoy"),
    ("TYPED_CEL", "expressions are not supported"),
];

/// Sorted by name.
const OPERATORS: [(&str, Argument); 160] = {
    use Argument::{
        Coalesce, Duration, FilterState, Header, Ignored, Key, Metadata, None, Path, Query,
        ServerName, Status, Text, Time,
    };
    [
        ("ACCESS_LOG_TYPE", None),
        ("BYTES_RECEIVED", None),
        ("BYTES_RETRANSMITTED", None),
        ("BYTES_SENT", None),
        ("CLUSTER_METADATA", Key),
        ("COALESCE", Coalesce),
        ("COMMON_DURATION", Duration),
        ("CONNECTION_ID", None),
        ("CONNECTION_TERMINATION_DETAILS", None),
        ("CUSTOM_FLAGS", None),
        ("DOWNSTREAM_CX_RTT", None),
        ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", None),
        ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", None),
        ("DOWNSTREAM_DETECTED_CLOSE_TYPE", None),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", None),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", None),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", Ignored),
        ("DOWNSTREAM_DIRECT_LOCAL_PORT", None),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", None),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Ignored),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", None),
        ("DOWNSTREAM_HANDSHAKE_DURATION", None),
        ("DOWNSTREAM_HEADER_BYTES_RECEIVED", None),
        ("DOWNSTREAM_HEADER_BYTES_SENT", None),
        ("DOWNSTREAM_LOCAL_ADDRESS", None),
        ("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", None),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Ignored),
        ("DOWNSTREAM_LOCAL_CLOSE_REASON", None),
        ("DOWNSTREAM_LOCAL_DNS_SAN", None),
        ("DOWNSTREAM_LOCAL_EMAIL_SAN", None),
        ("DOWNSTREAM_LOCAL_IP_SAN", None),
        ("DOWNSTREAM_LOCAL_OTHERNAME_SAN", None),
        ("DOWNSTREAM_LOCAL_PORT", None),
        ("DOWNSTREAM_LOCAL_SUBJECT", None),
        ("DOWNSTREAM_LOCAL_URI_SAN", None),
        ("DOWNSTREAM_PEER_CERT", None),
        ("DOWNSTREAM_PEER_CERT_V_END", Time),
        ("DOWNSTREAM_PEER_CERT_V_START", Time),
        ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", None),
        ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", None),
        ("DOWNSTREAM_PEER_CHAIN_SERIALS", None),
        ("DOWNSTREAM_PEER_DNS_SAN", None),
        ("DOWNSTREAM_PEER_EMAIL_SAN", None),
        ("DOWNSTREAM_PEER_FINGERPRINT_1", None),
        ("DOWNSTREAM_PEER_FINGERPRINT_256", None),
        ("DOWNSTREAM_PEER_IP_SAN", None),
        ("DOWNSTREAM_PEER_ISSUER", None),
        ("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", None),
        ("DOWNSTREAM_PEER_ISSUER_SERIAL", None),
        ("DOWNSTREAM_PEER_OTHERNAME_SAN", None),
        ("DOWNSTREAM_PEER_SERIAL", None),
        ("DOWNSTREAM_PEER_SUBJECT", None),
        ("DOWNSTREAM_PEER_URI_SAN", None),
        ("DOWNSTREAM_REMOTE_ADDRESS", None),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Ignored),
        ("DOWNSTREAM_REMOTE_PORT", None),
        ("DOWNSTREAM_TLS_CIPHER", None),
        ("DOWNSTREAM_TLS_GROUP", None),
        ("DOWNSTREAM_TLS_SESSION_ID", None),
        ("DOWNSTREAM_TLS_VERSION", None),
        ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", None),
        ("DOWNSTREAM_WIRE_BYTES_RECEIVED", None),
        ("DOWNSTREAM_WIRE_BYTES_SENT", None),
        ("DURATION", None),
        ("DYNAMIC_METADATA", Text),
        ("EMIT_TIME", Time),
        ("EMIT_TIME_LOCAL", Time),
        ("FILTER_CHAIN_NAME", None),
        ("FILTER_STATE", FilterState),
        ("GRPC_STATUS", Status),
        ("GRPC_STATUS_NUMBER", None),
        ("HOSTNAME", None),
        ("LISTENER_NAME", None),
        ("LOCAL_REPLY_BODY", None),
        ("METADATA", Metadata),
        ("PACKETS_RETRANSMITTED", None),
        ("PATH", Path),
        ("PROTOCOL", None),
        ("QUERY_PARAM", Text),
        ("QUERY_PARAMS", Query),
        ("REQ", Header),
        ("REQUESTED_SERVER_NAME", ServerName),
        ("REQUEST_DURATION", None),
        ("REQUEST_HEADER", Header),
        ("REQUEST_HEADERS_BYTES", None),
        ("REQUEST_TX_DURATION", None),
        ("RESP", Header),
        ("RESPONSE_CODE", None),
        ("RESPONSE_CODE_DETAILS", Ignored),
        ("RESPONSE_DURATION", None),
        ("RESPONSE_FLAGS", None),
        ("RESPONSE_FLAGS_LONG", None),
        ("RESPONSE_HEADER", Header),
        ("RESPONSE_HEADERS_BYTES", None),
        ("RESPONSE_TRAILER", Header),
        ("RESPONSE_TRAILERS_BYTES", None),
        ("RESPONSE_TX_DURATION", None),
        ("ROUNDTRIP_DURATION", None),
        ("ROUTE_NAME", None),
        ("ROUTE_RESOLUTION_COUNT", None),
        ("ROUTE_RESOLUTION_TIME_US", None),
        ("SPAN_ID", None),
        ("START_TIME", Time),
        ("START_TIME_LOCAL", Time),
        ("STREAM_ID", None),
        ("STREAM_INFO_REQ", Header),
        ("TLS_JA3_FINGERPRINT", None),
        ("TLS_JA4_FINGERPRINT", None),
        ("TRACE_ID", None),
        ("TRAILER", Header),
        ("UNIQUE_ID", None),
        ("UPSTREAM_CLUSTER", None),
        ("UPSTREAM_CLUSTER_RAW", None),
        ("UPSTREAM_CONNECTION_ID", None),
        ("UPSTREAM_CONNECTION_IDS_ATTEMPTED", None),
        ("UPSTREAM_CONNECTION_POOL_READY_DURATION", None),
        ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", None),
        ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", None),
        ("UPSTREAM_DETECTED_CLOSE_TYPE", None),
        ("UPSTREAM_FILTER_STATE", FilterState),
        ("UPSTREAM_HEADER_BYTES_RECEIVED", None),
        ("UPSTREAM_HEADER_BYTES_SENT", None),
        ("UPSTREAM_HOST", None),
        ("UPSTREAM_HOSTS_ATTEMPTED", None),
        ("UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", None),
        ("UPSTREAM_HOST_NAME", None),
        ("UPSTREAM_HOST_NAMES_ATTEMPTED", None),
        ("UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", None),
        ("UPSTREAM_HOST_NAME_WITHOUT_PORT", None),
        ("UPSTREAM_LOCAL_ADDRESS", None),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Ignored),
        ("UPSTREAM_LOCAL_CLOSE_REASON", None),
        ("UPSTREAM_LOCAL_DNS_SAN", None),
        ("UPSTREAM_LOCAL_IP_SAN", None),
        ("UPSTREAM_LOCAL_PORT", None),
        ("UPSTREAM_LOCAL_URI_SAN", None),
        ("UPSTREAM_METADATA", Key),
        ("UPSTREAM_PEER_CERT", None),
        ("UPSTREAM_PEER_CERT_V_END", Time),
        ("UPSTREAM_PEER_CERT_V_START", Time),
        ("UPSTREAM_PEER_DNS_SAN", None),
        ("UPSTREAM_PEER_IP_SAN", None),
        ("UPSTREAM_PEER_ISSUER", None),
        ("UPSTREAM_PEER_SUBJECT", None),
        ("UPSTREAM_PEER_URI_SAN", None),
        ("UPSTREAM_PROTOCOL", None),
        ("UPSTREAM_REMOTE_ADDRESS", None),
        ("UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", None),
        ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Ignored),
        ("UPSTREAM_REMOTE_PORT", None),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", None),
        ("UPSTREAM_SERVER_NAME", None),
        ("UPSTREAM_TLS_CIPHER", None),
        ("UPSTREAM_TLS_GROUP", None),
        ("UPSTREAM_TLS_SESSION_ID", None),
        ("UPSTREAM_TLS_VERSION", None),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", None),
        ("UPSTREAM_WIRE_BYTES_RECEIVED", None),
        ("UPSTREAM_WIRE_BYTES_SENT", None),
        ("VIRTUAL_CLUSTER_NAME", None),
    ]
};

/// Checks the use of an operator: its name, its argument, which may be empty, and whether its text is shortened; for Envoys of
/// this version and later.
///
/// # Errors
/// What Envoy would reject, and what is left out.
pub(super) fn check(
    name: &str,
    argument: &str,
    has_length: bool,
    envoy: EnvoyVersion,
) -> Result<(), String> {
    let Ok(place) = OPERATORS.binary_search_by_key(&name, |(operator, _)| *operator) else {
        let reason = LEFT_OUT.iter().find(|(operator, _)| *operator == name);
        return Err(match reason {
            Some((_, reason)) => format!("unsupported operator %{name}%: {reason}"),
            None => format!("unsupported operator %{name}%"),
        });
    };
    let expected = OPERATORS[place].1;
    if has_length && !expected.allows_length() {
        return Err(format!("operator %{name}% does not support a length"));
    }
    expected
        .check(argument, envoy)
        .map_err(|fact| format!("invalid argument of operator %{name}%: {fact}"))?;
    let first = since(name, argument);
    if first > envoy {
        let fact = match since(name, "") > envoy {
            true => format!("operator %{name}%"),
            false => format!("this argument of operator %{name}%"),
        };
        return Err(format!(
            "{fact} needs Envoy {first}, and an older one is connected"
        ));
    }
    Ok(())
}
