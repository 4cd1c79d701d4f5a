//! Objects in the annotation `getambassador.io/config` of a Service or an Ingress: YAML documents, as manifests or in the flat form
//! of old releases, which has the fields of `metadata` and `spec` at the top. Pure; what an object means is for its reconciler.

use nuncio_crds::GROUP;
use serde_json::{Map, Value};

/// Name of the annotation.
pub const ANNOTATION: &str = "getambassador.io/config";

/// Fields of a manifest; all others of a flat document belong to `metadata` or `spec`.
const MANIFEST: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// Fields of `metadata` in a flat document, with their names there.
const METADATA: [(&str, &str); 4] = [
    ("name", "name"),
    ("namespace", "namespace"),
    ("generation", "generation"),
    ("metadata_labels", "labels"),
];
/// What documents call our group.
const GROUPS: [&str; 3] = [GROUP, "x.getambassador.io", "ambassador"];

/// The manifests in the annotation of an object, each with its place among the documents; empty without the annotation. A document
/// that is no manifest is an error with its place, and hides no other.
#[must_use]
pub fn manifests(owner: &Value) -> Vec<Result<(usize, Value), String>> {
    let annotations = owner.pointer("/metadata/annotations");
    let text = annotations.and_then(|all| all.get(ANNOTATION)?.as_str());
    let documents = split(text.unwrap_or_default()).into_iter().enumerate();
    documents
        .filter_map(|(index, text)| {
            let number = index + 1;
            match serde_saphyr::from_str::<Value>(text) {
                // only comments
                Ok(Value::Null) => None,
                Ok(Value::Object(document)) => Some(Ok((number, manifest(document, owner)))),
                Ok(_other) => Some(Err(format!("document {number}: must be a map"))),
                Err(error) => {
                    let error = error.without_snippet().to_string();
                    let error = error.lines().next().unwrap_or_default().trim().to_owned();
                    Some(Err(format!("document {number}: invalid YAML: {error}")))
                }
            }
        })
        .collect()
}

/// Documents, which a line `---` ends whatever is open in them.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut offset) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            documents.extend(text.get(start..offset));
            start = offset + line.len();
        }
        offset += line.len();
    }
    documents.extend(text.get(start..));
    documents.retain(|text| !text.trim().is_empty());
    documents
}

/// A document as a manifest. Its namespace and labels are those of the owner unless it has its own.
fn manifest(mut document: Map<String, Value>, owner: &Value) -> Value {
    let mut part = |name: &str| match document.get_mut(name).map(Value::take) {
        Some(Value::Object(part)) => part,
        _ => Map::new(),
    };
    let (mut metadata, mut spec) = (part("metadata"), part("spec"));
    for (name, value) in std::mem::take(&mut document) {
        if let Some((_, name)) = METADATA.iter().find(|(flat, _)| *flat == name) {
            metadata.insert((*name).to_owned(), value);
        } else if MANIFEST.contains(&name.as_str()) {
            document.insert(name, value);
        } else {
            spec.insert(name, value);
        }
    }
    for name in ["namespace", "labels"] {
        let of_owner = owner.get("metadata").and_then(|all| all.get(name));
        if let Some(value) = of_owner
            && metadata.get(name).is_none_or(Value::is_null)
        {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(Value::String(version)) = document.get_mut("apiVersion")
        && let Some((group, name)) = version.split_once('/')
        && GROUPS.contains(&group)
    {
        *version = format!("{GROUP}/{name}");
    }
    document.insert("metadata".to_owned(), Value::Object(metadata));
    document.insert("spec".to_owned(), Value::Object(spec));
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{object::Kind, reconcile::identify};

    fn of(text: &str) -> Vec<Result<(usize, Value), String>> {
        manifests(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "quote",
                "namespace": "shop",
                "labels": {"app": "quote"},
                "annotations": {ANNOTATION: text},
            },
        }))
    }

    fn only(text: &str) -> Value {
        let mut all = of(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0).unwrap().1
    }

    #[test]
    fn a_flat_document_is_a_manifest() {
        let text = "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nname: quote\nhostname: '*'\nprefix: /quote/\nservice: quote\n";
        let expected = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": "quote", "namespace": "shop", "labels": {"app": "quote"}},
            "spec": {"hostname": "*", "prefix": "/quote/", "service": "quote"},
        });
        assert_eq!(only(text), expected);
        assert_eq!(identify(&expected), Ok(Kind::Mapping));
    }

    #[test]
    fn a_manifest_stays_one() {
        let text = "{apiVersion: getambassador.io/v2, kind: Host, metadata: {name: a, namespace: b, labels: {}}, spec: {hostname: c}, status: {}}";
        let expected = json!({
            "apiVersion": "getambassador.io/v2",
            "kind": "Host",
            "metadata": {"name": "a", "namespace": "b", "labels": {}},
            "spec": {"hostname": "c"},
            "status": {},
        });
        assert_eq!(only(text), expected);
    }

    #[test]
    fn metadata_of_a_flat_document_has_its_place() {
        let text = "{kind: Mapping, name: a, namespace: b, generation: 3, metadata_labels: {c: d}, prefix: /}";
        let expected = json!({
            "kind": "Mapping",
            "metadata": {"name": "a", "namespace": "b", "generation": 3, "labels": {"c": "d"}},
            "spec": {"prefix": "/"},
        });
        assert_eq!(only(text), expected);
    }

    #[test]
    fn the_group_has_several_names() {
        for (written, meant) in [
            ("getambassador.io/v1", "getambassador.io/v1"),
            ("x.getambassador.io/v3alpha1", "getambassador.io/v3alpha1"),
            ("ambassador/v1", "getambassador.io/v1"),
            ("ambassador/v0", "getambassador.io/v0"),
            ("v1", "v1"),
            ("apps/v1", "apps/v1"),
        ] {
            let manifest = only(&format!(
                "{{apiVersion: {written}, kind: Mapping, name: a}}"
            ));
            assert_eq!(manifest["apiVersion"], meant);
        }
    }

    #[test]
    fn a_broken_document_hides_no_other() {
        let found = of("# nothing\n---\nkind: 'x\n---\n[1]\n---\nkind: Mapping\nname: a\n");
        let [broken, list, mapping] = found.as_slice() else {
            panic!("{found:?}")
        };
        let error = broken.as_ref().unwrap_err();
        assert!(error.starts_with("document 2: invalid YAML: "), "{error}");
        assert_eq!(list.as_ref().unwrap_err(), "document 3: must be a map");
        assert_eq!(mapping.as_ref().unwrap().0, 4);
    }

    #[test]
    fn an_object_without_the_annotation_has_none() {
        assert_eq!(manifests(&json!({})), []);
        assert_eq!(
            manifests(&json!({"metadata": {"annotations": {ANNOTATION: 3}}})),
            []
        );
    }
}
