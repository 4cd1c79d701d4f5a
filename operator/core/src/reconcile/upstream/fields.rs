//! The fields of a Mapping or TCPMapping that describe its upstream, and the fragment that follows from them.

use std::time::Duration;

use nuncio_crds::field;
use nuncio_ir::{Balancer, CircuitBreaker, EnvoyVersion, Keepalive};

use super::{health_check, outlier, parse, qualified, service};
use crate::{
    object::ObjectRef,
    reconcile::{
        ClusterSettings, Name, Origination, Resolver, Upstream, duration, ignored, not_served,
        replaced,
    },
    report::{Problem, Reason},
    settings::Settings,
};

/// The fields of a Mapping or TCPMapping that describe its upstream.
#[derive(Clone, Copy, Default)]
pub(in crate::reconcile) struct UpstreamFields<'a> {
    pub(in crate::reconcile) service: &'a str,
    /// Whether the whole gateway uses it, so that its name means a Service in the gateway's namespace.
    pub(in crate::reconcile) is_edge: bool,
    /// Whether it is only the target of a redirect.
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

/// The upstream. Only an invalid service makes the object invalid; other invalid fields are ignored.
///
/// # Errors
/// The problem with the service.
pub(in crate::reconcile) fn upstream(
    fields: &UpstreamFields<'_>,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Upstream, Problem> {
    let context = fields.tls.filter(|name| !name.is_empty());
    let text = parse(fields.service, context.is_some())
        .map_err(|fact| not_served(object.kind, "spec.service", fact))?;
    let tls = match context {
        None if text.scheme == Some("https") => {
            if !fields.is_redirect {
                problems.push(Problem::notice(
                    Reason::UNVERIFIED_UPSTREAM,
                    "spec.service",
                    "the certificate of the service is not verified; set tls to a TLSContext with ca_secret",
                ));
            }
            Origination::Plain
        }
        None => Origination::None,
        Some(name) => {
            if text.scheme == Some("http") {
                problems.push(Problem::ignored(
                    Reason::CONFLICT,
                    "spec.tls",
                    "service starts with http:// but tls is set; using TLS",
                ));
            }
            Origination::Context(Name {
                namespace: object.namespace.clone(),
                name: name.into(),
            })
        }
    };
    let resolver = match fields.resolver {
        None | Some("") => Resolver::Default,
        Some(name) => Resolver::Named(name.into()),
    };
    let namespace = if fields.is_edge {
        &settings.ambassador_namespace
    } else {
        &*object.namespace
    };
    let named = if text.address.is_some() || fields.is_redirect {
        None
    } else {
        service(&text.host, namespace)
    };
    let mut fields = *fields;
    if settings.disable_endpoints && fields.load_balancer.take().is_some() {
        problems.push(Problem::ignored(
            Reason::IGNORED,
            "spec.load_balancer",
            "AMBASSADOR_DISABLE_ENDPOINTS is set; using the default load balancer",
        ));
    }
    Ok(Upstream {
        host: qualified(&text.host, namespace, &settings.ambassador_namespace),
        written: text.written,
        port: text.port,
        has_port: text.has_port,
        address: text.address,
        in_own_namespace: named
            .as_ref()
            .filter(|_| is_bare(&text.host) && *namespace != *settings.ambassador_namespace)
            .map(|(name, _)| {
                let own = Name {
                    namespace: settings.ambassador_namespace.as_str().into(),
                    name: name.name.clone(),
                };
                (text.host.clone(), own)
            }),
        only_service: named.as_ref().is_some_and(|(_, only)| *only),
        service: named.map(|(name, _)| name),
        tls,
        resolver,
        http2: fields.grpc == Some(true),
        may_be_own: false,
        settings: cluster_settings(&fields, settings.oldest_envoy, problems).into(),
    })
}

/// Whether a name says nothing about its namespace.
fn is_bare(host: &str) -> bool {
    !host.contains(['.', ':'])
}

/// How connections are made and shared.
pub(in crate::reconcile) fn cluster_settings(
    fields: &UpstreamFields<'_>,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> ClusterSettings {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let connect_timeout = match fields.connect_timeout_ms {
        Some(0) => {
            problems.push(replaced(
                "spec.connect_timeout_ms",
                "must be at least 1",
                "the default",
            ));
            None
        }
        other => time("spec.connect_timeout_ms", other, problems),
    };
    let lifetime = time(
        "spec.cluster_max_connection_lifetime_ms",
        fields.max_connection_lifetime_ms,
        problems,
    );
    ClusterSettings {
        connect_timeout,
        enable_ipv4: fields.enable_ipv4,
        enable_ipv6: fields.enable_ipv6,
        idle_timeout: time(
            "spec.cluster_idle_timeout_ms",
            fields.idle_timeout_ms,
            problems,
        ),
        max_connection_lifetime: lifetime,
        logical_dns: logical_dns(fields.dns_type, problems),
        respect_dns_ttl: fields.respect_dns_ttl == Some(true),
        balancer: fields.load_balancer.map(|balancer| match balancer.policy {
            field::LoadBalancerPolicy::RoundRobin => Balancer::RoundRobin,
            field::LoadBalancerPolicy::LeastRequest => Balancer::LeastRequest,
            field::LoadBalancerPolicy::RingHash => Balancer::RingHash,
            field::LoadBalancerPolicy::Maglev => Balancer::Maglev,
        }),
        circuit_breakers: (!fields.circuit_breakers.is_empty())
            .then(|| circuit_breakers(fields.circuit_breakers, problems)),
        keepalive: fields.keepalive.map(|found| keepalive(found, problems)),
        health_checks: health_check::health_checks(
            fields.health_checks,
            fields.grpc == Some(true),
            envoy,
            problems,
        ),
        outlier_detection: text(fields.outlier_detection)
            .and_then(|text| outlier::detection(&text, problems)),
        stat_name: text(fields.stats_name),
        tag: text(fields.cluster_tag),
    }
}

fn time(path: &str, milliseconds: Option<i64>, problems: &mut Vec<Problem>) -> Option<Duration> {
    match u64::try_from(milliseconds?) {
        Ok(milliseconds) => Some(duration::milliseconds(path, milliseconds, problems)),
        Err(_) => {
            problems.push(ignored(path, "must not be negative"));
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
            let fact = format!("must be strict_dns or logical_dns, not {text:?}");
            problems.push(replaced("spec.dns_type", fact, "strict_dns"));
            false
        }
    }
}

/// One circuit breaker for each priority: Envoy uses the first of several.
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
            .any(|earlier| earlier.high_priority == high_priority)
        {
            let priority = if high_priority { "high" } else { "default" };
            let fact = format!("duplicate circuit breaker for priority {priority}");
            problems.push(ignored(path, fact));
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
            problems.push(ignored(path, "must be from 0 to 4294967295"));
            None
        }
    }
}
