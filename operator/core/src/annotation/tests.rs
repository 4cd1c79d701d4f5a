use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::settings::Settings;

fn owner(text: &str) -> Value {
    // an item of a list has neither apiVersion nor kind
    json!({
        "metadata": {
            "name": "quote",
            "namespace": "shop",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "7",
            "labels": {"app": "quote"},
            "annotations": {ANNOTATION: text},
        },
    })
}

fn read_by(text: &str, settings: &Settings) -> Annotation {
    Annotation::of(Kind::Service, &owner(text), &Fleets::from(settings.clone())).unwrap()
}

fn read(text: &str) -> Annotation {
    read_by(text, &Settings::default())
}

/// Objects with the numbers of their documents, and the problems of the owner.
fn shown(found: &Annotation) -> (Vec<String>, Vec<&str>) {
    let objects = found.fleets.iter().flatten();
    let objects = objects.map(|(number, found)| format!("{number} {}", found.object));
    let problems = found.problems.iter();
    (
        objects.collect(),
        problems.map(|problem| problem.message.as_str()).collect(),
    )
}

fn as_manifest(text: &str) -> Value {
    let document = serde_saphyr::from_str::<Map<String, Value>>(text).unwrap();
    let mut manifest = manifest(document, &owner(""));
    let metadata = manifest["metadata"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("resourceVersion"), Some("7".into()));
    let age = metadata.remove("creationTimestamp");
    assert_eq!(age, Some("2026-01-01T00:00:00Z".into()));
    manifest
}

#[test]
fn a_flat_document_is_a_manifest() {
    let text = "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nname: quote\nhostname: '*'\nprefix: /quote/\nservice: quote\n";
    let expected = json!({
        "apiVersion": "getambassador.io/v3alpha1",
        "kind": "Mapping",
        "metadata": {"name": "quote", "namespace": "shop", "labels": {"app": "quote"}},
        "spec": {"hostname": "*", "prefix": "/quote/", "service": "quote"},
    });
    assert_eq!(as_manifest(text), expected);
    let found = read(&format!("---\n{text}"));
    assert_eq!(shown(&found), (vec!["1 Mapping shop/quote".into()], vec![]));
    assert!(found.fleets[0][0].1.fragment.is_some());
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
    assert_eq!(as_manifest(text), expected);
}

#[test]
fn metadata_of_a_flat_document_has_its_place() {
    let text =
        "{kind: Mapping, name: a, namespace: b, generation: 3, metadata_labels: {c: d}, prefix: /}";
    let expected = json!({
        "kind": "Mapping",
        "metadata": {"name": "a", "namespace": "b", "generation": 3, "labels": {"c": "d"}},
        "spec": {"prefix": "/"},
    });
    assert_eq!(as_manifest(text), expected);
}

#[test]
fn a_namespace_that_is_none_is_the_owners() {
    for namespace in ["7", "''", "null", "[a]", "{}"] {
        let text = format!("{{kind: Mapping, name: a, namespace: {namespace}}}");
        assert_eq!(
            as_manifest(&text)["metadata"]["namespace"],
            "shop",
            "{text}"
        );
    }
}

#[test]
fn an_object_in_another_namespace_names_its_owner() {
    let text = "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, name: a, namespace: b, prefix: /, service: a}";
    let found = read(text);
    let problems = &found.fleets[0][0].1.problems;
    let expected = "configured in another namespace, by the annotation of Service shop/quote";
    assert!(
        problems.iter().any(|problem| problem.message == expected),
        "{problems:?}"
    );
    let others = Annotation::of(Kind::Mapping, &owner(text), &Settings::default().into());
    assert_eq!(others, None);
}

#[test]
fn nobody_pretends_to_be_older() {
    as_manifest(
        "{kind: Listener, metadata: {name: a, creationTimestamp: '2000-01-01T00:00:00Z', resourceVersion: '1'}}",
    );
}

#[test]
fn each_version_is_read() {
    for version in ["v1", "v2", "v3alpha1"] {
        for group in [GROUP, "ambassador"] {
            let text = format!(
                "{{apiVersion: {group}/{version}, kind: Mapping, name: a, hostname: b, host: b, prefix: /, service: c}}"
            );
            let found = read(&text);
            assert_eq!(shown(&found).0, ["1 Mapping shop/a"], "{text}");
            assert!(found.fleets[0][0].1.fragment.is_some(), "{text}");
        }
    }
}

