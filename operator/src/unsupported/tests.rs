use std::sync::{Arc, Mutex};

use super::*;
use crate::client::{Limits, testing::Apiserver};
use nuncio_core::settings::Settings;

const GROUPS: &str = r#"{"groups":[{"name":"getambassador.io","versions":[{"groupVersion":"getambassador.io/v3alpha1","version":"v3alpha1"}],
    "preferredVersion":{"groupVersion":"getambassador.io/v3alpha1","version":"v3alpha1"}}]}"#;

/// Discovery: a kind of the table, one that has a status, and one that has none.
fn resources() -> String {
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list", "patch"]});
    let all = [
        resource("mappings", "Mapping"),
        resource("mappings/status", "Mapping"),
        resource("gadgets", "Gadget"),
        resource("gadgets/status", "Gadget"),
        resource("widgets", "Widget"),
    ];
    json!({"groupVersion": "getambassador.io/v3alpha1", "resources": all}).to_string()
}

/// The objects of each kind that is not in the table.
fn list() -> String {
    let own = Manager::new(&Settings::default().into());
    let condition = |reason: &str| json!({"conditions": [{"type": "Accepted", "status": "False", "reason": reason, "observedGeneration": 1}]});
    let managed = |manager: &str| json!([{"manager": manager, "operation": "Apply", "subresource": "status"}]);
    let object = |name: &str, id: &str, status: Value, managers: Value| {
        let metadata = json!({"name": name, "namespace": "default", "generation": 1, "managedFields": managers});
        json!({"metadata": metadata, "spec": {"ambassador_id": [id]}, "status": status})
    };
    let none = || json!(null);
    let items = [
        object("new", "default", none(), none()),
        object("elsewhere", "other", none(), none()),
        object(
            "known",
            "default",
            condition("UnsupportedKind"),
            managed(own.name()),
        ),
        object(
            "stale",
            "default",
            condition("Invalid"),
            managed(own.name()),
        ),
        object("theirs", "default", condition("Theirs"), managed("theirs")),
        object("rival", "default", none(), managed("nuncio-a-default")),
    ];
    json!({"metadata": {}, "items": items}).to_string()
}

/// The requests of one look.
async fn look(is_leader: bool, status: u16) -> (Kinds, Vec<String>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let apiserver = Apiserver::start(move |path, answer| {
        seen.lock().unwrap().push(path.to_owned());
        let plain = path.split('?').next().unwrap_or_default();
        match plain {
            "/apis" => answer.complete(200, GROUPS),
            "/apis/getambassador.io/v3alpha1" => answer.complete(200, &resources()),
            _ if plain.ends_with("/status") => answer.complete(
                status,
                r#"{"apiVersion":"getambassador.io/v3alpha1","kind":"Gadget","metadata":{"name":"a"}}"#,
            ),
            _ => answer.complete(200, &list()),
        }
    })
    .await;
    let mut kinds = Kinds {
        client: apiserver.client(Limits::default()),
        fleets: Settings::default().into(),
        manager: Manager::new(&Settings::default().into()),
        logged: BTreeSet::new(),
    };
    kinds.look(is_leader).await;
    let requests = requests.lock().unwrap().clone();
    (kinds, requests)
}

/// The objects whose status was written.
fn written(requests: &[String]) -> Vec<&str> {
    let paths = requests.iter().filter_map(|path| path.split('?').next());
    let of_status = paths.filter_map(|path| path.strip_suffix("/status"));
    of_status
        .map(|path| {
            path.strip_prefix("/apis/getambassador.io/v3alpha1/namespaces/default/")
                .unwrap_or(path)
        })
        .collect()
}

#[tokio::test]
async fn the_leader_reports_an_unsupported_kind_where_nobody_else_writes() {
    let (kinds, requests) = look(true, 200).await;
    assert_eq!(written(&requests), ["gadgets/new", "gadgets/stale"]);
    let logged: Vec<&str> = kinds.logged.iter().map(String::as_str).collect();
    assert_eq!(logged, ["Gadget", "Widget"]);
    assert!(
        !requests.iter().any(|path| path.contains("mappings")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn other_replicas_only_log() {
    let (kinds, requests) = look(false, 200).await;
    assert!(written(&requests).is_empty());
    assert_eq!(kinds.logged.len(), 2);
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_given_up() {
    let (kinds, requests) = look(true, 403).await;
    assert_eq!(written(&requests), ["gadgets/new"]);
    assert!(kinds.logged.contains("status of Gadget"));
}
