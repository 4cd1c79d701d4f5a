//! What a Mapping or TCPMapping asks of its upstream, and what we make of it.

use std::time::Duration;

use nuncio_crds::field;
use nuncio_ir::{Balancer, CircuitBreaker, Keepalive};

use super::{health_check, outlier, parse, qualified, service};
use crate::{
    object::ObjectRef,
    reconcile::{ClusterSettings, Name, Origination, Resolver, Upstream, duration},
    report::{Problem, Reason},
    settings::Settings,
};

/// The fields of a Mapping or TCPMapping that concern its upstream.
#[derive(Clone, Copy, Default)]
pub(in crate::reconcile) struct Asked<'a> {
    pub(in crate::reconcile) service: &'a str,
    /// Nothing is sent there.
    pub(in crate::reconcile) is_redirect: bool,
    pub(in crate::reconcile) resolver: Option<&'a str>,
    pub(in crate::reconcile) tls: Option<&'a str>,
    pub(in crate::reconcile) grpc: Option<bool>,
    pub(in crate::reconcile) connect_timeout_ms: Option<i64>,
    pub(in crate::reconcile) idle_timeout_ms: Option<i64>,
    pub(in crate::reconcile) max_connection_lifetime_ms: Option<i64>,
    pub(in crate::reconcile) load_balancer: Option<&'a field::LoadBalancer>,
    pub(in crate::reconcile) circuit_breakers: &'a [field::CircuitBreaker],
    pub(in crate::reconcile) keepalive: Option<&'a field::Keepalive>,
    pub(in crate::reconcile) health_checks: &'a [field::HealthCheck],
    pub(in crate::reconcile) outlier_detection: Option<&'a str>,
    pub(in crate::reconcile) dns_type: Option<&'a str>,
    pub(in crate::reconcile) respect_dns_ttl: Option<bool>,
    pub(in crate::reconcile) enable_ipv4: Option<bool>,
    pub(in crate::reconcile) enable_ipv6: Option<bool>,
    pub(in crate::reconcile) cluster_tag: Option<&'a str>,
    pub(in crate::reconcile) stats_name: Option<&'a str>,
}

/// The upstream. Only a service that cannot be read stops its object: of all else, what is wrong is left out.
///
/// # Errors
/// The problem with the service.
pub(in crate::reconcile) fn upstream(
    asked: &Asked<'_>,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Upstream, Problem> {
    let context = asked.tls.filter(|name| !name.is_empty());
    let text = parse(asked.service, context.is_some()).map_err(|flaw| {
        let kind = object.kind;
        let message = format!(
            "{:?} {flaw}; nothing of this {kind} is served",
            asked.service
        );
        Problem::invalid(Reason::INVALID, "spec.service", message)
    })?;
    let tls = match context {
        None if text.scheme == Some("https") => Origination::Plain,
        None => Origination::None,
        Some(name) => {
            if text.scheme == Some("http") {
                problems.push(Problem::ignored(
                    Reason::CONFLICT,
                    "spec.tls",
                    "the service says http:// and tls names a TLSContext; TLS is originated"
                        .to_owned(),
                ));
            }
            Origination::Context(Name {
                namespace: object.namespace.clone(),
                name: name.into(),
            })
        }
    };
    let resolver = match asked.resolver {
        None | Some("") => Resolver::Default,
        Some(name) => Resolver::Named(name.into()),
    };
    let meaning = if text.address.is_some() || asked.is_redirect {
        None
    } else {
        service(&text.host, &object.namespace)
    };
    Ok(Upstream {
        host: qualified(
            &text.host,
            &object.namespace,
            &settings.ambassador_namespace,
        ),
        port: text.port,
        address: text.address,
        only_service: meaning.as_ref().is_some_and(|(_, only)| *only),
        service: meaning.map(|(name, _)| name),
        tls,
        resolver,
        http2: asked.grpc == Some(true),
        settings: cluster_settings(asked, problems),
    })
}

