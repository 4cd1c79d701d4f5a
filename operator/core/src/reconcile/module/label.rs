//! Key `default_labels`, also in the forms of version v2: a Module is not converted.

use std::collections::BTreeMap;

use nuncio_ir::RateLimitPart;
use serde_json::{Value, json};

use super::config::Config;
use crate::reconcile::mapping::label_part;

/// Labels by domain.
pub(super) fn labels(config: &mut Config<'_>) -> BTreeMap<String, Vec<RateLimitPart>> {
    let mut labels = BTreeMap::new();
    let Some(domains) = config.map("default_labels") else {
        return labels;
    };
    for (domain, value) in domains {
        let at = format!("default_labels.{domain}");
        let Some(fields) = value.as_object() else {
            config.ignore(&at, "must be a map with defaults");
            continue;
        };
        for key in fields.keys().filter(|key| *key != "defaults") {
            config.ignore(&format!("{at}.{key}"), "unknown field");
        }
        match fields.get("defaults") {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                let parts = parts(config, &format!("{at}.defaults"), items);
                labels.insert(domain.clone(), parts);
            }
            Some(_) => config.ignore(&format!("{at}.defaults"), "must be a list"),
        }
    }
    labels
}

fn parts(config: &mut Config<'_>, at: &str, items: &[Value]) -> Vec<RateLimitPart> {
    let mut parts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Some(specifier) = config.convert(&at, current(item)) else {
            continue;
        };
        match label_part(&specifier) {
            Ok(part) => parts.push(part),
            Err(fact) => config.ignore(&at, fact),
        }
    }
    parts
}

/// A label in the form of v3alpha1.
fn current(item: &Value) -> Value {
    let text = match item {
        Value::String(text) => text.as_str(),
        Value::Object(fields) => return of_map(fields).unwrap_or_else(|| item.clone()),
        _ => return item.clone(),
    };
    match text {
        "source_cluster" | "destination_cluster" | "remote_address" => json!({text: {"key": text}}),
        _ => json!({"generic_key": {"value": text}}),
    }
}

/// A map of version v2: `{generic_key: text}` or `{KEY: {header: name}}`.
fn of_map(fields: &serde_json::Map<String, Value>) -> Option<Value> {
    if let Some(Value::String(value)) = fields.get("generic_key") {
        let key = fields.get("v3Key").cloned().unwrap_or_default();
        return Some(json!({"generic_key": {"value": value, "key": key}}));
    }
    let (key, value) = fields.iter().next().filter(|_| fields.len() == 1)?;
    let name = value.get("header")?;
    let optional = value.get("omit_if_not_present").cloned();
    Some(json!({"request_headers": {
        "key": key, "header_name": name, "omit_if_not_present": optional}}))
}
