//! `ambassador_id`: which installations use an object. `v1` and `v2` take a string or a list, `v3alpha1` a list. In the old
//! versions, objects of `v3alpha1` have marked IDs, which no old release has.

use serde_json::{Map, Value};

use super::name::list;

const FIELD: &str = "ambassador_id";
const MARK: &str = "--apiVersion-v3alpha1-only--";

pub(super) fn to_hub(spec: &mut Map<String, Value>) {
    list(spec, FIELD);
    each(spec, |id| id.strip_prefix(MARK).unwrap_or(id).to_owned());
}

pub(super) fn from_hub(spec: &mut Map<String, Value>) {
    if matches!(spec.get(FIELD), None | Some(Value::Null)) {
        spec.insert(FIELD.to_owned(), Value::from(["default"].as_slice()));
    }
    list(spec, FIELD);
    each(spec, |id| {
        let id = id.strip_prefix(MARK).unwrap_or(id);
        format!("{MARK}{id}")
    });
}

fn each(spec: &mut Map<String, Value>, change: impl Fn(&str) -> String) {
    let Some(Value::Array(ids)) = spec.get_mut(FIELD) else {
        return;
    };
    for id in ids {
        if let Value::String(id) = id {
            *id = change(id);
        }
    }
}
