//! Objects a second of the conversion webhook, without its connections: `cargo bench --package nuncio-crds`. Reviews of one object
//! and of 500, which is a page of a list, of Mappings as Emissary-ingress stores them, with the fields that need a conversion.

use divan::{Bencher, counter::ItemsCount};
use nuncio_crds::conversion::{ApiVersion, convert, review};
use serde_json::{Value, json};

const SIZES: [usize; 2] = [1, 500];

fn main() {
    divan::main();
}

/// To the version that the operator reads.
#[divan::bench(args = SIZES)]
fn to_v3alpha1(bencher: Bencher<'_, '_>, size: usize) {
    let objects = (0..size).map(mapping).collect();
    measure(bencher, size, ApiVersion::V3Alpha1, &objects);
}

/// To the version that is stored, as each write.
#[divan::bench(args = SIZES)]
fn to_v2(bencher: Bencher<'_, '_>, size: usize) {
    let new = |number| convert(mapping(number), ApiVersion::V3Alpha1).unwrap_or_default();
    let objects = (0..size).map(new).collect();
    measure(bencher, size, ApiVersion::V2, &objects);
}

fn measure(bencher: Bencher<'_, '_>, size: usize, to: ApiVersion, objects: &Value) {
    let question = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": "5b1c2f4a", "desiredAPIVersion": to.to_string(), "objects": objects},
    });
    let body = question.to_string().into_bytes();
    bencher
        .counter(ItemsCount::new(size))
        .bench(|| review(divan::black_box(&body)));
}

/// About two kilobytes, half of them fields of managers, as objects in clusters are.
fn mapping(number: usize) -> Value {
    let spec = json!({
        "ambassador_id": "edge",
        "host": format!("host-{number}.example.com"),
        "prefix": format!("/api/{number}/"),
        "service": format!("backend-{number}.shop:8080"),
        "tls": true,
        "timeout_ms": 3000,
        "headers": {"x-version": "2", "x-beta": true},
        "add_request_headers": {"x-from": "edge", "x-id": {"value": "%REQ(x-request-id)%", "append": false}},
        "remove_request_headers": "x-internal",
        "cors": {"origins": "https://a.example.com,https://b.example.com", "methods": "GET, POST", "max_age": "86400"},
        "labels": {"ambassador": [{"client": ["remote_address", {"plan": {"header": "x-plan", "omit_if_not_present": true}}]}]},
        "retry_policy": {"retry_on": "5xx", "num_retries": 3},
    });
    let manages = |fields: &Value| -> Value {
        let fields = fields.as_object().into_iter().flatten();
        fields
            .map(|(name, _)| (format!("f:{name}"), json!({})))
            .collect()
    };
    let applied = json!({"apiVersion": "getambassador.io/v2", "kind": "Mapping", "spec": spec});
    json!({
        "apiVersion": "getambassador.io/v2",
        "kind": "Mapping",
        "metadata": {
            "name": format!("mapping-{number}"),
            "namespace": "shop",
            "uid": format!("9b0d7a6c-0000-4000-8000-{number:012}"),
            "resourceVersion": number.to_string(),
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()},
            "managedFields": [{
                "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "getambassador.io/v2",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": manages(&spec)},
            }],
        },
        "spec": spec,
        "status": {"state": "Running"},
    })
}
