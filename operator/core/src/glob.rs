//! Hostnames with a wildcard at one end, as Hosts and Mappings use them: `*`, `*.example.com`, `example.*`,
//! `a.example.com`. The wildcard stands for at least one character and may cross dots; anywhere else `*` is an
//! ordinary character. A port is part of the text. Globs are lower case: names compare without case (RFC 9110, 4.2.3).

use nuncio_ir::StringMatch;

/// Whether some name matches both globs, that is, whether a Mapping for `one` can serve a Host of `other`.
#[must_use]
pub fn compatible(one: &str, other: &str) -> bool {
    if one == other || one == "*" || other == "*" {
        return true;
    }
    if both_ends(one) || both_ends(other) || one.starts_with('.') || other.starts_with('.') {
        return false;
    }
    match (end(one), end(other)) {
        (End::None, End::None) => false,
        (End::Leading(_), End::Trailing(_)) | (End::Trailing(_), End::Leading(_)) => true,
        (End::Leading(a), End::Leading(b)) => a.ends_with(b) || b.ends_with(a),
        (End::Trailing(a), End::Trailing(b)) => a.starts_with(b) || b.starts_with(a),
        (End::Leading(suffix), End::None) => longer_ending(other, suffix),
        (End::None, End::Leading(suffix)) => longer_ending(one, suffix),
        (End::Trailing(prefix), End::None) => longer_beginning(other, prefix),
        (End::None, End::Trailing(prefix)) => longer_beginning(one, prefix),
    }
}

/// The condition on a request's host name that is the same as this glob; `None`: every name matches.
#[must_use]
pub fn string_match(glob: &str) -> Option<StringMatch> {
    if glob == "*" {
        return None;
    }
    Some(match end(glob) {
        End::Leading(suffix) => StringMatch::Suffix(suffix.to_owned()),
        End::Trailing(prefix) => StringMatch::Prefix(prefix.to_owned()),
        End::None => StringMatch::Exact(glob.to_owned()),
    })
}

/// Whether this can select a TLS filter chain: Envoy supports exact names, `*.suffix`, and no name at all.
#[must_use]
pub fn is_server_name(glob: &str) -> bool {
    glob == "*" || !glob.contains('*') || (glob.starts_with("*.") && !glob[1..].contains('*'))
}

/// Checks a hostname or glob.
///
/// # Errors
/// Why Envoy would reject it as the domain of a virtual host, or why no request can match it.
pub fn check(glob: &str) -> Result<(), String> {
    match mistake(glob) {
        None => Ok(()),
        Some(mistake) => Err(format!("invalid hostname {glob:?}: {mistake}")),
    }
}

fn mistake(glob: &str) -> Option<&'static str> {
    if glob.is_empty() {
        return Some("must not be empty");
    }
    if glob.starts_with(':') {
        // a chain for an empty server name would match every name
        return Some("the name before the port is missing");
    }
    if glob.len() > 255 {
        return Some("must be at most 255 characters");
    }
    if !glob.is_ascii() {
        return Some("must be ASCII; write international names in their xn-- form");
    }
    if glob.bytes().any(|byte| {
        !(byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'*' | b':' | b'[' | b']'))
    }) {
        return Some("contains characters that are not allowed in a hostname");
    }
    if glob != "*" && glob.bytes().filter(|byte| *byte == b'*').count() > 1 {
        return Some("must contain at most one wildcard");
    }
    if glob.contains('*') && !glob.starts_with('*') && !glob.ends_with('*') {
        return Some("the wildcard must be at the start or the end");
    }
    None
}

enum End<'a> {
    Leading(&'a str),
    Trailing(&'a str),
    None,
}

fn end(glob: &str) -> End<'_> {
    if let Some(suffix) = glob.strip_prefix('*') {
        End::Leading(suffix)
    } else if let Some(prefix) = glob.strip_suffix('*') {
        End::Trailing(prefix)
    } else {
        End::None
    }
}

fn both_ends(glob: &str) -> bool {
    glob.len() > 1 && glob.starts_with('*') && glob.ends_with('*')
}

fn longer_ending(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

fn longer_beginning(name: &str, prefix: &str) -> bool {
    name.len() > prefix.len() && name.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(&str, &str, bool); 24] = [
        ("*", "quote.local:8500", true),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*example.com", "example.com", false),
        ("*example.com", ".example.com", false),
        ("*example.com", "*.example.com", true),
        ("*ple.com", "b.example.com", true),
        ("a.example.*", "a.example.org", true),
        ("a.example.*", "b.example.com", false),
        ("foo.example*", "foo.example.com.", true),
        ("*.foo.bar", "baz.zing.*", true),
        ("a.*.com", "a.example.com", false),
        ("a.*.com", "a.*.com", true),
        ("*.com", "a.example.com", true),
        ("*.com", "a.example.org", false),
        ("*.local:8500", "quote.local", false),
        ("*.local:8500", "quote.local:8500", true),
        ("quote.*", "quote.local:8500", true),
        ("*a*", "bab", false),
        ("*a*", "*a*", true),
        ("*a*", "*", true),
        ("a.example.com", "a.example.com", true),
        ("a.example.com", "b.example.com", false),
        ("*.a.com", "*.b.com", false),
    ];

    #[test]
    fn globs_are_compatible_when_a_name_can_match_both() {
        for (one, other, expected) in TABLE {
            assert_eq!(compatible(one, other), expected, "{one} and {other}");
            assert_eq!(compatible(other, one), expected, "{other} and {one}");
        }
    }

    #[test]
    fn names_that_no_request_can_have_are_invalid() {
        for name in [
            "",
            ":x",
            ":80",
            "a b",
            "a/b",
            "ü.example",
            "*a*",
            "a.*.com",
            "http://a",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
        for name in [
            "*",
            "a.example",
            "*.example",
            "a.*",
            "a.example:8500",
            "[::1]:80",
            "_x.a",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn only_whole_labels_can_be_wild_in_a_server_name() {
        assert!(is_server_name("*") && is_server_name("*.a.com") && is_server_name("a.com"));
        assert!(!is_server_name("*a.com") && !is_server_name("a.*"));
    }
}
