//! The host name of a Mapping: `host` in the old versions, `hostname` in `v3alpha1`, whose `host` is deprecated.

use serde_json::{Map, Value};

use super::{
    schema::{Schema, field, remove},
    spec::below,
};

/// `host` of a Mapping that has no host name, which in the old versions means every host name.
const NONE: &str = "_skip_mapping_with_empty_host_";

fn is_regex(spec: &Map<String, Value>) -> bool {
    spec.get("host_regex") == Some(&Value::Bool(true))
}

pub(super) fn to_hub(spec: &mut Map<String, Value>) {
    if is_regex(spec) {
        return;
    }
    let host = match spec.get("host") {
        None | Some(Value::Null) => "",
        Some(Value::String(host)) => host,
        Some(_) => return,
    };
    let hostname = match host {
        "" => Some("*".to_owned()),
        NONE => None,
        host => Some(host.to_owned()),
    };
    spec.remove("host");
    spec.extend(hostname.map(|hostname| ("hostname".to_owned(), hostname.into())));
}

pub(super) fn from_hub(spec: &mut Map<String, Value>) {
    let hostname = match spec.get("hostname") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(hostname)) => hostname.clone(),
        Some(_) => return,
    };
    spec.remove("hostname");
    if !hostname.is_empty() {
        spec.insert("host".to_owned(), hostname.into());
        if let Some(regex @ Value::Bool(_)) = spec.get_mut("host_regex") {
            *regex = Value::Bool(false);
        }
    } else if !is_regex(spec)
        && matches!(spec.get("host").map(Value::as_str), None | Some(Some("")))
    {
        spec.insert("host".to_owned(), NONE.into());
    }
    if !is_regex(spec) && spec.get("host").is_some_and(|host| host == "*") {
        spec.remove("host");
    }
}

/// A path within a spec of the hub, with the name of the old versions.
pub(super) fn old_path(path: &str) -> String {
    match below(path, "hostname") {
        Some(rest) => format!("host{rest}"),
        None => path.to_owned(),
    }
}

pub(super) fn schema(spec: &mut Schema) {
    remove(spec, "hostname");
    for (name, description) in [
        (
            "host",
            "Hostname of requests, a glob with `*` as its first or last character, or a regular expression with `host_regex`. \
             Default: `*`.",
        ),
        (
            "host_regex",
            "Whether `host` is a regular expression (RE2). Default: false.",
        ),
    ] {
        if let Some(field) = field(spec, name) {
            field.description = Some(description.to_owned());
        }
    }
}
