//! Texts with Envoy's `%…%` operators ("Format strings" in Envoy's documentation). They are checked, since one that
//! Envoy does not support would have it reject a whole route table.

mod argument;
mod operator;
mod since;

use nuncio_ir::EnvoyVersion;

/// Checks the operators of a text for Envoys of this version and later.
///
/// # Errors
/// What one of them would reject.
pub(super) fn check(text: &str, envoy: EnvoyVersion) -> Result<(), String> {
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let operator = &rest[start + 1..];
        if let Some(after) = operator.strip_prefix('%') {
            rest = after;
            continue;
        }
        rest = after_operator(operator, envoy)?;
    }
    Ok(())
}

/// The text after an operator, given the text after its first percent sign.
fn after_operator(text: &str, envoy: EnvoyVersion) -> Result<&str, String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let end = text.bytes().position(|byte| !is_name(byte));
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    if name.is_empty() {
        return Err("% does not start an operator; use %% for a percent sign".to_owned());
    }
    let Some(Call {
        argument,
        has_length,
        rest,
    }) = call(rest)
    else {
        return Err(format!(
            "operator %{name} must end with a percent sign; use %% for a percent sign"
        ));
    };
    operator::check(name, argument, has_length, envoy)?;
    Ok(rest)
}

/// What follows the name of an operator.
struct Call<'a> {
    argument: &'a str,
    has_length: bool,
    rest: &'a str,
}

/// An argument ends with the first bracket that can end the operator: `%START_TIME((%Y))%` is one.
fn call(text: &str) -> Option<Call<'_>> {
    let Some(inside) = text.strip_prefix('(') else {
        let (has_length, rest) = end(text)?;
        return Some(Call {
            argument: "",
            has_length,
            rest,
        });
    };
    let line = inside.split('\n').next().unwrap_or_default();
    line.match_indices(')').find_map(|(place, _)| {
        let (has_length, rest) = end(&inside[place + 1..])?;
        Some(Call {
            argument: &inside[..place],
            has_length,
            rest,
        })
    })
}

/// The end of an operator, with an optional maximum length: whether there is one, and the text after the operator.
fn end(text: &str) -> Option<(bool, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((false, rest));
    }
    let digits = text.strip_prefix(':')?;
    let (length, rest) = digits.split_at(digits.bytes().position(|byte| !byte.is_ascii_digit())?);
    length.parse::<u64>().ok()?;
    Some((true, rest.strip_prefix('%')?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "%START_TIME((%Y))%",
            "%PATH(NQ:ORIG):10%",
            "%QUERY_PARAM(a b):5%",
            "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
            "%REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)%",
            "%FILTER_STATE(a:FIELD:b):5%",
            r#"%COALESCE({"operators": ["PATH", {"command": "REQ", "param": "x-a", "max_length": 5}]}):9%"#,
        ] {
            assert_eq!(check(text, EnvoyVersion::NEWEST), Ok(()), "{text}");
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
            "%REQ(a)b% %REQ(c)%",
            "%REQ(a\nb)%",
            "%ENVIRONMENT(HOME)%",
            "%FILE_CONTENT(/etc/passwd)%",
            "%SECRET(a)%",
            "%CEL(response.code)%",
            r#"%COALESCE({"operators": [{"command": "ENVIRONMENT", "param": "HOME"}]})%"#,
            r#"%COALESCE({"operators": ["PATH"], "operators": ["UNIQUE_ID"]})%"#,
            r#"%COALESCE({"operators": [{"command": "REQ", "command": "ENVIRONMENT", "param": "HOME"}]})%"#,
            r#"%COALESCE({"operators": [{"command": "PATH", "max_length": 0}]})%"#,
            r#"%COALESCE({"operators": [{"command": "PATH", "param": null}]})%"#,
            r#"%COALESCE({"operators": []})%"#,
        ] {
            assert!(check(text, EnvoyVersion::NEWEST).is_err(), "{text}");
        }
    }
}
