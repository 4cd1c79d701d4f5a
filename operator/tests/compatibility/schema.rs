//! The generated schemas in `config/crd` → the fields of each kind, and those that an object sets.
//!
//! Paths are those of the page: fields of list items and map values are written as if they were below the list or map.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use crate::{read, workspace};

/// Schema of the spec of a kind.
pub(crate) struct Schema(Value);

/// By kind.
pub(crate) fn schemas() -> BTreeMap<String, Schema> {
    let folder = workspace().join("config/crd/bases");
    let files = fs::read_dir(folder).expect("a folder of this repository");
    files
        .map(|file| {
            let text = read(&file.expect("a file of it").path());
            let definition: Value = serde_saphyr::from_str(&text).expect("YAML");
            let spec = &definition["spec"];
            let kind = spec["names"]["kind"].as_str().expect("a kind").to_owned();
            let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            (kind, Schema(schema.clone()))
        })
        .collect()
}

impl Schema {
    /// Paths of all fields, and whether each has others below it.
    pub(crate) fn fields(&self) -> BTreeMap<String, bool> {
        let mut found = BTreeMap::new();
        fields(&self.0, "", &mut found);
        found
    }

    /// Paths of the fields that this spec has.
    pub(crate) fn fields_set_by(&self, spec: &Value) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        fields_set(&self.0, spec, "", &mut found);
        found
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Label selectors are those of Kubernetes, so their expressions count as one field.
fn is_whole(name: &str) -> bool {
    name == "matchExpressions"
}

fn fields(schema: &Value, path: &str, found: &mut BTreeMap<String, bool>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = below(path, name);
        let before = found.len();
        if !is_whole(name) {
            fields(field, &path, found);
        }
        found.insert(path, found.len() > before);
    }
    for element in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(element) {
            fields(schema, path, found);
        }
    }
}

fn fields_set(schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name).filter(|value| !value.is_null()) {
            let path = below(path, name);
            if !is_whole(name) {
                fields_set(field, value, &path, found);
            }
            found.insert(path);
        }
    }
    if let Some(schema) = schema.get("items") {
        for element in value.as_array().into_iter().flatten() {
            fields_set(schema, element, path, found);
        }
    }
    if let Some(schema) = schema.get("additionalProperties") {
        for (_, element) in value.as_object().into_iter().flatten() {
            fields_set(schema, element, path, found);
        }
    }
}
