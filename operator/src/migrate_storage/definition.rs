//! What is read of a CustomResourceDefinition, and what is written to its status. Pure.

use jiff::Timestamp;
use kube::core::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::place::{CONDITION, Key, Place};

/// A CustomResourceDefinition.
pub(super) type Definition = Object<Spec, Status>;

/// What is read of a spec.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    versions: Vec<Version>,
    #[serde(default)]
    conversion: Option<Conversion>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Conversion {
    strategy: String,
}

/// What is read of a status.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) stored_versions: Vec<String>,
    conditions: Vec<Value>,
}

/// What must be done with the objects of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// All are stored in this version.
    Current(String),
    /// They must be stored again.
    Store(Store),
    /// They cannot be stored again without harm, for this reason.
    Unsafe(String),
}

/// How objects are stored again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Store {
    /// Generation of the definition.
    pub(super) generation: i64,
    /// The storage version.
    pub(super) version: String,
    /// Further versions that are served.
    pub(super) others: Vec<String>,
    /// Where another run was.
    pub(super) after: Option<Key>,
}

impl Store {
    /// Where this run is.
    pub(super) fn place(&self, after: Option<&Key>) -> Place {
        Place {
            generation: self.generation,
            version: self.version.clone(),
            after: after.cloned(),
        }
    }
}

/// What must be done.
pub(super) fn plan(definition: &Definition) -> Plan {
    let stored = stored(definition);
    let versions = &definition.spec.versions;
    let Some(storage) = versions.iter().find(|version| version.storage) else {
        return Plan::Unsafe("has no storage version".to_owned());
    };
    let version = storage.name.clone();
    let others: Vec<&str> = stored
        .iter()
        .map(String::as_str)
        .filter(|stored| *stored != version)
        .collect();
    if others.is_empty() {
        return Plan::Current(version);
    }
    if definition.metadata.deletion_timestamp.is_some() {
        return Plan::Unsafe("is being deleted".to_owned());
    }
    if !storage.served {
        return Plan::Unsafe(format!(
            "the storage version {version} is not served; set served: true"
        ));
    }
    let conversion = definition.spec.conversion.as_ref();
    if conversion.is_none_or(|conversion| conversion.strategy != "Webhook") {
        let others = others.join(", ");
        return Plan::Unsafe(format!(
            "conversion strategy is None: objects stored as {others} would lose fields; set strategy Webhook and run nuncio apiext"
        ));
    }
    let generation = generation(definition);
    let place = place(definition);
    let place = place.filter(|place| place.generation == generation && place.version == version);
    let served = versions
        .iter()
        .filter(|other| other.served && !other.storage);
    Plan::Store(Store {
        generation,
        others: served.map(|other| other.name.clone()).collect(),
        version,
        after: place.and_then(|place| place.after),
    })
}

/// The versions in which objects may be stored.
pub(super) fn stored(definition: &Definition) -> &[String] {
    let status = definition.status.as_ref();
    status.map_or(&[], |status| &status.stored_versions)
}

/// The generation, which changes with the spec.
pub(super) fn generation(definition: &Definition) -> i64 {
    definition.metadata.generation.unwrap_or_default()
}

fn place(definition: &Definition) -> Option<Place> {
    let condition = conditions(definition).find(|condition| is_ours(condition))?;
    Place::parse(condition.get("message")?.as_str()?)
}

/// A patch of the status that remembers a place.
pub(super) fn remembering(definition: &Definition, place: &Place, now: Timestamp) -> Value {
    let known = conditions(definition).find(|condition| is_ours(condition));
    let since = known.and_then(|condition| condition.get("lastTransitionTime"));
    let since = since.cloned().unwrap_or_else(|| {
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ");
        Value::String(now.to_string())
    });
    let condition = json!({
        "type": CONDITION,
        "status": "False",
        "reason": "InProgress",
        "message": place.to_string(),
        "lastTransitionTime": since,
    });
    let others = conditions(definition).filter(|condition| !is_ours(condition));
    let conditions: Vec<Value> = others.cloned().chain([condition]).collect();
    patch(definition, &json!({"conditions": conditions}))
}

/// A patch of the status that says that all objects are stored in this version.
pub(super) fn pruning(definition: &Definition, version: &str) -> Value {
    let others = conditions(definition).filter(|condition| !is_ours(condition));
    let conditions: Vec<&Value> = others.collect();
    let status = json!({"storedVersions": [version], "conditions": conditions});
    patch(definition, &status)
}

