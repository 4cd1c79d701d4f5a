//! `ambassador_id`: which installations use an object. `v1` and `v2` take a string or a list, `v3alpha1` a list. In the old
//! versions, objects of `v3alpha1` have marked IDs, which no old release has. A Host has a second field for them in `v2`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    name::list,
    schema::{Schema, any, field},
};

const FIELD: &str = "ambassador_id";
const MORE: &str = "ambassadorId";
const MARK: &str = "--apiVersion-v3alpha1-only--";

pub(super) fn to_hub(spec: &mut Map<String, Value>) {
    list(spec, FIELD);
    each(spec, |id| unmarked(id).to_owned());
}

pub(super) fn from_hub(spec: &mut Map<String, Value>) {
    if matches!(spec.get(FIELD), None | Some(Value::Null)) {
        spec.insert(FIELD.to_owned(), Value::from(["default"].as_slice()));
    }
    list(spec, FIELD);
    each(spec, |id| format!("{MARK}{}", unmarked(id)));
}

pub(super) fn schema(spec: &mut Schema) {
    if let Some(ids) = field(spec, FIELD) {
        any(ids, "A list, or one ID");
    }
}

/// The IDs of a Host in its second field for them, after those in the first. An ID that is in both is there once, so that the
/// list does not grow with each conversion.
pub(super) fn more_to_hub(spec: &mut Map<String, Value>) {
    let more = more(spec);
    spec.remove(MORE);
    if more.is_empty() {
        return;
    }
    let ids = spec.entry(FIELD).or_insert(Value::Null);
    if ids.is_null() {
        *ids = Value::Array(Vec::new());
    }
    if let Value::Array(ids) = ids {
        for id in more {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
}

/// The hub has no second field.
pub(super) fn more_from_hub(spec: &mut Map<String, Value>) {
    spec.remove(MORE);
}

/// Takes the second field away that has come back, if one of its IDs was removed from the first meanwhile.
pub(super) fn more_restored(spec: &mut Map<String, Value>) {
    let mut ids = Map::from_iter(spec.get(FIELD).map(|ids| (FIELD.to_owned(), ids.clone())));
    to_hub(&mut ids);
    let is_in = |id: &Value| matches!(ids.get(FIELD), Some(Value::Array(ids)) if ids.contains(id));
    if !more(spec).iter().all(is_in) {
        spec.remove(MORE);
    }
}

pub(super) fn more_schema(spec: &mut Schema) {
    let mut ids = Schema {
        description: Some("Further IDs, as `ambassador_id`.".to_owned()),
        ..Schema::default()
    };
    any(&mut ids, "A list, or one ID");
    let properties = spec.properties.get_or_insert_with(BTreeMap::new);
    properties.insert(MORE.to_owned(), ids);
}

/// What is in the second field. A value that is no ID is passed on, so that it is reported.
fn more(spec: &Map<String, Value>) -> Vec<Value> {
    let unmarked = |id: &Value| match id {
        Value::String(id) => unmarked(id).into(),
        id => id.clone(),
    };
    match spec.get(MORE) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => ids.iter().map(unmarked).collect(),
        Some(id) => vec![unmarked(id)],
    }
}

fn unmarked(id: &str) -> &str {
    id.strip_prefix(MARK).unwrap_or(id)
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
