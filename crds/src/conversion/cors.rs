//! `cors` of a Mapping: the old versions take strings where `v3alpha1` takes lists, and origins separated by commas.

use serde_json::{Map, Value};

use super::{
    name::{list, object},
    schema::{self, Schema, any, field},
};

const LISTS: [&str; 3] = ["methods", "headers", "exposed_headers"];
const ORIGINS: &str = "origins";
const SEPARATED: &str = "v2CommaSeparatedOrigins";

pub(super) fn to_hub(spec: &mut Map<String, Value>) {
    let Some(cors) = object(spec, "cors") else {
        return;
    };
    for field in LISTS {
        list(cors, field);
    }
    if let Some(Value::String(origins)) = cors.get(ORIGINS) {
        let origins: Vec<Value> = origins.split(',').map(Value::from).collect();
        cors.insert(ORIGINS.to_owned(), Value::Array(origins));
        cors.insert(SEPARATED.to_owned(), Value::Bool(true));
    }
}

pub(super) fn from_hub(spec: &mut Map<String, Value>) {
    let Some(cors) = object(spec, "cors") else {
        return;
    };
    if cors.remove(SEPARATED) != Some(Value::Bool(true)) {
        return;
    }
    if let Some(Value::Array(origins)) = cors.get(ORIGINS) {
        let origins: Option<Vec<&str>> = origins.iter().map(Value::as_str).collect();
        if let Some(origins) = origins {
            let origins = origins.join(",");
            cors.insert(ORIGINS.to_owned(), origins.into());
        }
    }
}

pub(super) fn schema(spec: &mut Schema) {
    let Some(cors) = field(spec, "cors") else {
        return;
    };
    for name in LISTS {
        if let Some(list) = field(cors, name) {
            any(list, "A list, or one of them");
        }
    }
    if let Some(origins) = field(cors, ORIGINS) {
        any(origins, "A list, or a string with commas");
    }
    schema::remove(cors, SEPARATED);
}
