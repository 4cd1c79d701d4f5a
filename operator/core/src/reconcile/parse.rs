//! JSON becomes typed objects, or a problem with the path of the field.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::not_served;
use crate::{
    change::ResourceVersion,
    object::Kind,
    report::{Problem, Reason},
    selector::Labels,
};

/// Annotation with the ID of the instance.
const ID: &str = "getambassador.io/ambassador-id";

/// The metadata that is used; what has an unexpected type counts as missing.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) generation: i64,
    pub(super) version: ResourceVersion,
    pub(super) labels: Labels,
    ambassador_ids: Vec<String>,
    /// The annotation that stands for it on kinds of Kubernetes.
    annotated_id: Option<String>,
}

impl Metadata {
    pub(super) fn of(value: &Value) -> Self {
        let metadata = &value["metadata"];
        let text = |field: &str| {
            metadata[field]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let strings = |value: &Value| -> Vec<String> {
            let items = value.as_array().into_iter().flatten();
            items
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        Self {
            name: text("name").unwrap_or_default(),
            namespace: text("namespace"),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            version: metadata["resourceVersion"]
                .as_str()
                .map(ResourceVersion::parse)
                .unwrap_or_default(),
            labels: metadata["labels"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            ambassador_ids: strings(&value["spec"]["ambassador_id"]),
            annotated_id: metadata["annotations"][ID].as_str().map(str::to_owned),
        }
    }

    /// Whether an annotation, which is one ID, says that it applies to this instance. Without one it applies to `default`.
    pub(super) fn is_annotated_for(&self, ambassador_id: &str) -> bool {
        self.annotated_id.as_deref().unwrap_or("default") == ambassador_id
    }

    /// Whether the object applies to this instance. Without an id it applies to `default`.
    pub(super) fn is_for(&self, ambassador_id: &str) -> bool {
        if self.ambassador_ids.is_empty() {
            return ambassador_id == "default";
        }
        self.ambassador_ids
            .iter()
            .any(|id| id == ambassador_id || id == "_automatic_")
    }
}

/// The typed object, and a problem for each unknown field.
///
/// # Errors
/// The problem of the first field that does not have its type.
pub(super) fn object<T: DeserializeOwned>(
    value: Value,
    kind: Kind,
    at: &str,
) -> Result<(T, Vec<Problem>), Problem> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let parsed = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    match parsed {
        Ok(parsed) => {
            let problems = unknown
                .into_iter()
                .map(|path| {
                    let path = join(at, &path.replace('?', "").replace("..", "."));
                    let message = format!("unknown field {path}; ignored");
                    Problem::ignored(Reason::UNKNOWN_FIELD, &path, message)
                })
                .collect();
            Ok((parsed, problems))
        }
        Err(source) => {
            let path = join(at, track.path().to_string().trim_end_matches('.'));
            Err(not_served(kind, path, readable(&source.to_string())))
        }
    }
}

/// A message of serde without the names of Rust types.
fn readable(message: &str) -> String {
    let Some((fact, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "i32" | "i64" | "u16" | "u32" => "an integer",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a map",
        other => other,
    };
    format!("{fact}, expected {expected}")
}

fn join(at: &str, path: &str) -> String {
    let path = path.trim_matches('.');
    match (at.is_empty(), path.is_empty()) {
        (_, true) => at.to_owned(),
        (true, false) => path.to_owned(),
        (false, false) => format!("{at}.{path}"),
    }
}

/// The `spec` of an object.
///
/// # Errors
/// The problem of the first field that does not have its type.
pub(super) fn spec<T: DeserializeOwned>(
    mut value: Value,
    kind: Kind,
    required: bool,
) -> Result<(T, Vec<Problem>), Problem> {
    let spec = match value.get_mut("spec").map(Value::take) {
        None | Some(Value::Null) if required => {
            return Err(not_served(kind, "spec", "spec is missing"));
        }
        None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
        Some(spec) => spec,
    };
    object(spec, kind, "spec")
}

/// The fields of a spec that are set, in JSON; for fields that the types do not read.
pub(super) fn set_fields(value: &Value) -> BTreeMap<&str, &Value> {
    value["spec"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !is_blank(value))
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

/// Whether a value is the same as none: Emissary drops such values.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
