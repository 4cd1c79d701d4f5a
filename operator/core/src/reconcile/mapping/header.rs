//! Added and removed headers.

use std::collections::BTreeMap;

use nuncio_crds::field;
use nuncio_ir::{AddedHeader, EnvoyVersion};

use crate::{
    reconcile::{AddedHeaders, format, ignored, is_header_name},
    report::{Problem, Reason},
};

/// Maximum length in bytes of the name and of the value of a header that Envoy adds.
const MAX_LENGTH: usize = 16_384;

/// Headers that frame messages or concern one connection, which Envoy handles.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Maximum number of headers that are added. Envoy's maximum for a route is 1000, one of which may be Linkerd's.
const MAX_COUNT: usize = 999;

/// Added headers. One whose value Envoy would reject is removed if it was to replace others, so that no backend takes
/// the value of a client for ours; any other that Envoy would reject is ignored.
pub(in crate::reconcile) fn added(
    path: &str,
    headers: &BTreeMap<String, field::AddedHeader>,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> AddedHeaders {
    let last: BTreeMap<String, &String> = headers
        .keys()
        .map(|name| (name.to_ascii_lowercase(), name))
        .collect();
    let mut added = AddedHeaders::new();
    let mut count = 0;
    for (name, header) in headers {
        let path = format!("{path}[{name}]");
        let lower = name.to_ascii_lowercase();
        if let Some(last) = last.get(&lower).filter(|last| **last != name) {
            let fact = format!("duplicate of {last:?}: header names are case-insensitive");
            problems.push(ignored(path, fact));
            continue;
        }
        if let Err(fact) = check_name(name) {
            problems.push(ignored(path, fact));
            continue;
        }
        let value = header.value.clone().unwrap_or_default();
        let append = header.append.unwrap_or(true);
        let checked = if count == MAX_COUNT {
            Err(format!("exceeds {MAX_COUNT} headers"))
        } else {
            check_value(&value, envoy)
        };
        match checked {
            Ok(()) => {
                count += 1;
                added.insert(lower, Some(AddedHeader { value, append }));
            }
            Err(fact) if append => problems.push(ignored(path, fact)),
            Err(fact) => {
                problems.push(removed_instead(path, &fact));
                added.insert(lower, None);
            }
        }
    }
    added
}

/// A header that would replace others, and is removed instead.
fn removed_instead(path: String, fact: &str) -> Problem {
    let message = format!("{fact}; the header is removed");
    Problem::ignored(Reason::PARTIALLY_INVALID, path, message)
}

/// Removed headers; those that Envoy would reject are ignored.
pub(in crate::reconcile) fn removed(
    path: &str,
    names: &[String],
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut removed: Vec<String> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Err(fact) = check_name(name) {
            problems.push(ignored(format!("{path}[{index}]"), fact));
            continue;
        }
        let name = name.to_ascii_lowercase();
        if !removed.contains(&name) {
            removed.push(name);
        }
    }
    removed
}

/// Checks the name of an added or removed header.
///
/// # Errors
/// What Envoy would reject, and headers that concern how a message is sent.
pub(in crate::reconcile) fn check_name(name: &str) -> Result<(), String> {
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("{name:?} cannot be changed here; set host_rewrite"));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{name:?} frames messages and cannot be changed"));
    }
    if name.starts_with(':') {
        return Err(format!("pseudo-header {name:?} cannot be changed"));
    }
    if name.len() > MAX_LENGTH {
        return Err(format!("a header name must be at most {MAX_LENGTH} bytes"));
    }
    if !is_header_name(name) {
        return Err(format!("invalid header name {name:?}"));
    }
    Ok(())
}

/// Checks the value of an added header, for Envoys of this version and later.
///
/// # Errors
/// What one of them would reject.
pub(in crate::reconcile) fn check_value(value: &str, envoy: EnvoyVersion) -> Result<(), String> {
    if value.len() > MAX_LENGTH {
        return Err(format!("a header value must be at most {MAX_LENGTH} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    format::check(value, envoy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_beyond_the_limits_of_envoy_are_ignored() {
        let header = |value: usize| field::AddedHeader {
            value: Some("x".repeat(value)),
            ..field::AddedHeader::default()
        };
        let written = BTreeMap::from([
            ("x".repeat(MAX_LENGTH), header(1)),
            ("y".repeat(MAX_LENGTH + 1), header(1)),
            ("z".to_owned(), header(MAX_LENGTH)),
            ("zz".to_owned(), header(MAX_LENGTH + 1)),
        ]);
        let mut problems = Vec::new();
        assert_eq!(
            added("spec.a", &written, EnvoyVersion::NEWEST, &mut problems).len(),
            2
        );
        assert_eq!(problems.len(), 2);
        let names = (0..1001).map(|number| (format!("x{number}"), header(1)));
        assert_eq!(
            added(
                "spec.a",
                &names.collect(),
                EnvoyVersion::NEWEST,
                &mut problems
            )
            .len(),
            MAX_COUNT
        );
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn a_header_that_would_replace_others_is_removed_if_it_cannot_be_rendered() {
        let header = |append| field::AddedHeader {
            value: Some("%NOTHING%".to_owned()),
            append,
            ..field::AddedHeader::default()
        };
        let written = BTreeMap::from([
            ("X-User".to_owned(), header(Some(false))),
            ("x-more".to_owned(), header(Some(true))),
            ("x-default".to_owned(), header(None)),
            ("connection".to_owned(), header(Some(false))),
        ]);
        let mut problems = Vec::new();
        let found = added("spec.a", &written, EnvoyVersion::NEWEST, &mut problems);
        assert_eq!(found, BTreeMap::from([("x-user".to_owned(), None)]));
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn the_last_of_names_that_differ_in_case_is_used() {
        let header = |value: &str| field::AddedHeader {
            value: Some(value.to_owned()),
            ..field::AddedHeader::default()
        };
        let written = BTreeMap::from([
            ("X".to_owned(), header("%NOTHING%")),
            ("x".to_owned(), header("1")),
        ]);
        let mut problems = Vec::new();
        let found = added("spec.a", &written, EnvoyVersion::NEWEST, &mut problems);
        assert_eq!(found["x"].as_ref().unwrap().value, "1");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, "spec.a[X]");
    }
}
