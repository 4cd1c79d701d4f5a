//! Settings that hold for a whole group of Mappings, and what is hashed to choose an address.

use std::collections::BTreeMap;

use nuncio_crds::{
    field::{self, LoadBalancerPolicy},
    v3alpha1::MappingSpec,
};
use nuncio_ir::{AddedHeader, HashPolicy, RetryPolicy, Rewrite};

use super::{cors, header, left_out, rewrite};
use crate::{
    reconcile::{Shared, duration, is_header_name},
    report::{Problem, Reason},
};

/// What holds for the whole group.
pub(super) fn shared(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Result<Shared, Problem> {
    let is_redundant = spec.regex_rewrite.is_some()
        && spec
            .rewrite
            .as_deref()
            .is_some_and(|rewrite| !matches!(rewrite, "" | "/"));
    if is_redundant {
        problems.push(Problem::ignored(
            Reason::IGNORED,
            "spec.rewrite",
            "rewrite is ignored because regex_rewrite is set".to_owned(),
        ));
    }
    let (add_request_headers, add_response_headers) = (
        added(
            "spec.add_request_headers",
            &spec.add_request_headers,
            problems,
        ),
        added(
            "spec.add_response_headers",
            &spec.add_response_headers,
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
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<String, AddedHeader>> {
    (!headers.is_empty()).then(|| header::added(path, headers, problems))
}

fn retry(policy: &field::RetryPolicy, problems: &mut Vec<Problem>) -> Option<RetryPolicy> {
    let Some(on) = policy.retry_on else {
        problems.push(left_out(
            "spec.retry_policy.retry_on",
            "it does not say on which failures requests are tried again",
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
            Err(_) => problems.push(left_out(
                "spec.retry_policy.num_retries",
                "a number of retries from 0 was expected",
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
            Err(flaw) => problems.push(left_out(
                "spec.retry_policy.per_try_timeout",
                &format!("{text:?} {flaw}"),
            )),
        }
    }
    Some(retry)
}

/// Protocols, each once: Envoy refuses the same in other letters.
fn upgrades(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let mut upgrades: Vec<String> = Vec::new();
    for (index, protocol) in spec.allow_upgrade.iter().enumerate() {
        let path = format!("spec.allow_upgrade[{index}]");
        let has_token = |text: &str| text.split('/').all(is_header_name);
        if protocol.eq_ignore_ascii_case("connect") || !has_token(protocol) {
            let flaw = format!("{protocol:?} is no protocol that a connection can be upgraded to");
            problems.push(left_out(&path, &flaw));
        } else if !upgrades
            .iter()
            .any(|known| known.eq_ignore_ascii_case(protocol))
        {
            upgrades.push(protocol.clone());
        }
    }
    let has_websocket = upgrades
        .iter()
        .any(|known| known.eq_ignore_ascii_case("websocket"));
    if spec.use_websocket == Some(true) && !has_websocket {
        upgrades.push("websocket".to_owned());
    }
    let says_so = !spec.allow_upgrade.is_empty() || spec.use_websocket.is_some();
    says_so.then_some(upgrades)
}

fn priority(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Option<bool> {
    let text = spec.priority.as_deref().filter(|text| !text.is_empty())?;
    match text.to_ascii_lowercase().as_str() {
        "default" => Some(false),
        "high" => Some(true),
        _ => {
            let flaw = format!("{text:?} is neither default nor high");
            problems.push(left_out("spec.priority", &flaw));
            None
        }
    }
}

/// What a balancer that chooses by a hash is given: the first of cookie, header and address of the client.
pub(super) fn hash_policy(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Option<HashPolicy> {
    let balancer = spec.load_balancer.as_ref()?;
    let is_by_hash = matches!(
        balancer.policy,
        LoadBalancerPolicy::RingHash | LoadBalancerPolicy::Maglev
    );
    let header = balancer.header.as_deref().filter(|name| !name.is_empty());
    let has_source = balancer.source_ip == Some(true);
    let given = [balancer.cookie.is_some(), header.is_some(), has_source];
    let number = given.iter().filter(|given| **given).count();
    if !is_by_hash {
        if number > 0 {
            problems.push(left_out(
                "spec.load_balancer",
                "only ring_hash and maglev choose by a cookie, a header or the address of the client",
            ));
        }
        return None;
    }
    if number != 1 {
        problems.push(Problem::ignored(
            Reason::INVALID,
            "spec.load_balancer",
            if number == 0 {
                "it does not say what is hashed: cookie, header or source_ip; addresses are chosen at random".to_owned()
            } else {
                "only one of cookie, header and source_ip is hashed: the first of them that is set".to_owned()
            },
        ));
    }
    if let Some(cookie) = &balancer.cookie {
        return cookie_policy(cookie, problems);
    }
    if let Some(name) = header {
        if !is_header_name(name.strip_prefix(':').unwrap_or(name)) {
            let flaw = format!("{name:?} is no header name");
            problems.push(left_out("spec.load_balancer.header", &flaw));
            return None;
        }
        return Some(HashPolicy::Header(name.to_ascii_lowercase()));
    }
    has_source.then_some(HashPolicy::SourceIp)
}

fn cookie_policy(cookie: &field::HashCookie, problems: &mut Vec<Problem>) -> Option<HashPolicy> {
    if !is_header_name(&cookie.name) {
        let flaw = format!("{:?} is no name of a cookie", cookie.name);
        problems.push(left_out("spec.load_balancer.cookie.name", &flaw));
        return None;
    }
    let path = cookie.path.clone().filter(|path| !path.is_empty());
    let is_usable = |path: &String| !path.chars().any(|c| c.is_control() || c == ';');
    if path.as_ref().is_some_and(|path| !is_usable(path)) {
        problems.push(left_out(
            "spec.load_balancer.cookie.path",
            "there is a semicolon or a control character in it",
        ));
    }
    let ttl = cookie.ttl.as_deref().filter(|text| !text.is_empty());
    let ttl = ttl.and_then(|text| match duration::parse(text) {
        Ok(ttl) => Some(ttl),
        Err(flaw) => {
            let flaw = format!("{text:?} {flaw}");
            problems.push(left_out("spec.load_balancer.cookie.ttl", &flaw));
            None
        }
    });
    Some(HashPolicy::Cookie {
        name: cookie.name.clone(),
        path: path.filter(is_usable),
        ttl,
    })
}
