//! Header maps as JSON objects: each name with the list of its values.

use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

/// Longest list of headers in HTTP/2, in bytes; a whole body comes back in a header.
pub(crate) const LIMIT: u32 = 1 << 20;

/// Names in lower case.
pub(crate) fn lower(headers: &HeaderMap) -> Value {
    collect(headers, str::to_owned)
}

/// Names as Go spells them: `X-Forwarded-For`.
pub(crate) fn canonical(headers: &HeaderMap) -> Value {
    collect(headers, canonical_name)
}

/// The text of a value, whatever its bytes are.
pub(crate) fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// A value that can be sent: what would break the header becomes a space.
pub(crate) fn value(text: &[u8]) -> HeaderValue {
    let clean = |byte: &u8| {
        if byte.is_ascii_control() { b' ' } else { *byte }
    };
    let clean: Vec<u8> = text.iter().map(clean).collect();
    HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(""))
}

/// `x-forwarded-for` as Go spells it.
pub(crate) fn canonical_name(name: &str) -> String {
    let mut start = true;
    let spell = |character: char| {
        let spelled = if start {
            character.to_ascii_uppercase()
        } else {
            character.to_ascii_lowercase()
        };
        start = character == '-';
        spelled
    };
    name.chars().map(spell).collect()
}

fn collect(headers: &HeaderMap, spell: impl Fn(&str) -> String) -> Value {
    let list = |name| headers.get_all(name).iter().map(text).collect::<Vec<_>>();
    let entries = headers
        .keys()
        .map(|name| (spell(name.as_str()), list(name).into()));
    Value::Object(entries.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_go_does() {
        assert_eq!(canonical_name("x-forwarded-FOR"), "X-Forwarded-For");
        assert_eq!(canonical_name("etag"), "Etag");
    }

    #[test]
    fn a_body_with_lines_fits_into_a_header() {
        assert_eq!(value(b"a\r\nb\tc"), "a  b c");
    }
}
