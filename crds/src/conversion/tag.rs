//! Tags of a TracingService. `tag_headers` is an older form of `custom_tags`, and has no effect beside it.

use serde_json::{Map, Value, json};

pub(super) fn convert(spec: &mut Map<String, Value>) {
    let Some(Value::Array(headers)) = spec.get("tag_headers") else {
        return;
    };
    let is_set = spec.get("custom_tags").is_some_and(|tags| !tags.is_null());
    let tag = |name: &Value| {
        name.as_str()
            .map(|name| json!({"tag": name, "request_header": {"name": name}}))
    };
    let tags: Option<Vec<Value>> = headers.iter().map(tag).collect();
    if let Some(tags) = tags.filter(|tags| !is_set && !tags.is_empty()) {
        spec.remove("tag_headers");
        spec.insert("custom_tags".to_owned(), Value::Array(tags));
    }
}
