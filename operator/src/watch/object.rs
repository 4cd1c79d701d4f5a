//! An object as a watch reads it, of any kind: parsed once, without `fieldsV1` of its managed fields, which are most of its
//! bytes and which nothing reads.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash as _, Hasher as _},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use kube::{Resource, api::ApiResource, core::DynamicResourceScope};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3Default;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its name, namespace, version and managers.
    pub(crate) metadata: ObjectMeta,
    /// All of it but `managedFields`.
    pub(crate) value: Value,
}

impl Object {
    /// A digest of all but the status and the version. Objects with equal digests are reconciled to the same.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        let fields = self.value.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| *name != "status") {
            name.hash(&mut hasher);
            match (name.as_str(), value) {
                ("metadata", Value::Object(fields)) => {
                    let fields = fields.iter();
                    fields
                        .filter(|(name, _)| *name != "resourceVersion")
                        .for_each(|field| field.hash(&mut hasher));
                }
                _ => value.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// Reads an object.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = Map::new();
        let mut managers = None;
        while let Some(name) = map.next_key::<String>()? {
            let value = if name == "metadata" {
                let metadata: Option<Metadata> = map.next_value()?;
                metadata.map_or(Value::Null, |metadata| {
                    managers = metadata.managers;
                    Value::Object(metadata.fields)
                })
            } else {
                map.next_value()?
            };
            fields.insert(name, value);
        }
        let value = Value::Object(fields);
        let text = |name: &str| value["metadata"][name].as_str().map(str::to_owned);
        Ok(Object {
            metadata: ObjectMeta {
                name: text("name"),
                namespace: text("namespace"),
                resource_version: text("resourceVersion"),
                managed_fields: managers,
                ..ObjectMeta::default()
            },
            value,
        })
    }
}

/// Who wrote which fields of an object, without the fields.
#[derive(Debug, Deserialize)]
struct Entry {
    manager: Option<String>,
    subresource: Option<String>,
    time: Option<Time>,
}

impl From<Entry> for ManagedFieldsEntry {
    fn from(entry: Entry) -> Self {
        Self {
            manager: entry.manager,
            subresource: entry.subresource,
            time: entry.time,
            ..Self::default()
        }
    }
}

/// Metadata, with the managers apart.
#[derive(Default)]
struct Metadata {
    fields: Map<String, Value>,
    managers: Option<Vec<ManagedFieldsEntry>>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataFields)
    }
}

/// Reads metadata.
struct MetadataFields;

impl<'de> Visitor<'de> for MetadataFields {
    type Value = Metadata;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut metadata = Metadata::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "managedFields" => {
                    let entries: Option<Vec<Entry>> = map.next_value()?;
                    metadata.managers =
                        entries.map(|entries| entries.into_iter().map(Into::into).collect());
                }
                _ => {
                    metadata.fields.insert(name, map.next_value()?);
                }
            }
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::*;

    fn mapping() -> Value {
        json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {
                "name": "a",
                "namespace": "default",
                "resourceVersion": "7",
                "generation": 2,
                "labels": {"app": "edge"},
                "annotations": {"note": "text"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [
                    {"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {".": {}}}},
                    {"manager": "nuncio-a-default", "operation": "Apply", "subresource": "status", "time": "2026-01-01T00:00:05Z"},
                ],
            },
            "spec": {"prefix": "/", "weight": 3, "headers": {"x": true}},
            "status": {"state": "Running"},
        })
    }

    fn parse(value: &Value) -> Object {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    #[test]
    fn all_but_the_managed_fields_is_kept_as_it_is() {
        let object = parse(&mapping());
        let mut expected = mapping();
        let metadata = expected["metadata"].as_object_mut().unwrap();
        metadata.remove("managedFields");
        assert_eq!(object.value, expected);
        let dynamic: DynamicObject = serde_json::from_value(mapping()).unwrap();
        assert_eq!(object.metadata.name, dynamic.metadata.name);
        assert_eq!(object.metadata.namespace, dynamic.metadata.namespace);
        let version = dynamic.metadata.resource_version;
        assert_eq!(object.metadata.resource_version, version);
    }

    #[test]
    fn managers_are_read_without_their_fields() {
        let managers = parse(&mapping()).metadata.managed_fields.unwrap();
        assert_eq!(managers.len(), 2);
        assert_eq!(managers[1].manager.as_deref(), Some("nuncio-a-default"));
        assert_eq!(managers[1].subresource.as_deref(), Some("status"));
        let wrote = managers[1].time.as_ref().unwrap().0.as_second();
        assert_eq!(wrote, 1_767_225_605);
        assert_eq!(managers[0].fields_v1, None);
    }

    #[test]
    fn an_object_without_metadata_is_read() {
        for value in [json!({}), json!({"metadata": null, "spec": null})] {
            let object = parse(&value);
            assert_eq!(object.metadata, ObjectMeta::default());
            assert_eq!(object.value, value);
        }
    }

    #[test]
    fn a_status_and_its_version_do_not_count_and_all_else_does() {
        let digest = |pointer: &str, value: Value| {
            let mut object = mapping();
            *object.pointer_mut(pointer).unwrap() = value;
            parse(&object).digest()
        };
        let unchanged = parse(&mapping()).digest();
        assert_eq!(digest("/status", json!({"state": "Inactive"})), unchanged);
        assert_eq!(digest("/metadata/resourceVersion", json!("8")), unchanged);
        assert_eq!(digest("/metadata/managedFields", json!([])), unchanged);
        for (pointer, value) in [
            ("/spec/prefix", json!("/b/")),
            ("/spec/headers/x", json!(false)),
            ("/metadata/generation", json!(3)),
            ("/metadata/labels/app", json!("other")),
            ("/metadata/annotations/note", json!("other")),
        ] {
            assert_ne!(digest(pointer, value), unchanged, "{pointer}");
        }
    }
}
