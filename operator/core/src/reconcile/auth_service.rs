//! An AuthService: a service that authorizes requests.
//!
//! An object that is invalid adds that fact: the requests that it would authorize must not be served without it.

use std::collections::{BTreeMap, BTreeSet};

use nuncio_crds::v3alpha1::{AuthProtocol, AuthServiceSpec, ProtocolVersion};
use nuncio_ir::{AuthorizationBody, EnvoyVersion};
use serde_json::Value;

use super::{
    AuthCall, AuthRequests, AuthService, Found, Fragment, duration, ignored, is_header_name,
    mapping::header,
    outcome, overridden, parse, replaced,
    upstream::{self, UpstreamFields},
    without_effect,
};
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    settings::Settings,
};

/// Request headers that every AuthService gets.
const REQUEST_HEADERS: [&str; 8] = [
    "authorization",
    "cookie",
    "from",
    "proxy-authorization",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Headers of every AuthService's response that are passed on.
const RESPONSE_HEADERS: [&str; 5] = [
    "authorization",
    "location",
    "proxy-authenticate",
    "set-cookie",
    "www-authenticate",
];

/// Timeout of a call in milliseconds.
const TIMEOUT: u64 = 5000;
/// Bytes of the request body that `allow_request_body` sends.
const BODY: u32 = 4096;

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    if !names_a_service(&value) {
        let message = "auth_service is missing; this AuthService has no effect";
        let problem = Problem::invalid(Reason::INVALID, "spec.auth_service", message);
        return (None, vec![problem]);
    }
    // whatever else it is, an AuthService is a default one unless it says so
    let is_default = value["spec"]["default"] != Value::Bool(false);
    let unusable = Some(Fragment::UnusableAuthService(is_default));
    let (spec, mut problems): (AuthServiceSpec, _) = match parse::spec(value, object.kind, true) {
        Ok(parsed) => parsed,
        Err(problem) => return (unusable, vec![closing(problem, object.kind, is_default)]),
    };
    match service(&spec, is_default, object, settings, &mut problems) {
        Ok(service) => (Some(Fragment::AuthService(service.into())), problems),
        Err(problem) => {
            problems.push(closing(problem, object.kind, is_default));
            (unusable, problems)
        }
    }
}

/// Whether the field that makes the object one of consequence is set.
fn names_a_service(value: &Value) -> bool {
    match &value["spec"]["auth_service"] {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    }
}

/// Adds the outcome to the problem of an AuthService that cannot be used.
fn closing(mut problem: Problem, kind: Kind, is_default: bool) -> Problem {
    let closed = if is_default {
        "requests get 500"
    } else {
        "requests of Mappings that name it get 500"
    };
    let fact = problem
        .message
        .strip_suffix(&format!("; {}", outcome(kind)))
        .unwrap_or(&problem.message);
    problem.message = format!("{fact}; {closed} until it is fixed");
    problem
}

fn invalid(path: &str, fact: impl Into<String>) -> Problem {
    Problem::invalid(Reason::INVALID, path, fact)
}

fn service(
    spec: &AuthServiceSpec,
    is_default: bool,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<AuthService, Problem> {
    let is_grpc = spec.proto == Some(AuthProtocol::Grpc);
    if is_grpc && spec.protocol_version != Some(ProtocolVersion::V3) {
        let fact = "proto grpc requires protocol_version v3";
        return Err(invalid("spec.protocol_version", fact));
    }
    let fields = UpstreamFields {
        service: &spec.auth_service,
        is_edge: true,
        tls: spec.tls.as_deref(),
        stats_name: spec.stats_name.as_deref(),
        grpc: is_grpc.then_some(true),
        circuit_breakers: &spec.circuit_breakers,
        ..UpstreamFields::default()
    };
    let before = problems.len();
    let upstream = upstream::upstream(&fields, object, settings, problems);
    for problem in &mut problems[before..] {
        of_auth_service(problem);
    }
    let upstream = upstream.map_err(|mut problem| {
        of_auth_service(&mut problem);
        problem
    })?;
    Ok(AuthService {
        is_default,
        upstream,
        call: if is_grpc {
            report_http_fields(spec, problems);
            AuthCall::Grpc
        } else {
            AuthCall::Http(requests(spec, settings.oldest_envoy, problems)?)
        },
        timeout: match spec.timeout_ms.map(u64::try_from) {
            None => duration::milliseconds("spec.timeout_ms", TIMEOUT, problems),
            Some(Ok(number)) => duration::milliseconds("spec.timeout_ms", number, problems),
            Some(Err(_)) => {
                let default = format!("the default of {TIMEOUT}");
                problems.push(replaced("spec.timeout_ms", "must not be negative", default));
                duration::milliseconds("spec.timeout_ms", TIMEOUT, problems)
            }
        },
        body: body(spec, problems)?,
        allow_on_failure: spec.failure_mode_allow == Some(true),
        status_on_error: status(spec, problems),
    })
}

/// A problem of the upstream with the field of this kind.
fn of_auth_service(problem: &mut Problem) {
    if problem.path == "spec.service" {
        "spec.auth_service".clone_into(&mut problem.path);
    }
}

/// A notice for each field that only requests of an own kind have.
fn report_http_fields(spec: &AuthServiceSpec, problems: &mut Vec<Problem>) {
    let set = [
        ("path_prefix", is_set(spec.path_prefix.as_deref())),
        (
            "allowed_request_headers",
            !spec.allowed_request_headers.is_empty(),
        ),
        (
            "allowed_authorization_headers",
            !spec.allowed_authorization_headers.is_empty(),
        ),
        ("add_auth_headers", !spec.add_auth_headers.is_empty()),
        (
            "add_linkerd_headers",
            spec.add_linkerd_headers == Some(true),
        ),
    ];
    for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        let message = format!("{field} has no effect with proto grpc");
        problems.push(without_effect(format!("spec.{field}"), message));
    }
}

