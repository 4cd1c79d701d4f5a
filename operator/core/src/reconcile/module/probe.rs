//! Keys `liveness_probe`, `readiness_probe` and `diagnostics`: paths on every Host that are about the gateway itself.

use std::sync::Arc;

use nuncio_crds::v3alpha1::MappingSpec;
use serde_json::{Map, Value, json};

use super::config::Config;
use crate::{
    object::ObjectRef,
    reconcile::{Probe, mapping, without_effect},
    settings::Settings,
};

/// Where diagnostics are found, unless a Module names a service.
const DIAGNOSTICS: &str = "127.0.0.1:8877";

/// Keys of a probe that no Mapping has.
const OWN: [&str; 4] = ["enabled", "allow_non_local", "prefix", "service"];

/// The paths, in the order in which they are matched.
pub(super) fn probes(
    config: &mut Config<'_>,
    object: &ObjectRef,
    settings: &Settings,
) -> Vec<Probe> {
    let mut reader = Reader { object, settings };
    let liveness = reader.health(config, "liveness_probe", "check_alive");
    let readiness = reader.health(config, "readiness_probe", "check_ready");
    let diagnostics = reader.diagnostics(config);
    let probes = [liveness, readiness, diagnostics];
    probes.into_iter().flatten().collect()
}

struct Reader<'a> {
    object: &'a ObjectRef,
    settings: &'a Settings,
}

impl Reader<'_> {
    /// A path that Envoy answers itself, unless there is a service for it.
    fn health(&mut self, config: &mut Config<'_>, key: &'static str, path: &str) -> Option<Probe> {
        let path = format!("/ambassador/v0/{path}");
        let name = name(key);
        let answer = |prefix: String| Probe {
            name: name.clone(),
            prefix,
            mapping: None,
        };
        if config.value(key).is_none() {
            return Some(answer(path));
        }
        let found = config.section(key, |probe| {
            if !probe.boolean("enabled", false) {
                ignore_others(probe);
                return None;
            }
            let prefix = prefix(probe).unwrap_or_else(|| path.clone());
            let Some(service) = probe.text("service") else {
                without_service(probe);
                return Some(answer(prefix));
            };
            let forwarded = self.forwarded(probe, &name, prefix.clone(), &path, service);
            Some(forwarded.unwrap_or_else(|| answer(prefix)))
        });
        // what is no map says nothing
        found.unwrap_or_else(|| Some(answer(path.clone())))
    }

    fn diagnostics(&mut self, config: &mut Config<'_>) -> Option<Probe> {
        const KEY: &str = "diagnostics";
        const PATH: &str = "/ambassador/v0/";
        config.section(KEY, |probe| {
            if probe.boolean("allow_non_local", false) {
                probe.without_effect("allow_non_local", "port 8877 has no diagnostics");
            }
            if !probe.boolean("enabled", false) {
                ignore_others(probe);
                return None;
            }
            let prefix = prefix(probe).unwrap_or_else(|| PATH.to_owned());
            let service = probe.text("service").unwrap_or(DIAGNOSTICS);
            let mut diagnostics = self.forwarded(probe, &name(KEY), prefix, PATH, service)?;
            let mapping = diagnostics.mapping.as_mut().map(Arc::make_mut);
            if let Some(upstream) = mapping.and_then(|mapping| mapping.upstream.as_mut()) {
                upstream.may_be_own = true;
            }
            Some(diagnostics)
        })?
    }

    /// A probe that a service answers, with the fields that any Mapping has.
    fn forwarded(
        &mut self,
        probe: &mut Config<'_>,
        name: &str,
        prefix: String,
        path: &str,
        service: &str,
    ) -> Option<Probe> {
        let mut spec = json!({
            "hostname": "*",
            "prefix": prefix.as_str(),
            "rewrite": path,
            "service": service,
            "timeout_ms": 10_000,
        });
        let others: Map<String, Value> = probe
            .take_all()
            .filter(|(key, _)| !OWN.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if let Some(fields) = spec.as_object_mut() {
            fields.extend(others);
        }
        let spec: MappingSpec = probe.convert("service", spec)?;
        let mut problems = Vec::new();
        let found = mapping::of_spec(&spec, self.object, self.settings, &mut problems);
        for mut problem in problems {
            if let Some(key) = problem.path.strip_prefix("spec.") {
                problem.path = probe.path(key);
            }
            probe.report(problem);
        }
        match found {
            Ok(mapping) => Some(Probe {
                name: name.to_owned(),
                prefix,
                mapping: Some(mapping.into()),
            }),
            Err(problem) => {
                let key = problem.path.trim_start_matches("spec.");
                let fact = problem.message.replace("; this Module is not used", "");
                probe.ignore(key, fact);
                None
            }
        }
    }
}

/// Reports the fields of a Mapping that mean nothing where Envoy answers itself.
fn without_service(probe: &mut Config<'_>) {
    for (key, _) in probe.take_all() {
        if !OWN.contains(&key.as_str()) {
            let message = "no effect: Envoy answers itself, unless service is set";
            let problem = without_effect(probe.path(key), message);
            probe.report(problem);
        }
    }
}

/// What is configured of a path that is not there has no effect, and is no mistake.
fn ignore_others(probe: &mut Config<'_>) {
    probe.take_all().for_each(drop);
}

fn name(key: &str) -> String {
    format!(
        "internal_{}_mapping",
        key.replace("diagnostics", "diagnostics_probe")
    )
}

fn prefix(probe: &mut Config<'_>) -> Option<String> {
    let prefix = probe.text("prefix")?;
    let is_path = prefix.starts_with('/') && !prefix.chars().any(char::is_control);
    if !is_path || prefix.contains('?') {
        probe.replace(
            "prefix",
            "must start with / and not contain ?",
            "the default",
        );
        return None;
    }
    Some(prefix.to_owned())
}
