//! Headers that are added and removed.

use std::collections::BTreeMap;

use nuncio_crds::field;
use nuncio_ir::AddedHeader;

use super::left_out;
use crate::{
    reconcile::{format, is_header_name},
    report::Problem,
};

/// Bytes that Envoy takes as name of a header, and as value, of those that it adds.
const LONGEST: usize = 16_384;

/// How many headers are added or removed: Envoy takes 1000 of a route, one of which may be that for Linkerd.
const MOST: usize = 999;

/// Headers that are added; one that Envoy would refuse is left out.
pub(in crate::reconcile) fn added(
    path: &str,
    headers: &BTreeMap<String, field::AddedHeader>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, AddedHeader> {
    let mut added = BTreeMap::new();
    for (name, header) in headers {
        let path = format!("{path}[{name}]");
        let value = header.value.clone().unwrap_or_default();
        let flaw = name_flaw(name).or_else(|| value_flaw(&value));
        if let Some(flaw) = flaw {
            problems.push(left_out(&path, &flaw));
            continue;
        }
        if added.len() == MOST {
            problems.push(left_out(&path, &format!("there are {MOST} already")));
            continue;
        }
        let header = AddedHeader {
            value,
            append: header.append.unwrap_or(true),
        };
        if added.insert(name.to_ascii_lowercase(), header).is_some() {
            problems.push(left_out(
                &path,
                "another spelling of the same name is there too",
            ));
        }
    }
    added
}

/// Headers that are removed; one that Envoy would refuse is left out.
pub(in crate::reconcile) fn removed(
    path: &str,
    names: &[String],
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut removed: Vec<String> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(flaw) = name_flaw(name) {
            problems.push(left_out(&format!("{path}[{index}]"), &flaw));
            continue;
        }
        let name = name.to_ascii_lowercase();
        if !removed.contains(&name) {
            removed.push(name);
        }
    }
    removed
}

fn name_flaw(name: &str) -> Option<String> {
    if name.eq_ignore_ascii_case("host") || name.starts_with(':') {
        return Some(format!(
            "Envoy changes {name:?} by other means only; host_rewrite sets the Host header"
        ));
    }
    if name.len() > LONGEST {
        return Some(format!("a header name has up to {LONGEST} bytes"));
    }
    (!is_header_name(name)).then(|| format!("{name:?} is no header name"))
}

/// Why Envoy would not add a header of this value; `None` if it would.
pub(super) fn value_flaw(value: &str) -> Option<String> {
    if value.len() > LONGEST {
        return Some(format!("the value has more than {LONGEST} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Some("there is a control character in the value".to_owned());
    }
    format::flaw(value).map(|flaw| format!("the value {flaw}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_beyond_what_envoy_takes_are_left_out() {
        let header = |value: usize| field::AddedHeader {
            value: Some("x".repeat(value)),
            ..field::AddedHeader::default()
        };
        let written = BTreeMap::from([
            ("x".repeat(LONGEST), header(1)),
            ("y".repeat(LONGEST + 1), header(1)),
            ("z".to_owned(), header(LONGEST)),
            ("zz".to_owned(), header(LONGEST + 1)),
        ]);
        let mut problems = Vec::new();
        assert_eq!(added("spec.a", &written, &mut problems).len(), 2);
        assert_eq!(problems.len(), 2);
        let names = (0..1001).map(|number| (format!("x{number}"), header(1)));
        assert_eq!(added("spec.a", &names.collect(), &mut problems).len(), MOST);
        assert_eq!(problems.len(), 4);
    }
}
