//! Texts with Envoy's `%…%` operators ("Format strings" in Envoy's documentation). They are checked, since one that
//! Envoy does not support would have it reject a whole route table.

/// The argument of an operator, in brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument {
    /// No argument.
    None,
    /// The format of a time, or no argument.
    Optional,
    /// A header name, or two with a question mark between them.
    Header,
    /// Any text that is not empty.
    Required,
}

const OPERATORS: [(&str, Argument); 88] = {
    use Argument::{Header, None, Optional, Required};
    [
        ("ACCESS_LOG_TYPE", None),
        ("BYTES_RECEIVED", None),
        ("BYTES_SENT", None),
        ("CLUSTER_METADATA", Required),
        ("CONNECTION_ID", None),
        ("CONNECTION_TERMINATION_DETAILS", None),
        ("DOWNSTREAM_DETECTED_CLOSE_TYPE", None),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", None),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", None),
        ("DOWNSTREAM_DIRECT_LOCAL_PORT", None),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", None),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", None),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", None),
        ("DOWNSTREAM_HEADER_BYTES_RECEIVED", None),
        ("DOWNSTREAM_HEADER_BYTES_SENT", None),
        ("DOWNSTREAM_LOCAL_ADDRESS", None),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", None),
        ("DOWNSTREAM_LOCAL_DNS_SAN", None),
        ("DOWNSTREAM_LOCAL_EMAIL_SAN", None),
        ("DOWNSTREAM_LOCAL_IP_SAN", None),
        ("DOWNSTREAM_LOCAL_OTHERNAME_SAN", None),
        ("DOWNSTREAM_LOCAL_PORT", None),
        ("DOWNSTREAM_LOCAL_SUBJECT", None),
        ("DOWNSTREAM_LOCAL_URI_SAN", None),
        ("DOWNSTREAM_PEER_CERT", None),
        ("DOWNSTREAM_PEER_CERT_V_END", Optional),
        ("DOWNSTREAM_PEER_CERT_V_START", Optional),
        ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", None),
        ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", None),
        ("DOWNSTREAM_PEER_CHAIN_SERIALS", None),
        ("DOWNSTREAM_PEER_DNS_SAN", None),
        ("DOWNSTREAM_PEER_EMAIL_SAN", None),
        ("DOWNSTREAM_PEER_FINGERPRINT_1", None),
        ("DOWNSTREAM_PEER_FINGERPRINT_256", None),
        ("DOWNSTREAM_PEER_IP_SAN", None),
        ("DOWNSTREAM_PEER_ISSUER", None),
        ("DOWNSTREAM_PEER_OTHERNAME_SAN", None),
        ("DOWNSTREAM_PEER_SERIAL", None),
        ("DOWNSTREAM_PEER_SUBJECT", None),
        ("DOWNSTREAM_PEER_URI_SAN", None),
        ("DOWNSTREAM_REMOTE_ADDRESS", None),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", None),
        ("DOWNSTREAM_REMOTE_PORT", None),
        ("DOWNSTREAM_TLS_CIPHER", None),
        ("DOWNSTREAM_TLS_SESSION_ID", None),
        ("DOWNSTREAM_TLS_VERSION", None),
        ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", None),
        ("DOWNSTREAM_WIRE_BYTES_RECEIVED", None),
        ("DOWNSTREAM_WIRE_BYTES_SENT", None),
        ("DURATION", None),
        ("DYNAMIC_METADATA", Required),
        ("FILTER_CHAIN_NAME", None),
        ("GRPC_STATUS_NUMBER", None),
        ("HOSTNAME", None),
        ("LOCAL_REPLY_BODY", None),
        ("PROTOCOL", None),
        ("REQ", Header),
        ("REQUESTED_SERVER_NAME", None),
        ("REQUEST_DURATION", None),
        ("REQUEST_TX_DURATION", None),
        ("RESP", Header),
        ("RESPONSE_CODE", None),
        ("RESPONSE_CODE_DETAILS", None),
        ("RESPONSE_DURATION", None),
        ("RESPONSE_FLAGS", None),
        ("RESPONSE_FLAGS_LONG", None),
        ("RESPONSE_TX_DURATION", None),
        ("ROUNDTRIP_DURATION", None),
        ("ROUTE_NAME", None),
        ("START_TIME", Optional),
        ("STREAM_ID", None),
        ("TRACE_ID", None),
        ("TRAILER", Header),
        ("UPSTREAM_CLUSTER", None),
        ("UPSTREAM_CLUSTER_RAW", None),
        ("UPSTREAM_CONNECTION_ID", None),
        ("UPSTREAM_HOST", None),
        ("UPSTREAM_HOST_NAME", None),
        ("UPSTREAM_LOCAL_ADDRESS", None),
        ("UPSTREAM_METADATA", Required),
        ("UPSTREAM_PEER_SUBJECT", None),
        ("UPSTREAM_PROTOCOL", None),
        ("UPSTREAM_REMOTE_ADDRESS", None),
        ("UPSTREAM_REMOTE_PORT", None),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", None),
        ("UPSTREAM_TLS_VERSION", None),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", None),
        ("VIRTUAL_CLUSTER_NAME", None),
    ]
};

