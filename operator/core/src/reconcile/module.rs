//! A Module: settings of the whole gateway. The one that counts is called `ambassador` and is in the gateway's own
//! namespace; anything else would let others read the gateway's environment, which a Module can contain.
//!
//! A wrong key affects that key alone, and no order of keys matters. One file per group of keys.
//!
//! The Modules `authentication` and `tls` of older releases are an AuthService and TLSContexts in another form.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use self::config::Config;
use super::{Found, Fragment, Module, auth_service, not_served, without_effect};
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    settings::Settings,
    variable,
};

mod address;
mod compression;
mod config;
mod default;
mod filter;
mod http;
mod label;
mod log;
mod probe;
mod section;
pub(crate) mod tls;

/// The name of the Module that is used.
const NAME: &str = "ambassador";

/// The name of a Module that is an AuthService.
pub(crate) const AUTHENTICATION: &str = "authentication";

/// Keys that are accepted and have no effect, and why.
const WITHOUT_EFFECT: [(&str, &str); 14] = [
    (
        "admin_port",
        "Envoy's admin interface is not part of the configuration",
    ),
    ("auth_enabled", "set bypass_auth on Mappings"),
    ("debug_mode", "set the log level of Nuncio"),
    ("envoy_validation_timeout", "Nuncio validates without Envoy"),
    (
        "prune_unreachable_routes",
        "unreachable Mappings are reported",
    ),
    ("regex_type", "regular expressions are RE2's"),
    ("runtime_flags", "Envoy reads them from its bootstrap only"),
    ("service_port", "set port on Listeners"),
    ("statsd", "set STATSD_ENABLED"),
    ("tls", "set tlsSecret on Hosts, or use TLSContexts"),
    ("use_proxy_proto", "set protocolStack on Listeners"),
    (
        "x_forwarded_proto_redirect",
        "set requestPolicy.insecure on Hosts",
    ),
    ("xff_num_trusted_hops", "set l7Depth on Listeners"),
    (
        "diag_port",
        "the port of diagnostics is an option of Nuncio",
    ),
];

pub(super) fn reconcile(mut value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    if &*object.name == AUTHENTICATION {
        return authentication(value, object, settings);
    }
    if let Some(problem) = unused(object, settings) {
        return (None, vec![problem]);
    }
    let Some(Value::Object(mut spec)) = value.get_mut("spec").map(Value::take) else {
        let problem = not_served(object.kind, "spec", "spec is missing");
        return (None, vec![problem]);
    };
    let mut problems = Vec::new();
    let config = match spec.remove("config") {
        Some(Value::Object(config)) => config,
        None | Some(Value::Null) => {
            let message = "config is missing; using the defaults";
            problems.push(Problem::notice(
                Reason::PARTIALLY_INVALID,
                "spec.config",
                message,
            ));
            Map::new()
        }
        Some(_) => {
            let problem = not_served(object.kind, "spec.config", "must be a map");
            return (None, vec![problem]);
        }
    };
    for key in spec.keys().filter(|key| *key != "ambassador_id") {
        let path = format!("spec.{key}");
        let message = format!("unknown field {path}; ignored");
        problems.push(Problem::ignored(Reason::UNKNOWN_FIELD, path, message));
    }
    if &*object.name == tls::NAME {
        let (contexts, found) = tls::contexts(config, object, settings.oldest_envoy);
        problems.extend(found);
        return (Some(Fragment::TlsModule(contexts.into())), problems);
    }
    let mut config = Value::Object(config);
    variable::expand(&mut config, &settings.variables);
    let Value::Object(config) = config else {
        return (None, problems);
    };
    let (module, found) = module(&config, object, settings);
    problems.extend(found);
    (Some(Fragment::Module(module.into())), problems)
}

/// Why a Module is not the one that counts.
fn unused(object: &ObjectRef, settings: &Settings) -> Option<Problem> {
    let namespace = &settings.ambassador_namespace;
    if ![NAME, tls::NAME].contains(&&*object.name) {
        let message = format!("no effect: only the Module {NAME} is used");
        return Some(without_effect("metadata.name", message));
    }
    if *object.namespace != **namespace {
        let name = &object.name;
        let message = format!("only the Module {name} in namespace {namespace} is used; ignored");
        let reason = Reason::IGNORED;
        return Some(Problem::ignored(reason, "metadata.namespace", message));
    }
    None
}

/// A Module in the place of an AuthService: its `config` is that one's `spec`.
fn authentication(mut value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let mut config = value["spec"]["config"].take();
    if let Some(fields) = config.as_object_mut() {
        // Emissary accepts it without effect
        fields.remove("allowed_headers");
    }
    value["spec"] = config;
    let (fragment, mut problems) = auth_service::reconcile(value, object, settings);
    for problem in &mut problems {
        problem.path = problem.path.replacen("spec", "spec.config", 1);
    }
    (fragment, problems)
}

fn module(
    config: &Map<String, Value>,
    object: &ObjectRef,
    settings: &Settings,
) -> (Module, Vec<Problem>) {
    let mut config = Config::new(config, "spec.config", settings.oldest_envoy);
    let module = read(&mut config, object, settings);
    (module, config.finish())
}

/// The keys that are known.
#[must_use]
pub fn keys() -> BTreeSet<String> {
    let (settings, none) = (Settings::default(), Map::new());
    let object = ObjectRef::new(Kind::Module, &settings.ambassador_namespace, NAME);
    let mut config = Config::new(&none, "spec.config", settings.oldest_envoy);
    read(&mut config, &object, &settings);
    config.read().map(str::to_owned).collect()
}

fn read(config: &mut Config<'_>, object: &ObjectRef, settings: &Settings) -> Module {
    for (key, reason) in WITHOUT_EFFECT {
        config.without_effect(key, reason);
    }
    Module {
        defaults: default::defaults(config),
        resolver: config.text("resolver").map(Into::into),
        regex_max_size: default::regex_max_size(config),
        http: http::options(config),
        filters: filter::filters(config),
        script: filter::script(config),
        buffer_limit_bytes: config.number("buffer_limit_bytes", 1..=u32::MAX),
        log: log::log(config),
        probes: probe::probes(config, object, settings),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_replaced_in_config_only() {
        let settings = Settings {
            variables: [("A".to_owned(), "edge".to_owned())].into(),
            ..Settings::default()
        };
        let object = ObjectRef::new(Kind::Module, "default", NAME);
        let value =
            json!({"spec": {"ambassador_id": ["$A"], "config": {"server_name": "${A}-$B"}}});
        let (fragment, problems) = reconcile(value, &object, &settings);
        assert_eq!(problems, []);
        let Some(Fragment::Module(module)) = fragment else {
            panic!("no Module");
        };
        assert_eq!(module.http.server_name, "edge-$B");
    }
}
