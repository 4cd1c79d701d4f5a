//! The Module `tls` of older releases: each of its blocks is a TLSContext. Those of the block `server` can be used by
//! Hosts, with `client` for what is required of clients; all others are for upstreams.

use std::{collections::BTreeMap, sync::Arc};

use nuncio_ir::EnvoyVersion;
use serde_json::{Map, Value, json};

use crate::{
    object::{Kind, ObjectRef},
    reconcile::{TlsContext, ignored, parse, tls_context},
    report::{Problem, Reason, Severity},
};

/// The name of this Module.
pub(crate) const NAME: &str = "tls";

/// The block for connections from clients.
const SERVER: &str = "server";

/// The block for certificates of clients.
const CLIENT: &str = "client";

/// The Secret of a block that names none.
const CERTIFICATE: &str = "ambassador-certs";

/// The Secret that certificates of clients are verified with, if the block names none.
const AUTHORITY: &str = "ambassador-cacert";

/// The fields of a block that are those of a TLSContext.
const FIELDS: [&str; 5] = [
    "secret",
    "cert_chain_file",
    "private_key_file",
    "alpn_protocols",
    "redirect_cleartext_from",
];

/// TLSContexts by name; `None`: one that is invalid.
pub(crate) type Contexts = BTreeMap<Arc<str>, Option<Arc<TlsContext>>>;

/// The TLSContexts of the blocks. A wrong block affects itself alone.
pub(super) fn contexts(
    mut config: Map<String, Value>,
    module: &ObjectRef,
    envoy: EnvoyVersion,
) -> (Contexts, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut contexts = Contexts::new();
    // a switch without a meaning of its own
    config.remove("enabled");
    let client = block(&mut config, CLIENT, &mut problems);
    if client.is_some() && !config.contains_key(SERVER) {
        let problem = ignored(path(CLIENT, "spec"), "needs the block server");
        problems.push(problem);
    }
    let names: Vec<String> = config.keys().cloned().collect();
    for name in names {
        let before = problems.len();
        let Some(fields) = block(&mut config, &name, &mut problems) else {
            if problems.len() > before {
                contexts.insert(name.as_str().into(), None);
            }
            continue;
        };
        let client = client.as_ref().filter(|_| name == SERVER);
        let context = context(&name, fields, client, module, envoy, &mut problems);
        contexts.insert(name.as_str().into(), context);
    }
    (contexts, problems)
}

/// Takes a block, unless it is switched off.
fn block(
    config: &mut Map<String, Value>,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<Map<String, Value>> {
    match config.remove(name) {
        None => None,
        Some(Value::Object(mut fields)) => match fields.remove("enabled") {
            Some(Value::Bool(false)) if [SERVER, CLIENT].contains(&name) => None,
            _ => Some(fields),
        },
        Some(_) => {
            problems.push(ignored(path(name, "spec"), "must be a map"));
            None
        }
    }
}

fn context(
    name: &str,
    mut fields: Map<String, Value>,
    client: Option<&Map<String, Value>>,
    module: &ObjectRef,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Option<Arc<TlsContext>> {
    let unknown: Vec<String> = fields
        .keys()
        .filter(|field| !FIELDS.contains(&field.as_str()))
        .cloned()
        .collect();
    for field in unknown {
        fields.remove(&field);
        let path = path(name, &format!("spec.{field}"));
        let message = format!("unknown field {path}; ignored");
        problems.push(Problem::ignored(Reason::UNKNOWN_FIELD, path, message));
    }
    let names_files = ["cert_chain_file", "private_key_file"];
    if !fields.contains_key("secret") && !names_files.iter().any(|file| fields.contains_key(*file))
    {
        fields.insert("secret".to_owned(), CERTIFICATE.into());
    }
    if let Some(client) = client {
        let file = client.get("cacert_chain_file");
        let secret = client.get("secret").cloned();
        let secret = secret.or_else(|| file.is_none().then(|| AUTHORITY.into()));
        let required = client.get("cert_required").cloned();
        let all = [
            ("ca_secret", secret),
            ("cacert_chain_file", file.cloned()),
            ("cert_required", required),
        ];
        for (field, value) in all {
            fields.extend(value.map(|value| (field.to_owned(), value)));
        }
    }
    let object = ObjectRef::new(Kind::TlsContext, &module.namespace, name);
    let mut found = Vec::new();
    let value = json!({"spec": fields});
    let context = parse::spec(value, Kind::TlsContext, false).and_then(|(spec, more)| {
        found.extend(more);
        tls_context::context(&spec, &object, envoy, &mut found)
    });
    let context = context.map_err(|problem| found.push(problem)).ok();
    problems.extend(found.into_iter().map(|problem| in_module(name, problem)));
    context
}

/// The problem of a TLSContext as one of the block that it is made of. The Module goes on without that block.
pub(crate) fn in_module(name: &str, mut problem: Problem) -> Problem {
    problem.path = path(name, &problem.path);
    if problem.severity == Severity::Error {
        problem.severity = Severity::Warning;
    }
    if problem.reason == Reason::INVALID {
        problem.reason = Reason::PARTIALLY_INVALID;
    }
    problem
}

/// The path of a field of a TLSContext in the Module.
fn path(name: &str, path: &str) -> String {
    let field = path.strip_prefix("spec").unwrap_or(path);
    match field {
        ".ca_secret" if name == SERVER => format!("spec.config.{CLIENT}.secret"),
        ".cacert_chain_file" | ".cert_required" if name == SERVER => {
            format!("spec.config.{CLIENT}{field}")
        }
        _ => format!("spec.config.{name}{field}"),
    }
}
