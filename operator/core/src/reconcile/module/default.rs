//! Keys for what other objects do not set: how requests are routed, and how upstreams are connected to.

use std::collections::BTreeMap;

use nuncio_crds::{
    field::{self, ErrorResponseOverride},
    v3alpha1::MappingSpec,
};
use serde_json::Value;

use super::{config::Config, label, section};
use crate::{
    defaults::{Defaults, LoadBalancer},
    reconcile::{
        mapping::{error_bodies, hash_policy, shared},
        regex::{DEFAULT_PROGRAM_SIZE, MAX_PROGRAM_SIZE},
        upstream::{UpstreamFields, cluster_settings},
    },
    report::Problem,
};

/// The defaults. Which resolver is used is found out when they are linked.
pub(super) fn defaults(config: &mut Config<'_>) -> Defaults {
    let built_in = Defaults::default();
    let spec = MappingSpec {
        retry_policy: config.typed("retry_policy"),
        cors: cors(config),
        load_balancer: config.typed("load_balancer"),
        ..MappingSpec::default()
    };
    let envoy = config.envoy();
    let shared = within(config, |problems| shared(&spec, envoy, problems)).unwrap_or_default();
    let hash = within(config, |problems| hash_policy(&spec, problems));
    let circuit_breakers = circuit_breakers(config);
    let keepalive = keepalive(config);
    let fields = UpstreamFields {
        load_balancer: spec.load_balancer.as_ref(),
        circuit_breakers: &circuit_breakers,
        keepalive: keepalive.as_ref(),
        ..UpstreamFields::default()
    };
    let cluster = within(config, |problems| {
        cluster_settings(&fields, envoy, problems)
    });
    let section = section::defaults(config);
    Defaults {
        request_timeout: config
            .milliseconds("cluster_request_timeout_ms", &3000)
            .unwrap_or(built_in.request_timeout),
        retry_policy: shared.retry_policy,
        cors: shared.cors,
        add_linkerd_headers: config.boolean("add_linkerd_headers", false),
        error_bodies: error_overrides(config),
        label_domain: config
            .text("default_label_domain")
            .map_or(built_in.label_domain, str::to_owned),
        labels: label::labels(config),
        mapping: section.mapping,
        secrets_have_namespaces: section.secrets_have_namespaces,
        uses_own_namespace: config
            .boolean("use_ambassador_namespace_for_service_resolution", false),
        connect_timeout: built_in.connect_timeout,
        cluster_idle_timeout: config.milliseconds("cluster_idle_timeout_ms", &"1 hour"),
        max_connection_lifetime: config
            .milliseconds("cluster_max_connection_lifetime_ms", &"no limit"),
        resolver: built_in.resolver,
        load_balancer: cluster
            .balancer
            .map(|balancer| LoadBalancer { balancer, hash }),
        circuit_breakers: cluster.circuit_breakers.unwrap_or_default(),
        keepalive: cluster.keepalive,
        enable_ipv4: config.optional_boolean("enable_ipv4", &true),
        enable_ipv6: config.optional_boolean("enable_ipv6", &false),
    }
}

/// Calls a reconciler of fields that other objects have, too, whose paths start with `spec`.
fn within<T>(config: &mut Config<'_>, reconcile: impl FnOnce(&mut Vec<Problem>) -> T) -> T {
    let mut problems = Vec::new();
    let found = reconcile(&mut problems);
    for mut problem in problems {
        if let Some(key) = problem.path.strip_prefix("spec.") {
            problem.path = config.path(key);
        }
        config.report(problem);
    }
    found
}

/// The maximum size of the programs of regular expressions.
pub(super) fn regex_max_size(config: &mut Config<'_>) -> usize {
    const KEY: &str = "regex_max_size";
    let Some(size) = config.number(KEY, 1..=u32::MAX) else {
        return DEFAULT_PROGRAM_SIZE;
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_PROGRAM_SIZE {
        config.replace(KEY, "exceeds the maximum", MAX_PROGRAM_SIZE);
    }
    size.min(MAX_PROGRAM_SIZE)
}

/// The policy. A Module is not converted between versions, so that texts with commas stand for lists as in version v2.
fn cors(config: &mut Config<'_>) -> Option<field::Cors> {
    let mut value = config.value("cors")?.clone();
    for (name, item) in value.as_object_mut().into_iter().flatten() {
        match item {
            Value::String(text) if name != "max_age" => {
                *item = text.split(',').map(str::trim).collect();
            }
            Value::Number(number) if name == "max_age" => *item = number.to_string().into(),
            _ => {}
        }
    }
    config.convert("cors", value)
}

/// The limits, with priorities in any letter case.
fn circuit_breakers(config: &mut Config<'_>) -> Vec<field::CircuitBreaker> {
    const KEY: &str = "circuit_breakers";
    let Some(value) = config.value(KEY) else {
        return Vec::new();
    };
    let mut value = value.clone();
    for item in value.as_array_mut().into_iter().flatten() {
        if let Some(Value::String(priority)) = item.get_mut("priority") {
            priority.make_ascii_lowercase();
        }
    }
    config.convert(KEY, value).unwrap_or_default()
}

/// The settings, whose idle time Emissary calls `time` in a Module.
fn keepalive(config: &mut Config<'_>) -> Option<field::Keepalive> {
    let mut value = config.value("keepalive")?.clone();
    if let Some(fields) = value.as_object_mut()
        && !fields.contains_key("idle_time")
        && let Some(time) = fields.remove("time")
    {
        fields.insert("idle_time".to_owned(), time);
    }
    config.convert("keepalive", value)
}

fn error_overrides(config: &mut Config<'_>) -> BTreeMap<u16, nuncio_ir::ErrorBody> {
    const KEY: &str = "error_response_overrides";
    let found: Option<Vec<ErrorResponseOverride>> = config.typed(KEY);
    let Some(found) = found else {
        return BTreeMap::new();
    };
    let envoy = config.envoy();
    within(config, |problems| error_bodies(&found, envoy, problems)).unwrap_or_default()
}
