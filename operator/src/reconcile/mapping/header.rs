//! Headers that are added and removed.

use std::collections::BTreeMap;

use nuncio_crds::field;
use nuncio_xds::ir::AddedHeader;

use super::left_out;
use crate::{
    reconcile::{Upstream, format, is_header_name},
    report::Problem,
};

/// The header by which Linkerd 1 routes.
const LINKERD: &str = "l5d-dst-override";

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

/// The address of the upstream, for Linkerd.
pub(super) fn linkerd(upstream: &Upstream) -> (String, AddedHeader) {
    let host = &upstream.host;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let header = AddedHeader {
        value: format!("{host}:{}", upstream.port),
        append: true,
    };
    (LINKERD.to_owned(), header)
}

fn name_flaw(name: &str) -> Option<String> {
    if name.eq_ignore_ascii_case("host") || name.starts_with(':') {
        return Some(format!(
            "Envoy changes {name:?} by other means only; host_rewrite sets the Host header"
        ));
    }
    (!is_header_name(name)).then(|| format!("{name:?} is no header name"))
}

fn value_flaw(value: &str) -> Option<String> {
    if value.chars().any(char::is_control) {
        return Some("there is a control character in the value".to_owned());
    }
    format::flaw(value).map(|flaw| format!("the value {flaw}"))
}
