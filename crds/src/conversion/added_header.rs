//! Headers that a Mapping adds: in the old versions a string, null, or an object; in `v3alpha1` always an object.

use serde_json::{Map, Value, json};

use super::schema::{self, Schema, any, values};

const FORM: &str = "v2Representation";

pub(super) const FIELDS: [&str; 2] = ["add_request_headers", "add_response_headers"];

pub(super) fn to_hub(spec: &mut Map<String, Value>, field: &str) {
    let Some(Value::Object(headers)) = spec.get_mut(field) else {
        return;
    };
    for header in headers.values_mut() {
        match header.take() {
            Value::Null => *header = json!({FORM: "null"}),
            Value::String(value) => *header = json!({"value": value, FORM: "string"}),
            other => *header = other,
        }
    }
}

pub(super) fn from_hub(spec: &mut Map<String, Value>, field: &str) {
    let Some(Value::Object(headers)) = spec.get_mut(field) else {
        return;
    };
    for header in headers.values_mut() {
        let Value::Object(fields) = header else {
            continue;
        };
        let form = fields.remove(FORM);
        let form = form.as_ref().and_then(Value::as_str);
        let value = match (form, fields.get("value"), fields.get("append")) {
            (Some("null"), None, None) => Value::Null,
            (Some("string"), None, None) => Value::String(String::new()),
            (Some("string"), Some(Value::String(value)), None) => value.clone().into(),
            _ => continue,
        };
        *header = value;
    }
}

pub(super) fn schema(spec: &mut Schema, field: &str) {
    if let Some(header) = schema::field(spec, field).and_then(values) {
        any(
            header,
            "A value, null for none, or an object with `value` and `append`",
        );
    }
}