/// Checks the operators of a text.
///
/// # Errors
/// What Envoy would reject.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let operator = &rest[start + 1..];
        if let Some(after) = operator.strip_prefix('%') {
            rest = after;
            continue;
        }
        rest = after_operator(operator)?;
    }
    Ok(())
}

/// The text after an operator, given the text after its first percent sign.
fn after_operator(text: &str) -> Result<&str, String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let end = text.bytes().position(|byte| !is_name(byte));
    let (name, mut rest) = text.split_at(end.unwrap_or(text.len()));
    if name.is_empty() {
        return Err("% does not start an operator; use %% for a percent sign".to_owned());
    }
    let unterminated =
        || format!("operator %{name} must end with a percent sign; use %% for a percent sign");
    let argument = match rest.strip_prefix('(') {
        None => None,
        Some(inside) => {
            let end = inside.find(')').ok_or_else(unterminated)?;
            rest = &inside[end + 1..];
            Some(&inside[..end])
        }
    };
    let mut has_length = false;
    if let Some(digits) = rest.strip_prefix(':') {
        has_length = true;
        let end = digits.bytes().position(|byte| !byte.is_ascii_digit());
        let (length, after) = digits.split_at(end.unwrap_or(digits.len()));
        if length.is_empty() || length.len() > 6 {
            return Err(unterminated());
        }
        rest = after;
    }
    let rest = rest.strip_prefix('%').ok_or_else(unterminated)?;
    let Some((_, expected)) = OPERATORS.iter().find(|(operator, _)| *operator == name) else {
        return Err(format!("unsupported operator %{name}%"));
    };
    if has_length && *expected != Argument::Header && name != "DYNAMIC_METADATA" {
        return Err(format!("operator %{name}% does not support a length"));
    }
    let fits = match (expected, argument) {
        (Argument::None, argument) => argument.is_none(),
        (Argument::Optional, None) => true,
        (Argument::Optional, Some(format)) => !has_line_end(format),
        (Argument::Header, Some(names)) => is_header_choice(names),
        (Argument::Required, Some(argument)) => {
            !argument.is_empty() && argument.split(':').all(|part| !part.is_empty())
        }
        (Argument::Header | Argument::Required, None) => false,
    };
    if fits {
        Ok(rest)
    } else {
        Err(format!("invalid argument of operator %{name}%"))
    }
}

/// Whether the format of a time has a conversion to a line end, `%n`, in any of its forms: headers must not have one.
fn has_line_end(format: &str) -> bool {
    let conversions = format.split('%').skip(1);
    let is_form = |character: char| "-_0^#123456789EO".contains(character);
    conversions
        .map(|conversion| conversion.trim_start_matches(is_form))
        .any(|conversion| conversion.starts_with('n'))
}

fn is_header_choice(names: &str) -> bool {
    let names: Vec<&str> = names.split('?').collect();
    names.len() <= 2
        && names
            .iter()
            .all(|name| super::is_header_name(name.strip_prefix(':').unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn operators_of_envoy_are_valid() {
        for text in [
            "",
            "plain",
            "100%%",
            "%PROTOCOL%",
            "a %REQ(x-a)% b",
            "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
            "%REQ(x-a):5%",
            "%START_TIME%",
            "%START_TIME()%",
            "%START_TIME(%Y-%m-%dT%H:%M:%E3S%z)%",
            "%DYNAMIC_METADATA(a:b)%",
            "%DYNAMIC_METADATA(a:b):5%",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_envoy_does_not_support_is_invalid() {
        for text in [
            "100%",
            "%",
            "% PROTOCOL%",
            "%NOTHING%",
            "%protocol%",
            "%PROTOCOL",
            "%REQ%",
            "%REQ()%",
            "%REQ(a?b?c)%",
            "%REQ(a b)%",
            "%REQ(a",
            "%PROTOCOL(x)%",
            "%PROTOCOL:5%",
            "%START_TIME(%Y):5%",
            "%START_TIME(%n)%",
            "%START_TIME(%Y%-0En)%",
            "%UPSTREAM_METADATA(a:b):5%",
            "%REQ(a):%",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
