//! What an Ingress of Knative may hold. Its definition is not ours, so that its fields have to be known here to be written.

use serde_json::{Value, json};

/// A schema of `spec`.
pub(super) fn schema() -> Value {
    let text = json!({"type": "string"});
    let integer = json!({"type": "integer"});
    let texts = json!({"type": "array", "items": text});
    let map = |items: Value| json!({"type": "object", "additionalProperties": items});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let list = |items: Value| json!({"type": "array", "items": items});
    let choice = |choices: &[&str]| json!({"type": "string", "enum": choices});
    let hosts = list(choice(&[
        "a.example",
        "b.example",
        "A.example",
        "*",
        "web.default.svc",
    ]));
    let split = object(json!({
        "serviceName": choice(&["web", "outside", "none"]), "serviceNamespace": choice(&["default", "other", "a.b"]),
        "servicePort": choice(&["http", "80", "0", "none"]), "percent": integer, "appendHeaders": map(text.clone()),
    }));
    let path = object(json!({
        "path": choice(&["/", "/a", "a", "/../b", "/a?b"]), "headers": map(object(json!({"exact": text}))),
        "rewriteHost": text, "timeout": choice(&["15s", "0s", "1h", "-1s", "5"]),
        "appendHeaders": map(text.clone()), "splits": list(split),
    }));
    let rule = object(json!({
        "hosts": hosts, "visibility": choice(&["ExternalIP", "ClusterLocal", "", "Other"]), "http": object(json!({"paths": list(path)})),
    }));
    let tls = object(json!({
        "hosts": texts, "secretName": choice(&["cert", "none"]), "secretNamespace": choice(&["default", "other"]),
    }));
    object(json!({
        "rules": list(rule), "tls": list(tls), "httpOption": choice(&["Enabled", "Redirected", ""]),
    }))
}
