//! A Mapping: which requests, and where they go.

use std::time::Duration;

use nuncio_crds::v3alpha1::MappingSpec;
use nuncio_xds::ir::{DnsFamily, HeaderMatch, PathMatch, QueryMatch, Rewrite, StringMatch};
use serde_json::Value;

use super::{
    Found, Fragment, HostMatch, Mapping, Upstream, error, not_supported, parse, regex, upstream,
    warning,
};
use crate::{
    glob,
    object::ObjectRef,
    report::{ConditionType, Problem},
    selector::Labels,
    settings::Settings,
};

const DEFAULT_TIMEOUT_MS: i64 = 3000;
const DEFAULT_CONNECT_TIMEOUT_MS: i64 = 3000;
const AUTHORITY: &str = ":authority";

/// Fields without which the rest can be served, although less is done than they ask for.
const NOT_SUPPORTED: [&str; 27] = [
    "add_linkerd_headers",
    "add_request_headers",
    "add_response_headers",
    "allow_upgrade",
    "auth_context_extensions",
    "auto_host_rewrite",
    "bypass_auth",
    "bypass_error_response_overrides",
    "circuit_breakers",
    "cluster_idle_timeout_ms",
    "cluster_max_connection_lifetime_ms",
    "cors",
    "envoy_override",
    "error_response_overrides",
    "health_checks",
    "host_rewrite",
    "keepalive",
    "labels",
    "load_balancer",
    "modules",
    "outlier_detection",
    "priority",
    "remove_request_headers",
    "remove_response_headers",
    "respect_dns_ttl",
    "retry_policy",
    "use_websocket",
];

/// Fields without which requests would go where they must not, and what would become of them.
const DECISIVE: [(&str, &str); 3] = [
    (
        "host_redirect",
        "redirects are not supported yet, and forwarding instead would be wrong",
    ),
    (
        "shadow",
        "shadowing is not supported yet, and real traffic must not go to a shadow",
    ),
    (
        "tls",
        "TLSContexts are not supported yet, and without one the connection would not be what is asked for",
    ),
];

