//! The objects in `testdata`, one for each kind, set every field there is; reading and writing them changes nothing.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{fs, path::Path};

use nuncio_crds::{
    KINDS, KindInfo,
    v3alpha1::{HostSpec, ListenerSpec, MappingSpec, TcpMappingSpec, TlsContextSpec},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[test]
fn every_field_of_every_kind_is_kept() {
    for (info, object) in examples() {
        let schema = info.schema.unwrap();
        let written = schema.round_trip(object.clone()).unwrap();
        assert_eq!(written, object, "{}", info.name);
    }
}

#[test]
fn every_example_is_of_its_kind() {
    for (info, object) in examples() {
        let version = info.kind.version();
        assert_eq!(object["apiVersion"], format!("{}/{version}", info.group));
        assert_eq!(object["kind"], info.name);
    }
}

#[test]
fn testdata_sets_every_field_of_the_schema() {
    for (info, object) in examples() {
        let schema = schema(info);
        for part in ["spec", "status"] {
            let mut missing = Vec::new();
            let property = &schema["properties"][part];
            collect_missing(property, &[&object[part]], part, &mut missing);
            assert!(missing.is_empty(), "{} does not set {missing:?}", info.name);
        }
    }
}

#[test]
fn only_required_fields_must_be_set() {
    is_kept::<HostSpec>(&json!({}));
    is_kept::<ListenerSpec>(&json!({"port": 8080, "securityModel": "XFP", "hostBinding": {}}));
    is_kept::<MappingSpec>(&json!({"prefix": "/", "service": "backend"}));
    is_kept::<TcpMappingSpec>(&json!({"port": 8080, "service": "backend"}));
    is_kept::<TlsContextSpec>(&json!({}));
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

/// Each kind that we define, with the object of `testdata/KIND.yaml`.
fn examples() -> impl Iterator<Item = (&'static KindInfo, Value)> {
    let defined = KINDS.iter().filter(|info| info.schema.is_some());
    defined.map(|info| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/testdata")
            .join(format!("{}.yaml", info.name.to_lowercase()));
        assert!(path.exists(), "{} has no {}", info.name, path.display());
        let text = fs::read_to_string(&path).unwrap();
        (info, serde_saphyr::from_str(&text).unwrap())
    })
}

fn is_kept<T: DeserializeOwned + Serialize>(value: &Value) {
    let typed: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), *value);
}

fn schema(info: &KindInfo) -> Value {
    let definition = info.definition().unwrap();
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
