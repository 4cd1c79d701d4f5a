//! Listeners → their connection managers, each replaced in its listener by the fields that differ from a plain one.
//! A change of a default then shows in the few cases with complete connection managers, not in every case with a
//! listener.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const NAME: &str = "envoy.filters.network.http_connection_manager";

/// The complete connection managers, by listener and filter chain.
pub(crate) fn take(
    listeners: &mut BTreeMap<String, Value>,
    plain: &Value,
) -> BTreeMap<String, Value> {
    let mut managers = BTreeMap::new();
    for (listener, value) in listeners {
        for chain in list(value, "filter_chains") {
            let name = format!("{listener}/{}", chain["name"].as_str().unwrap_or_default());
            for filter in list(chain, "filters").filter(|filter| filter["name"] == NAME) {
                let complete = filter["typed_config"].take();
                filter["typed_config"] = difference(&complete, plain);
                managers.insert(name.clone(), complete);
            }
        }
    }
    managers
}

fn list<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Fields that differ; those that only the plain one has are null. Of a list that differs, elements that the plain one
/// has too are shown by their name.
fn difference(value: &Value, plain: &Value) -> Value {
    match (value, plain) {
        (Value::Object(fields), Value::Object(plain)) => {
            let missing = plain.keys().filter(|key| !fields.contains_key(*key));
            let mut differing: Map<_, _> = missing.map(|key| (key.clone(), Value::Null)).collect();
            for (key, field) in fields {
                match plain.get(key) {
                    Some(same) if same == field => {}
                    Some(other) => {
                        differing.insert(key.clone(), difference(field, other));
                    }
                    None => {
                        differing.insert(key.clone(), field.clone());
                    }
                }
            }
            Value::Object(differing)
        }
        (Value::Array(elements), Value::Array(plain)) => elements
            .iter()
            .map(|element| match element.get("name") {
                Some(name) if plain.contains(element) => name.clone(),
                _ => element.clone(),
            })
            .collect(),
        _ => value.clone(),
    }
}
