//! A Mapping: which requests it matches, and where they go.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use nuncio_crds::v3alpha1::MappingSpec;
use nuncio_ir::{Authorization, EnvoyVersion};
use serde_json::Value;

use super::{
    Forwarding, Found, Fragment, Mapping, Rare, Role, Shared, duration, outcome, overridden, parse,
    regex,
    upstream::{self, UpstreamFields},
    without_effect,
};
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    selector::Labels,
    settings::Settings,
};

mod condition;
mod cors;
mod error_body;
pub(super) mod header;
pub(super) mod label;
mod largest_regex;
mod redirect;
mod rewrite;
mod shared;

pub(super) use self::{
    error_body::error_bodies,
    label::part as label_part,
    shared::{hash_policy, shared},
};

/// Fields that Emissary accepts without any effect.
const WITHOUT_EFFECT: [&str; 2] = ["envoy_override", "modules"];

/// Maximum length of the name of an AuthService with its namespace.
const MAX_NAME: usize = 253 + 1 + 63;

pub(super) fn reconcile(
    value: Value,
    object: &ObjectRef,
    labels: &Labels,
    settings: &Settings,
) -> Found {
    let mut problems = fields_without_effect(&value);
    let conditions = conditions(&value);
    let spec: MappingSpec = match parse::spec(value, object.kind, true) {
        Ok((spec, unknown)) => {
            problems.extend(unknown);
            spec
        }
        Err(problem) => {
            let invalid = conditions.and_then(|spec| invalid(&spec, labels));
            return (invalid, vec![problem]);
        }
    };
    match mapping(&spec, object, labels, settings, &mut problems) {
        Ok(mapping) => (Some(Fragment::Mapping(mapping.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (invalid(&spec, labels), problems)
        }
    }
}

/// The fields that say which requests a Mapping matches.
const CONDITIONS: [&str; 15] = [
    "case_sensitive",
    "headers",
    "host",
    "host_regex",
    "hostname",
    "method",
    "method_regex",
    "precedence",
    "prefix",
    "prefix_exact",
    "prefix_regex",
    "query_parameters",
    "regex_headers",
    "regex_query_parameters",
    "shadow",
];

/// The conditions and the weight alone, for when another field does not have its type.
fn conditions(value: &Value) -> Option<MappingSpec> {
    let spec = value["spec"].as_object()?.iter();
    let known = spec.filter(|(field, _)| CONDITIONS.contains(&field.as_str()));
    let mut spec: serde_json::Map<String, Value> = known
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    spec.insert("service".to_owned(), Value::String(String::new()));
    let weight = value["spec"].get("weight").filter(|weight| weight.is_i64());
    spec.extend(weight.map(|weight| ("weight".to_owned(), weight.clone())));
    serde_json::from_value(Value::Object(spec)).ok()
}

/// What an invalid Mapping matches. Nothing if its conditions are invalid, too, or if it only copies requests.
fn invalid(spec: &MappingSpec, labels: &Labels) -> Option<Fragment> {
    if spec.shadow == Some(true) {
        return None;
    }
    // problems of conditions that are ignored have been reported with the others, or are not the ones to fix first
    let mapping = Mapping {
        labels: labels.clone(),
        host: condition::host(spec, &mut Vec::new()).ok()?,
        path: condition::path(spec).ok()?,
        case_sensitive: spec.case_sensitive,
        headers: condition::headers(spec).ok()?,
        query: condition::query(spec).ok()?,
        precedence: spec.precedence.unwrap_or_default(),
        weight: weight(spec.weight).unwrap_or_default(),
        role: Role::Invalid,
        forwarding: Forwarding::default(),
        upstream: None,
        shared: Rare::default(),
        knative: Rare::default(),
        regex: None,
    };
    Some(Fragment::Mapping(mapping.into()))
}

/// A problem for each field that is set and has no effect.
fn fields_without_effect(value: &Value) -> Vec<Problem> {
    let fields = parse::set_fields(value);
    WITHOUT_EFFECT
        .iter()
        .filter(|field| {
            fields
                .get(**field)
                .is_some_and(|value| **value != Value::Bool(false))
        })
        .map(|field| {
            let path = format!("spec.{field}");
            let message = format!("{path} has no effect");
            without_effect(path, message)
        })
        .collect()
}

/// A Mapping that is part of a Module.
///
/// # Errors
/// What is wrong with it.
pub(super) fn of_spec(
    spec: &MappingSpec,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Mapping, Problem> {
    mapping(spec, object, &Labels::new(), settings, problems)
}

fn mapping(
    spec: &MappingSpec,
    object: &ObjectRef,
    labels: &Labels,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Mapping, Problem> {
    problems.extend(condition::never_matches(spec));
    let shared = shared(spec, settings.oldest_envoy, problems)?;
    let role = role(spec, &shared, problems)?;
    let upstream = upstream::upstream(&upstream_fields(spec), object, settings, problems)?;
    Ok(Mapping {
        labels: labels.clone(),
        host: condition::host(spec, problems)?,
        path: condition::path(spec)?,
        case_sensitive: spec.case_sensitive,
        headers: condition::headers(spec)?,
        query: condition::query(spec)?,
        precedence: spec.precedence.unwrap_or_default(),
        weight: weight(spec.weight)?,
        forwarding: forwarding(spec, object, &upstream, settings.oldest_envoy, problems)?,
        upstream: (!matches!(role, Role::Redirect(_))).then_some(upstream),
        regex: largest_regex::find(spec, &role),
        role,
        shared: shared.into(),
        knative: Rare::default(),
    })
}

/// The role in the group; a shadow that is also a redirect is a shadow.
fn role(spec: &MappingSpec, shared: &Shared, problems: &mut Vec<Problem>) -> Result<Role, Problem> {
    let is_redirect = spec.host_redirect == Some(true);
    if spec.shadow == Some(true) {
        if is_redirect {
            problems.push(overridden("host_redirect", "shadow"));
        }
        return Ok(Role::Shadow);
    }
    if is_redirect {
        redirect::report_backend_fields(spec, problems);
        return redirect::redirect(spec, shared, problems)
            .map(Box::new)
            .map(Role::Redirect);
    }
    redirect::report_redirect_fields(spec, problems);
    Ok(Role::Forward)
}

/// A percentage.
pub(super) fn weight(weight: Option<i64>) -> Result<Option<u32>, Problem> {
    weight
        .map(|weight| {
            u32::try_from(weight)
                .map_err(|_source| not_served("spec.weight", "must be a non-negative percentage"))
        })
        .transpose()
}

/// How the Mapping's own share of the requests is forwarded.
fn forwarding(
    spec: &MappingSpec,
    object: &ObjectRef,
    upstream: &super::Upstream,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Result<Forwarding, Problem> {
    let mut limit = |path: &str, milliseconds: Option<i64>| {
        milliseconds
            .map(|milliseconds| time(path, milliseconds, problems))
            .transpose()
    };
    Ok(Forwarding {
        rewrite: rewrite::own(spec)?,
        timeout: limit("spec.timeout_ms", spec.timeout_ms)?,
        idle_timeout: limit("spec.idle_timeout_ms", spec.idle_timeout_ms)?,
        host: host_rewrite(spec, upstream, problems)?,
        hash: hash_policy(spec, problems),
        authorization: authorization(spec, object, problems)?,
        rate_limits: label::rate_limits(&spec.labels, problems),
        error_bodies: error_bodies(&spec.error_response_overrides, envoy, problems)
            .or_else(|| (spec.bypass_error_response_overrides == Some(true)).then(BTreeMap::new)),
        add_linkerd_headers: spec.add_linkerd_headers,
    })
}

/// Which AuthService is called. An invalid name is not left out: the default one may allow more.
fn authorization(
    spec: &MappingSpec,
    object: &ObjectRef,
    problems: &mut Vec<Problem>,
) -> Result<Authorization, Problem> {
    let named = spec.auth_service.as_deref().filter(|name| !name.is_empty());
    if spec.bypass_auth == Some(true) {
        if named.is_some() {
            problems.push(overridden("auth_service", "bypass_auth"));
        }
        if !spec.auth_context_extensions.is_empty() {
            problems.push(overridden("auth_context_extensions", "bypass_auth"));
        }
        return Ok(Authorization::Disabled);
    }
    let extensions = spec.auth_context_extensions.clone();
    let Some(text) = named else {
        return Ok(if extensions.is_empty() {
            Authorization::Check
        } else {
            Authorization::CheckWith(extensions)
        });
    };
    let (name, namespace) = text.rsplit_once('.').unwrap_or((text, &object.namespace));
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty()
        || namespace.is_empty()
        || text.len() > MAX_NAME
        || !text.chars().all(is_plain)
    {
        let fact = "must be the name of an AuthService: name or name.namespace";
        return Err(not_served("spec.auth_service", fact));
    }
    if *namespace != *object.namespace {
        let message = format!("uses AuthService {namespace}/{name} of another namespace");
        let path = "spec.auth_service";
        problems.push(Problem::notice(Reason::CROSS_NAMESPACE, path, message));
    }
    Ok(Authorization::By {
        service: format!("{namespace}/{name}").into(),
        extensions,
    })
}

/// The Host header that the upstream gets. Envoy's own `auto_host_rewrite` works for DNS only, so the name is set here.
fn host_rewrite(
    spec: &MappingSpec,
    upstream: &super::Upstream,
    problems: &mut Vec<Problem>,
) -> Result<Option<String>, Problem> {
    let literal = spec.host_rewrite.as_deref().filter(|text| !text.is_empty());
    let is_automatic = spec.auto_host_rewrite == Some(true);
    if let Some(literal) = literal {
        check_text("spec.host_rewrite", literal)?;
        if is_automatic {
            problems.push(overridden("auto_host_rewrite", "host_rewrite"));
        }
        return Ok(Some(literal.to_owned()));
    }
    Ok(is_automatic.then(|| upstream.host.clone()))
}

/// The fields that describe the upstream.
fn upstream_fields(spec: &MappingSpec) -> UpstreamFields<'_> {
    UpstreamFields {
        is_edge: false,
        service: &spec.service,
        is_redirect: spec.host_redirect == Some(true) && spec.shadow != Some(true),
        resolver: spec.resolver.as_deref(),
        tls: spec.tls.as_deref(),
        grpc: spec.grpc,
        connect_timeout_ms: spec.connect_timeout_ms,
        idle_timeout_ms: spec.cluster_idle_timeout_ms,
        max_connection_lifetime_ms: spec.cluster_max_connection_lifetime_ms,
        load_balancer: spec.load_balancer.as_ref(),
        circuit_breakers: &spec.circuit_breakers,
        keepalive: spec.keepalive.as_ref(),
        health_checks: &spec.health_checks,
        outlier_detection: spec.outlier_detection.as_deref(),
        dns_type: spec.dns_type.as_deref(),
        respect_dns_ttl: spec.respect_dns_ttl,
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        cluster_tag: spec.cluster_tag.as_deref(),
        stats_name: spec.stats_name.as_deref(),
    }
}

fn time(path: &str, milliseconds: i64, problems: &mut Vec<Problem>) -> Result<Duration, Problem> {
    match u64::try_from(milliseconds) {
        Ok(milliseconds) => Ok(duration::milliseconds(path, milliseconds, problems)),
        Err(_) => Err(not_served(
            path,
            "must not be negative; 0 disables the limit",
        )),
    }
}

fn not_served(path: &str, fact: impl Display) -> Problem {
    super::not_served(Kind::Mapping, path, fact)
}

fn check_regex(path: &str, pattern: &str) -> Result<(), Problem> {
    regex::check(pattern).map_err(|fact| {
        let message = format!("{fact}; {}", outcome(Kind::Mapping));
        Problem::invalid(Reason::INVALID_REGEX, path, message)
    })
}

/// Rejects control characters, as Envoy does in all parts of a request.
fn check_text(path: &str, text: &str) -> Result<(), Problem> {
    if text.chars().any(char::is_control) {
        return Err(not_served(path, "must not contain control characters"));
    }
    Ok(())
}