fn cluster_settings(asked: &Asked<'_>, problems: &mut Vec<Problem>) -> ClusterSettings {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let connect_timeout = match asked.connect_timeout_ms {
        Some(0) => {
            problems.push(left_out(
                "spec.connect_timeout_ms",
                "a connection takes more than no time",
            ));
            None
        }
        other => time("spec.connect_timeout_ms", other, problems),
    };
    let lifetime = time(
        "spec.cluster_max_connection_lifetime_ms",
        asked.max_connection_lifetime_ms,
        problems,
    );
    ClusterSettings {
        connect_timeout,
        enable_ipv4: asked.enable_ipv4,
        enable_ipv6: asked.enable_ipv6,
        idle_timeout: time(
            "spec.cluster_idle_timeout_ms",
            asked.idle_timeout_ms,
            problems,
        ),
        max_connection_lifetime: lifetime,
        logical_dns: logical_dns(asked.dns_type, problems),
        respect_dns_ttl: asked.respect_dns_ttl == Some(true),
        balancer: asked.load_balancer.map(|balancer| match balancer.policy {
            field::LoadBalancerPolicy::RoundRobin => Balancer::RoundRobin,
            field::LoadBalancerPolicy::LeastRequest => Balancer::LeastRequest,
            field::LoadBalancerPolicy::RingHash => Balancer::RingHash,
            field::LoadBalancerPolicy::Maglev => Balancer::Maglev,
        }),
        circuit_breakers: (!asked.circuit_breakers.is_empty())
            .then(|| circuit_breakers(asked.circuit_breakers, problems)),
        keepalive: asked.keepalive.map(|found| keepalive(found, problems)),
        health_checks: health_check::health_checks(
            asked.health_checks,
            asked.grpc == Some(true),
            problems,
        ),
        outlier_detection: text(asked.outlier_detection)
            .and_then(|text| outlier::detection(&text, problems)),
        stat_name: text(asked.stats_name),
        tag: text(asked.cluster_tag),
    }
}

/// Something that is left out, while the rest is served.
pub(super) fn left_out(path: &str, message: &str) -> Problem {
    Problem::ignored(Reason::INVALID, path, format!("{message}; it is left out"))
}

fn time(path: &str, milliseconds: Option<i64>, problems: &mut Vec<Problem>) -> Option<Duration> {
    match u64::try_from(milliseconds?) {
        Ok(milliseconds) => Some(duration::milliseconds(path, milliseconds, problems)),
        Err(_) => {
            problems.push(left_out(path, "a time cannot be negative"));
            None
        }
    }
}

fn logical_dns(dns_type: Option<&str>, problems: &mut Vec<Problem>) -> bool {
    let text = dns_type.unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "" | "strict_dns" => false,
        "logical_dns" => true,
        _ => {
            problems.push(Problem::ignored(
                Reason::INVALID,
                "spec.dns_type",
                format!("{text:?} is neither strict_dns nor logical_dns; strict_dns is used"),
            ));
            false
        }
    }
}

/// One breaker for each priority: Envoy would take the first of several.
fn circuit_breakers(
    breakers: &[field::CircuitBreaker],
    problems: &mut Vec<Problem>,
) -> Vec<CircuitBreaker> {
    let mut found: Vec<CircuitBreaker> = Vec::new();
    for (index, breaker) in breakers.iter().enumerate() {
        let path = format!("spec.circuit_breakers[{index}]");
        let high_priority = breaker.priority == Some(field::BreakerPriority::High);
        if found
            .iter()
            .any(|known| known.high_priority == high_priority)
        {
            problems.push(left_out(&path, "there is one of this priority already"));
            continue;
        }
        let mut limit = |field: &str, limit| number(&format!("{path}.{field}"), limit, problems);
        found.push(CircuitBreaker {
            high_priority,
            max_connections: limit("max_connections", breaker.max_connections),
            max_pending_requests: limit("max_pending_requests", breaker.max_pending_requests),
            max_requests: limit("max_requests", breaker.max_requests),
            max_retries: limit("max_retries", breaker.max_retries),
        });
    }
    found
}

fn keepalive(keepalive: &field::Keepalive, problems: &mut Vec<Problem>) -> Keepalive {
    Keepalive {
        probes: number("spec.keepalive.probes", keepalive.probes, problems),
        idle_seconds: number("spec.keepalive.idle_time", keepalive.idle_time, problems),
        interval_seconds: number("spec.keepalive.interval", keepalive.interval, problems),
    }
}

fn number(path: &str, number: Option<i64>, problems: &mut Vec<Problem>) -> Option<u32> {
    match u32::try_from(number?) {
        Ok(number) => Some(number),
        Err(_) => {
            problems.push(left_out(path, "a number from 0 to 4294967295 was expected"));
            None
        }
    }
}