/// A patch that fails if the definition has changed since it was read.
fn patch(definition: &Definition, status: &Value) -> Value {
    let version = &definition.metadata.resource_version;
    json!({"metadata": {"resourceVersion": version}, "status": status})
}

fn conditions(definition: &Definition) -> impl Iterator<Item = &Value> {
    let status = definition.status.iter();
    status.flat_map(|status| &status.conditions)
}

fn is_ours(condition: &Value) -> bool {
    condition.get("type").and_then(Value::as_str) == Some(CONDITION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(stored: &Value, message: Option<&str>, more: &Value) -> Definition {
        let mut conditions = vec![json!({"type": "Established", "status": "True"})];
        conditions.extend(message.map(|message| {
            json!({"type": CONDITION, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        }));
        let mut value = json!({
            "metadata": {"name": "mappings.getambassador.io", "generation": 3, "resourceVersion": "7"},
            "spec": {
                "versions": [
                    {"name": "v1", "served": false, "storage": false},
                    {"name": "v2", "served": true, "storage": false},
                    {"name": "v3alpha1", "served": true, "storage": true},
                ],
                "conversion": {"strategy": "Webhook"},
            },
            "status": {"storedVersions": stored, "conditions": conditions},
        });
        for (field, more) in more.as_object().into_iter().flatten() {
            value["spec"][field] = more.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn both(message: Option<&str>) -> Definition {
        definition(&json!(["v2", "v3alpha1"]), message, &json!({}))
    }

    #[test]
    fn objects_of_other_versions_are_stored_again() {
        let store = Store {
            generation: 3,
            version: "v3alpha1".to_owned(),
            others: vec!["v2".to_owned()],
            after: None,
        };
        assert_eq!(plan(&both(None)), Plan::Store(store));
        let current = definition(&json!(["v3alpha1"]), None, &json!({}));
        assert_eq!(plan(&current), Plan::Current("v3alpha1".to_owned()));
    }

    #[test]
    fn nothing_is_stored_without_a_conversion() {
        for conversion in [json!({"strategy": "None"}), json!(null)] {
            let more = json!({"conversion": conversion});
            let none = definition(&json!(["v2", "v3alpha1"]), None, &more);
            let Plan::Unsafe(reason) = plan(&none) else {
                panic!("{conversion}")
            };
            assert!(reason.contains("stored as v2 would lose fields"));
        }
        let more = json!({"versions": [{"name": "v3alpha1", "served": false, "storage": true}]});
        let unserved = definition(&json!(["v2", "v3alpha1"]), None, &more);
        assert!(matches!(plan(&unserved), Plan::Unsafe(_)));
    }

    #[test]
    fn a_place_of_another_generation_or_version_does_not_count() {
        let after = |message: &str| match plan(&both(Some(message))) {
            Plan::Store(store) => store.after.map(|key| key.to_string()),
            other => panic!("{other:?}"),
        };
        let place = "generation 3: migrating to v3alpha1, done up to a/b";
        assert_eq!(after(place).as_deref(), Some("a/b"));
        assert_eq!(after(&place.replace('3', "4")), None);
        assert_eq!(after(&place.replace("v3alpha1", "v2")), None);
        assert_eq!(after("garbage"), None);
    }

    #[test]
    fn only_what_is_ours_is_written() {
        let now: Timestamp = "2026-02-03T04:05:06.7Z".parse().unwrap();
        let found = both(None);
        let Plan::Store(store) = plan(&found) else {
            panic!("no plan")
        };
        let patch = remembering(&found, &store.place(None), now);
        assert_eq!(patch["metadata"], json!({"resourceVersion": "7"}));
        let conditions = &patch["status"]["conditions"];
        assert_eq!(conditions[0]["type"], "Established");
        assert_eq!(conditions[1]["lastTransitionTime"], "2026-02-03T04:05:06Z");
        assert_eq!(patch["status"].get("storedVersions"), None);

        let found = both(Some("generation 3: migrating to v3alpha1"));
        let patch = remembering(&found, &store.place(None), now);
        assert_eq!(
            patch["status"]["conditions"][1]["lastTransitionTime"],
            "2026-01-01T00:00:00Z"
        );
        let patch = pruning(&found, "v3alpha1");
        assert_eq!(
            patch,
            json!({
                "metadata": {"resourceVersion": "7"},
                "status": {
                    "storedVersions": ["v3alpha1"],
                    "conditions": [{"type": "Established", "status": "True"}],
                },
            })
        );
    }
}