#[test]
fn a_document_that_is_not_an_object_hides_no_other() {
    let text = "# nothing\n---\nkind: 'x\n---\n[1]\n---\napiVersion: ambassador/v0\nkind: Mapping\nname: a\n---\nkind: Mapping\nname: a\n---\n{apiVersion: v1, kind: Service, name: a}\n---\n{apiVersion: getambassador.io/v2, kind: Listener, name: a}\n---\n{apiVersion: getambassador.io/v3alpha1, kind: Mapping, name: a, prefix: /, service: a}\n---\n{apiVersion: getambassador.io/v3alpha1, kind: Mapping, name: a, prefix: /b, service: a}\n";
    let found = read(text);
    let (objects, problems) = shown(&found);
    assert_eq!(objects, ["8 Mapping shop/a"]);
    let expected = [
        "document 2: invalid YAML at line 4, column ",
        "document 3: not a Kubernetes object: must be a map with apiVersion, kind and metadata; ignored",
        "document 4, apiVersion: unsupported version \"v0\" of Mapping: use v3alpha1; ignored",
        "document 5, apiVersion: not a Kubernetes object: apiVersion is missing; ignored",
        "document 6, kind: kind Service is not supported in an annotation; ignored",
        "document 7, apiVersion: unsupported version \"v2\" of Listener: use v3alpha1; ignored",
        "document 9: duplicate Mapping shop/a: using the first; ignored",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
    assert!(found.problems.iter().all(|problem| problem.path == PATH));
}

#[test]
fn a_flood_of_mistakes_is_reported_in_part() {
    let found = read(&"---\n[]\n".repeat(5000));
    assert_eq!(found.problems.len(), MOST_PROBLEMS);
}

#[test]
fn documents_of_others_are_ignored() {
    let text = "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, name: a, ambassador_id: [other], prefix: /, service: a}";
    assert_eq!(shown(&read(text)), (vec![], vec![]));
    let settings = Settings {
        single_namespace: Some("shop".to_owned()),
        ..Settings::default()
    };
    let text = "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, name: a, namespace: b, prefix: /, service: a}";
    let expected = "document 1, metadata.namespace: namespace b is not watched; ignored";
    assert_eq!(shown(&read_by(text, &settings)), (vec![], vec![expected]));
}

#[test]
fn an_object_without_the_annotation_has_none() {
    let fleets = Fleets::from(Settings::default());
    assert_eq!(Annotation::of(Kind::Service, &json!({}), &fleets), None);
    assert_eq!(
        Annotation::of(Kind::Service, &json!({"metadata": {}}), &fleets),
        None
    );
    let hostile = [json!(3), json!(null), json!(""), json!({"a": []})];
    for value in hostile {
        let owner = json!({"metadata": {"annotations": {ANNOTATION: value}}});
        let found = Annotation::of(Kind::Service, &owner, &fleets).unwrap();
        assert_eq!(shown(&found), (vec![], vec![]));
    }
}

/// A document: an object, or whatever else may be there.
fn any_document() -> impl Strategy<Value = String> {
    let object = "apiVersion: (getambassador\\.io|ambassador)/v[0-3](alpha1)?\nkind: (Mapping|Host|Module|Service)\nname: [ab]\n(namespace: [ab]\n)?prefix: /\nservice: a\n";
    let garbage = "(\\.\\.\\.\n|\n|[ a-z:,\\[\\]\\{\\}'\"&*|>#%!\\\\\u{feff}\t-]{1,12}|kind: Mapping\n|metadata: |spec: |name: a\n){0,12}";
    prop_oneof![2 => object, 1 => garbage]
}

proptest! {
    /// Whatever is in an annotation, it is read, its problems are few, and each object is there once.
    #[test]
    fn any_text_is_read(documents in prop::collection::vec(any_document(), 0..30)) {
        let found = read(&documents.join("---\n"));
        prop_assert!(found.problems.len() <= MOST_PROBLEMS);
        prop_assert!(found.problems.iter().all(|problem| problem.path == PATH));
        let objects: Vec<_> = found.fleets[0].iter().map(|(_, found)| &found.object).collect();
        let distinct: BTreeSet<_> = objects.iter().collect();
        prop_assert_eq!(distinct.len(), objects.len());
        prop_assert!(objects.iter().all(|object| object.kind.group() == GROUP && !object.name.is_empty()));
    }
}
