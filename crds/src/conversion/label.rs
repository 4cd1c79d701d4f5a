//! Labels of a Mapping for the rate limit service: lists of groups by domain, each a list of descriptors by name. The old versions
//! have short forms of descriptors.

use serde_json::{Map, Value, json};

use super::schema::{Schema, any, field, items, values};

/// Descriptors without a value of their own.
const PLAIN: [&str; 3] = ["source_cluster", "destination_cluster", "remote_address"];
const GENERIC: &str = "generic_key";
const HEADERS: &str = "request_headers";
const SHORT: &str = "v2Shorthand";

pub(super) fn to_hub(spec: &mut Map<String, Value>) {
    each(spec, |label| match label {
        Value::String(name) if PLAIN.contains(&name.as_str()) => {
            Some(json!({name.as_str(): {"key": name}}))
        }
        Value::String(text) => Some(json!({GENERIC: {"value": text, SHORT: true}})),
        Value::Object(fields) => to_object(fields),
        _ => None,
    });
}

fn to_object(fields: &Map<String, Value>) -> Option<Value> {
    if let Some(Value::String(value)) = fields.get(GENERIC) {
        let mut generic = json!({"value": value});
        if let Some(key) = fields.get("v3Key") {
            generic["key"] = key.clone();
        }
        return Some(json!({GENERIC: generic}));
    }
    let mut fields = fields.iter();
    let (Some((key, Value::Object(header))), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let mut headers = header.clone();
    let name = headers.remove("header")?;
    headers.insert("header_name".to_owned(), name);
    headers.insert("key".to_owned(), key.as_str().into());
    Some(json!({HEADERS: headers}))
}

pub(super) fn from_hub(spec: &mut Map<String, Value>) {
    each(spec, |label| {
        let mut fields = label.as_object()?.iter();
        let (Some((kind, Value::Object(fields))), None) = (fields.next(), fields.next()) else {
            return None;
        };
        match kind.as_str() {
            // the key is another one only by mistake, and a text is another descriptor
            plain if PLAIN.contains(&plain) => Some(plain.into()),
            GENERIC => from_generic(fields),
            HEADERS => {
                let mut header = fields.clone();
                let key = header.remove("key")?;
                let name = header.remove("header_name")?;
                header.insert("header".to_owned(), name);
                Some(json!({key.as_str()?: header}))
            }
            _ => None,
        }
    });
}

fn from_generic(fields: &Map<String, Value>) -> Option<Value> {
    let value = fields.get("value")?.as_str()?;
    let key = fields.get("key");
    let is_short = fields.get(SHORT) == Some(&Value::Bool(true));
    if is_short && key.is_none() && !PLAIN.contains(&value) {
        return Some(value.into());
    }
    let mut label = json!({GENERIC: value});
    if let Some(key) = key {
        label["v3Key"] = key.clone();
    }
    Some(label)
}

/// Replaces the descriptors for which there is another form.
fn each(spec: &mut Map<String, Value>, other: impl Fn(&Value) -> Option<Value>) {
    let domains = spec.get_mut("labels").and_then(Value::as_object_mut);
    let groups = domains.into_iter().flat_map(Map::values_mut);
    let groups = groups.filter_map(Value::as_array_mut).flatten();
    let lists = groups
        .filter_map(Value::as_object_mut)
        .flat_map(Map::values_mut);
    for label in lists.filter_map(Value::as_array_mut).flatten() {
        if let Some(other) = other(label) {
            *label = other;
        }
    }
}

pub(super) fn schema(spec: &mut Schema) {
    let labels = field(spec, "labels").and_then(values).and_then(items);
    if let Some(label) = labels.and_then(values).and_then(items) {
        any(
            label,
            "`source_cluster`, `destination_cluster`, `remote_address`, a fixed value, `{generic_key: VALUE, v3Key: KEY}`, or \
             `{KEY: {header: NAME, omit_if_not_present: false}}`",
        );
    }
}
