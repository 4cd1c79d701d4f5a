//! `config/rbac` lets the operator do what the table of kinds asks for, and nothing else.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use nuncio_crds::{
    GROUP, KINDS, Kind,
    kind::{Scope, Status},
};
use serde_json::{Value, json};

/// Verbs by group and resource.
type Permissions = BTreeMap<(String, String), BTreeSet<String>>;

/// Kinds of Ambassador Edge Stack, which are not supported.
const EDGE_STACK: [&str; 3] = ["filterpolicies", "filters", "ratelimits"];

#[test]
fn the_operator_reads_every_watched_kind_and_writes_every_status() {
    let mut expected = Permissions::new();
    let mut allow = |group: &str, resource: String, verbs: &[&str]| {
        let verbs = verbs.iter().map(|&verb| verb.to_owned()).collect();
        expected.insert((group.to_owned(), resource), verbs);
    };
    for kind in Kind::WATCHED {
        let info = kind.info();
        // all Secrets are watched by their metadata; only those that something refers to are fetched
        let verbs: &[_] = match kind {
            Kind::Secret => &["get", "list", "watch"],
            _ => &["list", "watch"],
        };
        allow(info.group, info.plural.to_owned(), verbs);
        if info.status != Status::None {
            // server-side apply is a patch
            allow(info.group, format!("{}/status", info.plural), &["patch"]);
        }
    }
    // what is not supported is counted in the log, and reported in its status
    for plural in EDGE_STACK {
        allow(GROUP, plural.to_owned(), &["list"]);
        allow(GROUP, format!("{plural}/status"), &["patch"]);
    }
    // the addresses of the gateway
    allow(
        "networking.k8s.io",
        "ingresses/status".to_owned(),
        &["patch"],
    );
    // what is wrong with annotations and Ingresses
    allow("events.k8s.io", "events".to_owned(), &["create"]);
    // so that a kind is watched as soon as it is installed
    allow(
        "apiextensions.k8s.io",
        "customresourcedefinitions".to_owned(),
        &["list", "watch"],
    );
    // so that only pods of Envoys get a certificate
    allow(
        "authentication.k8s.io",
        "tokenreviews".to_owned(),
        &["create"],
    );
    let mut allowed = Permissions::new();
    for file in ["cluster_role.yaml", "cluster_wide.yaml"] {
        allowed.append(&mut permissions(&role(file, "ClusterRole")["rules"]));
    }
    assert_eq!(allowed, expected);
}

/// A RoleBinding grants the rules of a ClusterRole in one namespace, but nothing that is in no namespace.
#[test]
fn the_roles_differ_in_scope() {
    for kind in Kind::WATCHED {
        let info = kind.info();
        let file = match info.scope {
            Scope::Cluster => "cluster_wide.yaml",
            Scope::Namespaced => "cluster_role.yaml",
            Scope::File => continue,
        };
        let allowed = permissions(&role(file, "ClusterRole")["rules"]);
        let resource = (info.group.to_owned(), info.plural.to_owned());
        assert!(allowed.contains_key(&resource), "{resource:?} in {file}");
    }
}

#[test]
fn in_its_own_namespace_the_operator_also_writes_leases_its_authority_and_listeners() {
    let role = role("role.yaml", "Role");
    let rules = json!([{
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    }, {
        "apiGroups": [""],
        "resources": ["configmaps", "secrets"],
        "resourceNames": ["nuncio-ca"],
        "verbs": ["get", "update"],
    }, {
        "apiGroups": [""],
        "resources": ["configmaps", "secrets"],
        "verbs": ["create"],
    }, {
        "apiGroups": ["getambassador.io"],
        "resources": ["listeners"],
        "verbs": ["create"],
    }]);
    assert_eq!(role["rules"], rules);
}

#[test]
fn a_migration_stores_the_kinds_with_several_versions() {
    let kinds = KINDS
        .iter()
        .filter(|info| info.group == GROUP && info.versions.len() > 1);
    let plurals: BTreeSet<&str> = kinds.map(|info| info.plural).collect();
    let names: BTreeSet<String> = plurals
        .iter()
        .map(|name| format!("{name}.{GROUP}"))
        .collect();
    let role = document(
        "kustomize/components/migrate-storage/rbac.yaml",
        "ClusterRole",
    );
    let definitions = "customresourcedefinitions";
    let rules = json!([{
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": [definitions],
        "resourceNames": names,
        "verbs": ["get"],
    }, {
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": [format!("{definitions}/status")],
        "resourceNames": names,
        "verbs": ["patch"],
    }, {
        "apiGroups": [GROUP],
        "resources": plurals,
        "verbs": ["list", "patch"],
    }]);
    assert_eq!(role["rules"], rules);
}

/// The one document of this kind in a file of `config/rbac`.
fn role(file: &str, kind: &str) -> Value {
    document(&format!("config/rbac/{file}"), kind)
}

/// The one document of this kind in a file.
fn document(file: &str, kind: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
    let mut found = documents.into_iter().filter(|found| found["kind"] == kind);
    let role = found.next().unwrap();
    assert!(found.next().is_none(), "{file} has another {kind}");
    role
}

fn permissions(rules: &Value) -> Permissions {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule[field].clone()).unwrap()
    };
    let mut permissions = Permissions::new();
    for rule in rules.as_array().unwrap() {
        let fields: Vec<&String> = rule.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["apiGroups", "resources", "verbs"], "{rule}");
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let verbs = permissions.entry((group.clone(), resource)).or_default();
                verbs.extend(texts(rule, "verbs"));
            }
        }
    }
    permissions
}
