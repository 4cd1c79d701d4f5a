//! What another version cannot express, in the annotation [`ANNOTATION`] of the object in that version.
//!
//! A converted object is converted back at once, and compared with the one that it was made of. Each field that differs is kept
//! with both values. When the object is converted back later, a field that still becomes what it became then gets the value that
//! it had; one that was edited does not.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ApiVersion;

/// Name of the annotation. It is written only if something has to be kept.
pub const ANNOTATION: &str = "getambassador.io/conversion-data";

/// What is kept for one version, or for those that have its fields.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Kept {
    /// For `v1` and `v2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    v2: Vec<Field>,
    /// For `v3alpha1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    v3alpha1: Vec<Field>,
}

/// A field that does not come back by itself.
#[derive(Debug, Deserialize, Serialize)]
struct Field {
    /// Where it is in `spec`.
    path: Vec<String>,
    /// What it becomes; absent: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    becomes: Option<Value>,
    /// What it was; absent: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    was: Option<Value>,
}

/// Null is a value here.
mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

impl Kept {
    fn of(&mut self, version: ApiVersion) -> &mut Vec<Field> {
        match version {
            ApiVersion::V1 | ApiVersion::V2 => &mut self.v2,
            ApiVersion::V3Alpha1 => &mut self.v3alpha1,
        }
    }

    /// Of an object with this metadata; nothing if somebody has broken it.
    fn read(metadata: &Map<String, Value>) -> Self {
        let annotations = metadata.get("annotations");
        let text = annotations.and_then(|all| all.get(ANNOTATION)?.as_str());
        let kept = text.and_then(|text| serde_json::from_str(text).ok());
        kept.unwrap_or_default()
    }

    fn write(&self, metadata: &mut Map<String, Value>) {
        if self.v2.is_empty() && self.v3alpha1.is_empty() {
            let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else {
                return;
            };
            if annotations.remove(ANNOTATION).is_some() && annotations.is_empty() {
                metadata.remove("annotations");
            }
            return;
        }
        let text = serde_json::to_string(self).unwrap_or_default();
        let annotations = metadata.entry("annotations");
        let annotations = annotations.or_insert_with(|| Map::new().into());
        if !annotations.is_object() {
            *annotations = Map::new().into();
        }
        annotations[ANNOTATION] = text.into();
    }
}

/// Gives the fields of a spec, in this version, back what was kept of them.
pub(super) fn restore(
    metadata: &mut Map<String, Value>,
    version: ApiVersion,
    spec: &mut Map<String, Value>,
) {
    let mut kept = Kept::read(metadata);
    for field in std::mem::take(kept.of(version)) {
        put_back(spec, &field.path, field.becomes.as_ref(), field.was);
    }
    kept.write(metadata);
}

fn put_back(
    map: &mut Map<String, Value>,
    path: &[String],
    becomes: Option<&Value>,
    was: Option<Value>,
) {
    match path {
        [] => {}
        [name] => {
            if map.get(name) == becomes {
                match was {
                    Some(was) => map.insert(name.clone(), was),
                    None => map.remove(name),
                };
            }
        }
        [name, rest @ ..] => {
            if let Some(Value::Object(below)) = map.get_mut(name) {
                put_back(below, rest, becomes, was);
            }
        }
    }
}

/// Keeps what of a spec, in this version, does not come back by itself.
pub(super) fn keep(
    metadata: &mut Map<String, Value>,
    version: ApiVersion,
    back: &Map<String, Value>,
    was: &Map<String, Value>,
) {
    let mut fields = Vec::new();
    compare(&mut Vec::new(), back, was, &mut fields);
    let mut kept = Kept::read(metadata);
    *kept.of(version) = fields;
    kept.write(metadata);
}

fn compare(
    path: &mut Vec<String>,
    back: &Map<String, Value>,
    was: &Map<String, Value>,
    fields: &mut Vec<Field>,
) {
    let more = was.keys().filter(|name| !back.contains_key(*name));
    for name in back.keys().chain(more) {
        if path.is_empty() && name == "ambassador_id" {
            continue;
        }
        path.push(name.clone());
        match (back.get(name), was.get(name)) {
            (Some(Value::Object(back)), Some(Value::Object(was))) => {
                compare(path, back, was, fields);
            }
            (back, was) if back != was => fields.push(Field {
                path: path.clone(),
                becomes: back.cloned(),
                was: was.cloned(),
            }),
            _ => {}
        }
        path.pop();
    }
}
