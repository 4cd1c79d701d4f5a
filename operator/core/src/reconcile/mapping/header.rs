//! Added and removed headers.

use std::collections::BTreeMap;

use nuncio_crds::field;
use nuncio_ir::AddedHeader;

use crate::{
    reconcile::{format, ignored, is_header_name, replaced},
    report::Problem,
};

/// Maximum length in bytes of the name and of the value of a header that Envoy adds.
const MAX_LENGTH: usize = 16_384;

/// Maximum number of headers that are added. Envoy's maximum for a route is 1000, one of which may be Linkerd's.
const MAX_COUNT: usize = 999;

/// Added headers; those that Envoy would reject are ignored.
pub(in crate::reconcile) fn added(
    path: &str,
    headers: &BTreeMap<String, field::AddedHeader>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, AddedHeader> {
    let mut added = BTreeMap::new();
    for (name, header) in headers {
        let path = format!("{path}[{name}]");
        let value = header.value.clone().unwrap_or_default();
        if let Err(fact) = check_name(name).and_then(|()| check_value(&value)) {
            problems.push(ignored(path, fact));
            continue;
        }
        if added.len() == MAX_COUNT {
            problems.push(ignored(path, format!("exceeds {MAX_COUNT} headers")));
            continue;
        }
        let header = AddedHeader {
            value,
            append: header.append.unwrap_or(true),
        };
        if added.insert(name.to_ascii_lowercase(), header).is_some() {
            problems.push(replaced(
                path,
                "duplicate header name in other letter case",
                "the value of this one",
            ));
        }
    }
    added
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

fn check_name(name: &str) -> Result<(), String> {
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("{name:?} cannot be changed here; set host_rewrite"));
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

/// Checks the value of an added header.
///
/// # Errors
/// What Envoy would reject.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_LENGTH {
        return Err(format!("a header value must be at most {MAX_LENGTH} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    format::check(value)
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
        assert_eq!(added("spec.a", &written, &mut problems).len(), 2);
        assert_eq!(problems.len(), 2);
        let names = (0..1001).map(|number| (format!("x{number}"), header(1)));
        assert_eq!(
            added("spec.a", &names.collect(), &mut problems).len(),
            MAX_COUNT
        );
        assert_eq!(problems.len(), 4);
    }
}
