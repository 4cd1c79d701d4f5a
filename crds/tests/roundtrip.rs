//! The objects in `testdata` set every field there is; reading and writing them changes nothing.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use nuncio_crds::v3alpha1::{Host, HostSpec, Listener, ListenerSpec, Mapping, MappingSpec};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[test]
fn every_field_of_a_host_is_kept() {
    assert_is_kept::<Host>("host.yaml");
}

#[test]
fn every_field_of_a_listener_is_kept() {
    assert_is_kept::<Listener>("listener.yaml");
}

#[test]
fn every_field_of_a_mapping_is_kept() {
    assert_is_kept::<Mapping>("mapping.yaml");
}

#[test]
fn testdata_sets_every_field_of_the_schema() {
    for (file, definition) in [
        ("host.yaml", Host::crd()),
        ("listener.yaml", Listener::crd()),
        ("mapping.yaml", Mapping::crd()),
    ] {
        let object = read(file);
        for part in ["spec", "status"] {
            let mut missing = Vec::new();
            collect_missing(
                &schema(&definition)["properties"][part],
                &[&object[part]],
                part,
                &mut missing,
            );
            assert!(missing.is_empty(), "{file} does not set {missing:?}");
        }
    }
}

#[test]
fn optional_fields_may_be_absent() {
    let host: HostSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!(serde_json::to_value(host).unwrap(), json!({}));

    let least = json!({"port": 8080, "securityModel": "XFP", "hostBinding": {}});
    let listener: ListenerSpec = serde_json::from_value(least.clone()).unwrap();
    assert_eq!(serde_json::to_value(listener).unwrap(), least);

    let least = json!({"prefix": "/", "service": "backend"});
    let mapping: MappingSpec = serde_json::from_value(least.clone()).unwrap();
    assert_eq!(serde_json::to_value(mapping).unwrap(), least);
}

#[test]
fn empty_parts_are_accepted_where_emissary_accepts_them() {
    serde_json::from_value::<HostSpec>(json!({
        "ambassador_id": [], "selector": {}, "mappingSelector": {}, "acmeProvider": {"privateKeySecret": {}},
        "tlsSecret": {}, "tlsContext": {}, "tls": {}, "requestPolicy": {"insecure": {}}, "previewUrl": {},
    }))
    .unwrap();
    serde_json::from_value::<MappingSpec>(json!({
        "prefix": "", "service": "", "headers": {}, "add_request_headers": {"x-a": {}}, "cors": {}, "circuit_breakers": [{}],
        "keepalive": {}, "retry_policy": {}, "regex_rewrite": {}, "docs": {}, "labels": {"a": []}, "envoy_override": {},
        "modules": [], "v2ExplicitTLS": {}, "error_response_overrides": [{"on_status_code": 404, "body": {}}],
    }))
    .unwrap();
}

fn assert_is_kept<K: DeserializeOwned + Serialize>(file: &str) {
    let object = read(file);
    let typed: K = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object);
}

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata")
        .join(file);
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn schema(definition: &CustomResourceDefinition) -> Value {
    let version = &definition.spec.versions[0];
    serde_json::to_value(version.schema.as_ref().unwrap()).unwrap()["openAPIV3Schema"].clone()
}

/// Adds to `missing` the fields that none of `values`, which all have this schema, sets.
fn collect_missing(schema: &Value, values: &[&Value], path: &str, missing: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let values: Vec<&Value> = values.iter().filter_map(|value| value.get(name)).collect();
        if values.is_empty() {
            missing.push(path);
        } else {
            collect_missing(property, &values, &path, missing);
        }
    }
    let below: Vec<&Value> = values
        .iter()
        .flat_map(|value| match value {
            Value::Array(items) => items.iter().collect::<Vec<_>>(),
            Value::Object(entries) => entries.values().collect(),
            _ => Vec::new(),
        })
        .collect();
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        if inner.is_object() {
            collect_missing(inner, &below, &format!("{path}[]"), missing);
        }
    }
}
