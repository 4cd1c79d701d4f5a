//! Which requests a Mapping matches.

use nuncio_crds::v3alpha1::MappingSpec;
use nuncio_ir::{HeaderMatch, PathMatch, QueryMatch, StringMatch};

use super::{check_regex, check_text, not_served};
use crate::{
    glob,
    reconcile::{HostMatch, is_header_name, overridden},
    report::{Problem, Reason},
};

const AUTHORITY: &str = ":authority";

/// The hostname: `hostname`, else `host`, else the exact match of `:authority`.
pub(super) fn host(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Result<HostMatch, Problem> {
    let set = |text: &Option<String>| {
        text.as_deref()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let authority = spec
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(AUTHORITY))
        .map(|(_, value)| value.clone());
    let (hostname, host) = (set(&spec.hostname), set(&spec.host));
    let glob = |path: &str, name: &str| {
        let name = name.to_ascii_lowercase();
        match glob::check(&name) {
            Ok(()) => Ok(HostMatch::Glob(name)),
            Err(fact) => Err(not_served(path, fact)),
        }
    };
    if authority.is_some() && (hostname.is_some() || host.is_some()) {
        problems.push(Problem::ignored(
            Reason::IGNORED,
            "spec.headers[:authority]",
            ":authority is ignored because hostname or host is set",
        ));
    }
    if let Some(hostname) = hostname {
        if host.is_some() {
            problems.push(overridden("host", "hostname"));
        }
        return glob("spec.hostname", &hostname);
    }
    if let Some(host) = host {
        if spec.host_regex == Some(true) {
            check_regex("spec.host", &host)?;
            return Ok(HostMatch::Regex(host));
        }
        if host.contains('*') {
            return Err(not_served(
                "spec.host",
                "host must not contain *; set hostname for a glob",
            ));
        }
        return glob("spec.host", &host);
    }
    match authority {
        Some(name) if name.contains('*') => Err(not_served(
            "spec.headers[:authority]",
            ":authority must not contain *; set hostname for a glob",
        )),
        Some(name) => glob("spec.headers[:authority]", &name),
        None => Ok(HostMatch::Unset),
    }
}

pub(super) fn path(spec: &MappingSpec) -> Result<PathMatch, Problem> {
    check_text("spec.prefix", &spec.prefix)?;
    let text = spec.prefix.clone();
    if spec.prefix_regex == Some(true) {
        if text.is_empty() {
            return Err(not_served(
                "spec.prefix",
                "a regular expression must not be empty",
            ));
        }
        check_regex("spec.prefix", &text)?;
        return Ok(PathMatch::Regex(text));
    }
    Ok(if spec.prefix_exact == Some(true) {
        PathMatch::Exact(text)
    } else {
        PathMatch::Prefix(text)
    })
}

/// A regular expression for a whole value. Envoy rejects an empty one; in Emissary it matches the empty value.
fn pattern(text: &str) -> StringMatch {
    if text.is_empty() {
        StringMatch::Exact(String::new())
    } else {
        StringMatch::Regex(text.to_owned())
    }
}

fn header(path: &str, name: &str, value: StringMatch) -> Result<HeaderMatch, Problem> {
    let bare = name.strip_prefix(':').unwrap_or(name);
    if !is_header_name(bare) {
        return Err(not_served(path, format!("invalid header name {name:?}")));
    }
    match &value {
        StringMatch::Regex(pattern) => check_regex(path, pattern)?,
        StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text) => {
            check_text(path, text)?
        }
    }
    Ok(HeaderMatch {
        name: name.to_ascii_lowercase(),
        value,
    })
}

pub(super) fn headers(spec: &MappingSpec) -> Result<Vec<HeaderMatch>, Problem> {
    let exact = spec
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(AUTHORITY))
        .map(|(name, value)| {
            header(
                &format!("spec.headers[{name}]"),
                name,
                StringMatch::Exact(value.clone()),
            )
        });
    let regexes = spec
        .regex_headers
        .iter()
        .map(|(name, value)| header(&format!("spec.regex_headers[{name}]"), name, pattern(value)));
    let method = spec
        .method
        .as_ref()
        .filter(|method| !method.is_empty())
        .map(|method| {
            let value = if spec.method_regex == Some(true) {
                StringMatch::Regex(method.clone())
            } else {
                StringMatch::Exact(method.clone())
            };
            header("spec.method", ":method", value)
        });
    exact.chain(regexes).chain(method).collect()
}

pub(super) fn query(spec: &MappingSpec) -> Result<Vec<QueryMatch>, Problem> {
    let parameter = |path: String, name: &str, value: StringMatch| {
        if name.is_empty() || name.len() > 1024 {
            return Err(not_served(
                &path,
                "the name of a query parameter must be 1 to 1024 bytes long",
            ));
        }
        if let StringMatch::Regex(pattern) = &value {
            check_regex(&path, pattern)?;
        }
        Ok(QueryMatch {
            name: name.to_owned(),
            value,
        })
    };
    let exact = spec.query_parameters.iter().map(|(name, value)| {
        parameter(
            format!("spec.query_parameters[{name}]"),
            name,
            StringMatch::Exact(value.clone()),
        )
    });
    let regexes = spec.regex_query_parameters.iter().map(|(name, value)| {
        parameter(
            format!("spec.regex_query_parameters[{name}]"),
            name,
            pattern(value),
        )
    });
    exact.chain(regexes).collect()
}