fn is_set(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn requests(
    spec: &AuthServiceSpec,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Result<AuthRequests, Problem> {
    Ok(AuthRequests {
        path_prefix: path_prefix(spec.path_prefix.as_deref(), problems)?,
        request_headers: names(
            "spec.allowed_request_headers",
            &REQUEST_HEADERS,
            &spec.allowed_request_headers,
            problems,
        ),
        response_headers: names(
            "spec.allowed_authorization_headers",
            &RESPONSE_HEADERS,
            &spec.allowed_authorization_headers,
            problems,
        ),
        added_headers: added_headers(&spec.add_auth_headers, envoy, problems),
        add_linkerd_headers: spec.add_linkerd_headers,
    })
}

/// Without the prefix another check could be made than the one that is meant, so an invalid one is not left out.
fn path_prefix(prefix: Option<&str>, problems: &mut Vec<Problem>) -> Result<String, Problem> {
    let path = "spec.path_prefix";
    let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) else {
        return Ok(String::new());
    };
    if prefix.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(invalid(
            path,
            "must not contain spaces or control characters",
        ));
    }
    if prefix.starts_with('/') {
        return Ok(prefix.to_owned());
    }
    let prefix = format!("/{prefix}");
    problems.push(replaced(path, "must start with /", format!("{prefix:?}")));
    Ok(prefix)
}

/// Names of headers, in lower case, with the ones that every AuthService has.
fn names(
    path: &str,
    built_in: &[&str],
    listed: &[String],
    problems: &mut Vec<Problem>,
) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = built_in.iter().map(|name| (*name).to_owned()).collect();
    for (index, name) in listed.iter().enumerate() {
        if is_header_name(name) {
            names.insert(name.to_ascii_lowercase());
        } else {
            let fact = format!("invalid header name {name:?}");
            problems.push(ignored(format!("{path}[{index}]"), fact));
        }
    }
    names
}

/// Headers that are added to requests. Of names that differ only in case the last is used, as for Mappings.
fn added_headers(
    headers: &BTreeMap<String, String>,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut added = BTreeMap::new();
    for (name, value) in headers {
        let path = format!("spec.add_auth_headers[{name}]");
        let checked = if name.eq_ignore_ascii_case("host") {
            Err(format!("{name:?} cannot be changed"))
        } else {
            header::check_name(name)
        };
        match checked.and_then(|()| header::check_value(value, envoy)) {
            Err(fact) => problems.push(ignored(path, fact)),
            Ok(()) => {
                if added
                    .insert(name.to_ascii_lowercase(), value.clone())
                    .is_some()
                {
                    let fact = "duplicate header: header names are case-insensitive";
                    problems.push(replaced(path, fact, "this one"));
                }
            }
        }
    }
    added
}

/// The body that the service gets. A maximum of 0 means none, as in Emissary.
fn body(
    spec: &AuthServiceSpec,
    problems: &mut Vec<Problem>,
) -> Result<Option<AuthorizationBody>, Problem> {
    let shorthand = spec.allow_request_body == Some(true);
    let Some(body) = &spec.include_body else {
        return Ok(shorthand.then_some(AuthorizationBody {
            max_bytes: BODY,
            allow_partial: true,
        }));
    };
    if shorthand {
        problems.push(overridden("allow_request_body", "include_body"));
    }
    let path = "spec.include_body.max_bytes";
    let max_bytes = match u32::try_from(body.max_bytes) {
        Ok(0) => {
            let message = "must be at least 1; the service gets no body";
            problems.push(Problem::ignored(Reason::PARTIALLY_INVALID, path, message));
            return Ok(None);
        }
        Ok(max_bytes) => max_bytes,
        Err(_) if body.max_bytes < 0 => return Err(invalid(path, "must be at least 1")),
        Err(_) => {
            let fact = "exceeds Envoy's maximum";
            problems.push(replaced(path, fact, u32::MAX));
            u32::MAX
        }
    };
    Ok(Some(AuthorizationBody {
        max_bytes,
        allow_partial: body.allow_partial,
    }))
}

/// The status of responses if the service cannot be reached. Envoy knows these.
fn status(spec: &AuthServiceSpec, problems: &mut Vec<Problem>) -> Option<u16> {
    let code = spec
        .status_on_error
        .as_ref()?
        .code
        .filter(|code| *code != 0)?;
    match u16::try_from(code) {
        Ok(
            code @ (200..=208
            | 226
            | 300..=305
            | 307
            | 308
            | 400..=417
            | 421..=424
            | 426
            | 428
            | 429
            | 431
            | 500..=508
            | 510
            | 511),
        ) => Some(code),
        _ => {
            let fact = format!("unsupported status code {code}");
            problems.push(replaced(
                "spec.status_on_error.code",
                fact,
                "the default of 403",
            ));
            None
        }
    }
}
