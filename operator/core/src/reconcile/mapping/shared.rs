//! Settings that apply to a whole group of Mappings, and what is hashed to select an address.

use std::collections::BTreeMap;

use nuncio_crds::{
    field::{self, LoadBalancerPolicy},
    v3alpha1::MappingSpec,
};
use nuncio_ir::{EnvoyVersion, HashPolicy, RetryPolicy, Rewrite};

use super::{cors, header, rewrite};
use crate::{
    reconcile::{AddedHeaders, Shared, duration, ignored, is_header_name, overridden, replaced},
    report::{Problem, Reason},
};

/// The settings that apply to the whole group.
pub(in crate::reconcile) fn shared(
    spec: &MappingSpec,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Result<Shared, Problem> {
    let is_redundant = spec.regex_rewrite.is_some()
        && spec
            .rewrite
            .as_deref()
            .is_some_and(|rewrite| !matches!(rewrite, "" | "/"));
    if is_redundant {
        problems.push(overridden("rewrite", "regex_rewrite"));
    }
    let (add_request_headers, add_response_headers) = (
        added(
            "spec.add_request_headers",
            &spec.add_request_headers,
            envoy,
            problems,
        ),
        added(
            "spec.add_response_headers",
            &spec.add_response_headers,
            envoy,
            problems,
        ),
    );
    let mut removed = |path: &str, names: &[String]| {
        (!names.is_empty()).then(|| header::removed(path, names, problems))
    };
    let remove_request_headers =
        removed("spec.remove_request_headers", &spec.remove_request_headers);
    let remove_response_headers = removed(
        "spec.remove_response_headers",
        &spec.remove_response_headers,
    );
    let regex_rewrite: Option<Rewrite> = spec
        .regex_rewrite
        .as_ref()
        .map(|map| rewrite::regex_map("spec.regex_rewrite", map))
        .transpose()?;
    Ok(Shared {
        retry_policy: spec
            .retry_policy
            .as_ref()
            .and_then(|policy| retry(policy, problems)),
        cors: spec.cors.as_ref().map(|found| cors::cors(found, problems)),
        allow_upgrade: upgrades(spec, problems),
        high_priority: priority(spec, problems),
        regex_rewrite,
        remove_request_headers,
        remove_response_headers,
        add_request_headers,
        add_response_headers,
    })
}

fn added(
    path: &str,
    headers: &BTreeMap<String, field::AddedHeader>,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Option<AddedHeaders> {
    (!headers.is_empty()).then(|| header::added(path, headers, envoy, problems))
}

fn retry(policy: &field::RetryPolicy, problems: &mut Vec<Problem>) -> Option<RetryPolicy> {
    let Some(on) = policy.retry_on else {
        problems.push(Problem::ignored(
            Reason::PARTIALLY_INVALID,
            "spec.retry_policy.retry_on",
            "retry_on is missing; retry_policy is ignored",
        ));
        return None;
    };
    let on = serde_json::to_value(on).ok()?.as_str()?.to_owned();
    let mut retry = RetryPolicy {
        on,
        retries: None,
        per_try_timeout: None,
    };
    if let Some(number) = policy.num_retries {
        match u32::try_from(number) {
            Ok(number) => retry.retries = Some(number),
            Err(_) => problems.push(ignored(
                "spec.retry_policy.num_retries",
                "must be from 0 to 4294967295",
            )),
        }
    }
    if let Some(text) = policy
        .per_try_timeout
        .as_deref()
        .filter(|text| !text.is_empty())
    {
        match duration::parse(text) {
            Ok(time) => retry.per_try_timeout = Some(time),
            Err(fact) => {
                problems.push(ignored("spec.retry_policy.per_try_timeout", fact));
            }
        }
    }
    Some(retry)
}

/// Protocols, each once: Envoy rejects duplicates, whatever their letter case.
fn upgrades(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let mut upgrades: Vec<String> = Vec::new();
    for (index, protocol) in spec.allow_upgrade.iter().enumerate() {
        let path = format!("spec.allow_upgrade[{index}]");
        let has_token = |text: &str| text.split('/').all(is_header_name);
        if protocol.eq_ignore_ascii_case("connect") || !has_token(protocol) {
            problems.push(ignored(
                path,
                format!("unsupported upgrade protocol {protocol:?}"),
            ));
        } else if !upgrades
            .iter()
            .any(|found| found.eq_ignore_ascii_case(protocol))
        {
            upgrades.push(protocol.clone());
        }
    }
    let has_websocket = upgrades
        .iter()
        .any(|found| found.eq_ignore_ascii_case("websocket"));
    if spec.use_websocket == Some(true) && !has_websocket {
        upgrades.push("websocket".to_owned());
    }
    let is_set = !spec.allow_upgrade.is_empty() || spec.use_websocket.is_some();
    is_set.then_some(upgrades)
}

fn priority(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Option<bool> {
    let text = spec.priority.as_deref().filter(|text| !text.is_empty())?;
    match text.to_ascii_lowercase().as_str() {
        "default" => Some(false),
        "high" => Some(true),
        _ => {
            let fact = format!("must be default or high, not {text:?}");
            problems.push(ignored("spec.priority", fact));
            None
        }
    }
}

/// What is hashed to select an address: the first of cookie, header and client address that is set.
pub(in crate::reconcile) fn hash_policy(
    spec: &MappingSpec,
    problems: &mut Vec<Problem>,
) -> Option<HashPolicy> {
    let balancer = spec.load_balancer.as_ref()?;
    let is_by_hash = matches!(
        balancer.policy,
        LoadBalancerPolicy::RingHash | LoadBalancerPolicy::Maglev
    );
    let header = balancer.header.as_deref().filter(|name| !name.is_empty());
    let has_source = balancer.source_ip == Some(true);
    let fields = [
        ("cookie", balancer.cookie.is_some()),
        ("header", header.is_some()),
        ("source_ip", has_source),
    ];
    let mut set = fields.iter().filter(|(_, is_set)| *is_set);
    let (first, second) = (set.next(), set.next());
    match (first, second) {
        (None, _) if !is_by_hash => return None,
        (Some(_), _) if !is_by_hash => {
            problems.push(ignored(
                "spec.load_balancer",
                "cookie, header and source_ip need policy ring_hash or maglev",
            ));
            return None;
        }
        (None, _) => problems.push(replaced(
            "spec.load_balancer",
            "set cookie, header or source_ip",
            "random addresses",
        )),
        (Some((field, _)), Some(_)) => problems.push(replaced(
            "spec.load_balancer",
            "only one of cookie, header and source_ip is supported",
            field,
        )),
        (Some(_), None) => {}
    }
    if let Some(cookie) = &balancer.cookie {
        return cookie_policy(cookie, problems);
    }
    if let Some(name) = header {
        if !is_header_name(name.strip_prefix(':').unwrap_or(name)) {
            problems.push(ignored(
                "spec.load_balancer.header",
                format!("invalid header name {name:?}"),
            ));
            return None;
        }
        return Some(HashPolicy::Header(name.to_ascii_lowercase()));
    }
    has_source.then_some(HashPolicy::SourceIp)
}

fn cookie_policy(cookie: &field::HashCookie, problems: &mut Vec<Problem>) -> Option<HashPolicy> {
    if !is_header_name(&cookie.name) {
        problems.push(ignored(
            "spec.load_balancer.cookie.name",
            format!("invalid cookie name {:?}", cookie.name),
        ));
        return None;
    }
    let path = cookie.path.clone().filter(|path| !path.is_empty());
    let is_usable = |path: &String| !path.chars().any(|c| c.is_control() || c == ';');
    if path.as_ref().is_some_and(|path| !is_usable(path)) {
        problems.push(ignored(
            "spec.load_balancer.cookie.path",
            "must not contain semicolons or control characters",
        ));
    }
    let ttl = cookie.ttl.as_deref().filter(|text| !text.is_empty());
    let ttl = ttl.and_then(|text| match duration::parse(text) {
        Ok(ttl) => Some(ttl),
        Err(fact) => {
            problems.push(ignored("spec.load_balancer.cookie.ttl", fact));
            None
        }
    });
    Some(HashPolicy::Cookie {
        name: cookie.name.clone(),
        path: path.filter(is_usable),
        ttl,
    })
}