pub(super) fn reconcile(
    value: Value,
    object: &ObjectRef,
    labels: &Labels,
    settings: &Settings,
) -> Found {
    let mut problems = without_effect(&value);
    let spec: MappingSpec = match parse::spec(value, true) {
        Ok((spec, unknown)) => {
            problems.extend(unknown);
            spec
        }
        Err(problem) => return (None, vec![problem]),
    };
    match mapping(&spec, object, labels, settings, &mut problems) {
        Ok(mapping) => (Some(Fragment::Mapping(mapping.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

/// A problem for each field that is set and has no effect.
fn without_effect(value: &Value) -> Vec<Problem> {
    let fields = parse::set_fields(value);
    let set = |field: &str| {
        fields
            .get(field)
            .is_some_and(|value| **value != Value::Bool(false))
    };
    let decisive = DECISIVE
        .iter()
        .filter(|(field, _)| set(field))
        .map(|(field, why)| {
            let path = format!("spec.{field}");
            error(
                "NotSupported",
                &path,
                format!("{why}; nothing of this Mapping is served"),
            )
        });
    let others = NOT_SUPPORTED.iter().filter(|field| set(field));
    decisive
        .chain(others.map(|field| not_supported(&format!("spec.{field}"))))
        .collect()
}

fn invalid(path: &str, message: &str) -> Problem {
    error(
        "Invalid",
        path,
        format!("{message}; nothing of this Mapping is served"),
    )
}

fn mapping(
    spec: &MappingSpec,
    object: &ObjectRef,
    labels: &Labels,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Mapping, Problem> {
    let host = host(spec, problems)?;
    let upstream = upstream(spec, object, settings, problems)?;
    let weight = match spec.weight {
        None => None,
        Some(weight) => Some(u32::try_from(weight).map_err(|_negative| {
            invalid(
                "spec.weight",
                "a weight is a percentage and cannot be negative",
            )
        })?),
    };
    let timeout = |path: &str, milliseconds: i64| match u64::try_from(milliseconds) {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => Err(invalid(
            path,
            "a time cannot be negative; 0 switches the limit off",
        )),
    };
    let idle = spec.idle_timeout_ms;
    Ok(Mapping {
        labels: labels.clone(),
        path: path(spec)?,
        case_sensitive: spec.case_sensitive.unwrap_or(true),
        headers: headers(spec)?,
        query: query(spec)?,
        precedence: spec.precedence.unwrap_or_default(),
        rewrite: rewrite(spec, problems)?,
        timeout: timeout(
            "spec.timeout_ms",
            spec.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        )?,
        idle_timeout: idle
            .map(|idle| timeout("spec.idle_timeout_ms", idle))
            .transpose()?,
        host,
        weight,
        upstream,
    })
}

/// The host name: `hostname`, else `host`, else an exact match of `:authority`.
fn host(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Result<HostMatch, Problem> {
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
        match glob::flaw(&name) {
            Some(flaw) => Err(invalid(path, &format!("{name:?} {flaw}"))),
            None => Ok(HostMatch::Glob(name)),
        }
    };
    if let Some(hostname) = hostname {
        if host.is_some() {
            problems.push(warning(
                "Ignored",
                "spec.host",
                "host is ignored because hostname is set".to_owned(),
            ));
        }
        return glob("spec.hostname", &hostname);
    }
    if let Some(host) = host {
        if spec.host_regex == Some(true) {
            check_regex("spec.host", &host)?;
            return Ok(HostMatch::Regex(host));
        }
        if host.contains('*') {
            return Err(invalid(
                "spec.host",
                "host is a whole name; write a glob as hostname",
            ));
        }
        return glob("spec.host", &host);
    }
    match authority {
        Some(name) if name.contains('*') => Err(invalid(
            "spec.headers[:authority]",
            "a header has a whole value; write a glob as hostname",
        )),
        Some(name) => glob("spec.headers[:authority]", &name),
        None => Ok(HostMatch::Unset),
    }
}

fn check_regex(path: &str, pattern: &str) -> Result<(), Problem> {
    match regex::flaw(pattern) {
        Some(flaw) => Err(error(
            "InvalidRegex",
            path,
            format!("{pattern:?} {flaw}; nothing of this Mapping is served"),
        )),
        None => Ok(()),
    }
}

/// Envoy refuses control characters in what becomes part of a request.
fn check_text(path: &str, text: &str) -> Result<(), Problem> {
    if text.chars().any(char::is_control) {
        return Err(invalid(path, "there is a control character in it"));
    }
    Ok(())
}

fn path(spec: &MappingSpec) -> Result<PathMatch, Problem> {
    check_text("spec.prefix", &spec.prefix)?;
    let text = spec.prefix.clone();
    if spec.prefix_regex == Some(true) {
        check_regex("spec.prefix", &text)?;
        return Ok(PathMatch::Regex(text));
    }
    Ok(if spec.prefix_exact == Some(true) {
        PathMatch::Exact(text)
    } else {
        PathMatch::Prefix(text)
    })
}

fn header(path: &str, name: &str, value: StringMatch) -> Result<HeaderMatch, Problem> {
    let bare = name.strip_prefix(':').unwrap_or(name);
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if bare.is_empty() || !bare.bytes().all(token) {
        return Err(invalid(path, &format!("{name:?} is no header name")));
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

fn headers(spec: &MappingSpec) -> Result<Vec<HeaderMatch>, Problem> {
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
    let regexes = spec.regex_headers.iter().map(|(name, value)| {
        header(
            &format!("spec.regex_headers[{name}]"),
            name,
            StringMatch::Regex(value.clone()),
        )
    });
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

fn query(spec: &MappingSpec) -> Result<Vec<QueryMatch>, Problem> {
    let parameter = |path: String, name: &str, value: StringMatch| {
        if name.is_empty() || name.len() > 1024 {
            return Err(invalid(
                &path,
                "a query parameter has a name of 1 to 1024 bytes",
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
            StringMatch::Regex(value.clone()),
        )
    });
    exact.chain(regexes).collect()
}

fn rewrite(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Result<Rewrite, Problem> {
    if let Some(rewrite) = &spec.regex_rewrite {
        let pattern = rewrite.pattern.clone().unwrap_or_default();
        let substitution = rewrite.substitution.clone().unwrap_or_default();
        if pattern.is_empty() {
            return Err(invalid(
                "spec.regex_rewrite.pattern",
                "the pattern is empty",
            ));
        }
        check_regex("spec.regex_rewrite.pattern", &pattern)?;
        check_text("spec.regex_rewrite.substitution", &substitution)?;
        if let Some(flaw) = regex::substitution_flaw(&pattern, &substitution) {
            return Err(invalid("spec.regex_rewrite.substitution", &flaw));
        }
        if spec
            .rewrite
            .as_deref()
            .is_some_and(|rewrite| !matches!(rewrite, "" | "/"))
        {
            problems.push(warning(
                "Ignored",
                "spec.rewrite",
                "rewrite is ignored because regex_rewrite is set".to_owned(),
            ));
        }
        return Ok(Rewrite::Regex {
            pattern,
            substitution,
        });
    }
    Ok(match spec.rewrite.as_deref() {
        None => Rewrite::Prefix("/".to_owned()),
        Some("") => Rewrite::Keep,
        Some(text) => {
            check_text("spec.rewrite", text)?;
            Rewrite::Prefix(text.to_owned())
        }
    })
}

fn upstream(
    spec: &MappingSpec,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Upstream, Problem> {
    let service = upstream::parse(&spec.service)
        .map_err(|flaw| invalid("spec.service", &format!("{:?} {flaw}", spec.service)))?;
    let endpoints = match spec.resolver.as_deref() {
        None | Some("" | "kubernetes-service") => false,
        Some("endpoint" | "kubernetes-endpoint") => true,
        Some(other) => {
            return Err(Problem {
                condition: ConditionType::ResolvedRefs,
                ..error(
                    "ResolverNotFound",
                    "spec.resolver",
                    format!(
                        "there is no resolver {other:?}; kubernetes-service, endpoint and kubernetes-endpoint are built in; nothing of this Mapping is served"
                    ),
                )
            });
        }
    };
    let connect_timeout = match spec.connect_timeout_ms {
        None => DEFAULT_CONNECT_TIMEOUT_MS,
        Some(milliseconds) if milliseconds > 0 => milliseconds,
        Some(_) => {
            problems.push(warning(
                "Invalid",
                "spec.connect_timeout_ms",
                format!("it has to be above 0; {DEFAULT_CONNECT_TIMEOUT_MS} is used"),
            ));
            DEFAULT_CONNECT_TIMEOUT_MS
        }
    };
    let logical_dns = match spec.dns_type.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("" | "strict_dns") => false,
        Some("logical_dns") => true,
        Some(other) => {
            problems.push(warning(
                "Invalid",
                "spec.dns_type",
                format!("{other:?} is neither strict_dns nor logical_dns; strict_dns is used"),
            ));
            false
        }
    };
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let meaning = if service.address.is_some() {
        None
    } else {
        upstream::service(&service.host, &object.namespace)
    };
    Ok(Upstream {
        host: upstream::qualified(
            &service.host,
            &object.namespace,
            &settings.ambassador_namespace,
        ),
        port: service.port,
        address: service.address,
        only_service: meaning.as_ref().is_some_and(|(_, only)| *only),
        service: meaning.map(|(name, _)| name),
        tls: service.tls,
        endpoints,
        http2: spec.grpc == Some(true),
        connect_timeout: Duration::from_millis(connect_timeout.unsigned_abs()),
        dns_family: match (
            spec.enable_ipv4.unwrap_or(true),
            spec.enable_ipv6.unwrap_or(false),
        ) {
            (true, true) => DnsFamily::Auto,
            (false, true) => DnsFamily::V6,
            (_, false) => DnsFamily::V4,
        },
        logical_dns,
        stat_name: text(&spec.stats_name),
        tag: text(&spec.cluster_tag),
    })
}
