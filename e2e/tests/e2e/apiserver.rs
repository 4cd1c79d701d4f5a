//! What the operator makes of an apiserver that does not answer, does not permit, or does not have a kind.

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    control_plane::{APISERVER, page},
    relay::Relay,
    wait::{PATIENCE, until},
    workspace::root,
};
use serde_json::Value;

use crate::{
    Space,
    fixture::{host, mapping, object},
    status::condition,
};

pub(crate) async fn half_open_connections_delay_a_change_by_less_than_half_a_minute(
    space: &mut Space,
) -> Result<()> {
    let _backend = Backend::start("10.96.11.1:80", "relayed").await?;
    let relay = Relay::start("127.0.0.1:6444", APISERVER).await?;
    let kubeconfig = space.plane.operator_kubeconfig();
    let text = fs::read_to_string(&kubeconfig)?;
    fs::write(&kubeconfig, text.replace(APISERVER, relay.address()))?;
    space.own_gateway()?.replica.process.kill();
    space.restart_replica().await?;
    space.apply(
        &[
            host("relayed", "relayed.example", ""),
            mapping("before", "relayed.example", "/before/", "10.96.11.1", ""),
        ]
        .concat(),
    )?;
    space
        .answers("relayed.example", "/before/", 200, "relayed")
        .await?;
    relay.freeze();
    let start = Instant::now();
    space.apply(&mapping(
        "after",
        "relayed.example",
        "/after/",
        "10.96.11.1",
        "",
    ))?;
    space
        .answers("relayed.example", "/after/", 200, "relayed")
        .await?;
    eprintln!("a change took {:?}", start.elapsed());
    ensure!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    condition(space, "mapping/after", "Accepted", "True", "").await
}

pub(crate) async fn a_missing_permission_is_named(space: &mut Space) -> Result<()> {
    let health = space.gateway.instance.health(0);
    space.own_gateway()?.replica.process.kill();
    forbid(space, "clusterrole/nuncio-cluster", "namespaces")?;
    forbid(space, "role/nuncio", "leases")?;
    space.restart_replica().await?;
    for text in [
        "missing permission to list namespaces in all namespaces",
        "leader election: missing permission on leases.coordination.k8s.io",
        "replica Lease: missing permission on leases.coordination.k8s.io",
    ] {
        until(text, || async {
            let body = page(&health, "/ambassador/v0/check_ready").await?;
            ensure!(body.contains(text), "{body}");
            Ok(())
        })
        .await?;
    }
    let missing = space
        .gateway
        .replica
        .metric("nuncio_missing_permissions")
        .await?;
    ensure!(missing > 3.5, "{missing}");
    let rbac = root().join("config/rbac").display().to_string();
    space.plane.kubectl(&["apply", "-k", &rbac], "")?;
    until("no warning", || async {
        let body = page(&health, "/ambassador/v0/check_ready").await?;
        ensure!(!body.contains("missing permission"), "{body}");
        Ok(())
    })
    .await?;
    forbid(space, "clusterrole/nuncio", "mappings")?;
    space.own_gateway()?.replica.process.kill();
    let text = "missing permission to list mappings.getambassador.io";
    let restart = space.restart_replica();
    let named = until(text, || async {
        let body = page(&health, "/ambassador/v0/check_ready").await;
        let body = format!("{body:?}");
        ensure!(body.contains("503") && body.contains(text), "{body}");
        Ok(())
    });
    tokio::select! {
        result = restart => result.and(Err(anyhow::anyhow!("the replica is ready"))),
        result = named => result,
    }
}

/// Kinds of Ambassador Edge Stack, which are not supported, and which the test defines with a status.
const WITH_STATUS: [&str; 2] = ["Filter", "FilterPolicy"];
/// One that the test defines without, at first.
const WITHOUT_STATUS: &str = "RateLimit";

/// A definition of a kind; `more` goes into its version.
fn definition(kind: &str, more: &str) -> String {
    let singular = kind.to_lowercase();
    let plural = match singular.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{singular}s"),
    };
    let schema = "openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}";
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.getambassador.io}}\n\
         spec: {{group: getambassador.io, scope: Namespaced, names: {{kind: {kind}, plural: {plural}, singular: {singular}}}, \
         versions: [{{name: v3alpha1, served: true, storage: true, schema: {{{schema}}}{more}}}]}}\n---\n"
    )
}

pub(crate) async fn a_kind_that_is_not_supported_is_reported(space: &mut Space) -> Result<()> {
    let status = ", subresources: {status: {}}";
    let definitions = WITH_STATUS.map(|kind| definition(kind, status));
    let definitions = definitions.concat() + &definition(WITHOUT_STATUS, "");
    space.plane.kubectl(&["apply", "-f", "-"], &definitions)?;
    let mut objects: Vec<String> = WITH_STATUS.map(|kind| object(kind, "one", "")).to_vec();
    objects.push(object(WITHOUT_STATUS, "one", ""));
    until("the definitions", || async {
        space.apply(&objects.concat())
    })
    .await?;
    // a replica looks when it starts, when a definition comes, and then every few minutes
    space.own_gateway()?.replica.process.kill();
    space.restart_replica().await?;
    for kind in WITH_STATUS {
        is_reported(space, kind).await?;
    }
    let status_before = space.field("ratelimit/one", "{.status}")?;
    ensure!(status_before.is_empty(), "{status_before}");
    until("the kinds in the log", || async {
        let log = fs::read_to_string(&space.gateway.replica.process.log)?;
        let lines = log
            .lines()
            .filter(|line| line.contains("kind not supported"));
        let lines: Vec<&str> = lines.collect();
        for kind in [WITH_STATUS[1], WITHOUT_STATUS] {
            // the one before may have seen it, too
            let number = lines.iter().filter(|line| line.contains(kind)).count();
            ensure!((1..=2).contains(&number), "{lines:?}");
        }
        Ok(())
    })
    .await?;
    let definition = definition(WITHOUT_STATUS, status);
    space.plane.kubectl(&["apply", "-f", "-"], &definition)?;
    is_reported(space, WITHOUT_STATUS).await
}

/// Waits until the object of a kind has the condition that the kind is not supported.
async fn is_reported(space: &Space, kind: &str) -> Result<()> {
    let text = format!("UnsupportedKind kind {kind} is not supported");
    let object = format!("{}/one", kind.to_lowercase());
    condition(space, &object, "Accepted", "False", &text).await
}

/// Takes a resource out of a role.
fn forbid(space: &Space, role: &str, resource: &str) -> Result<()> {
    let namespace = nuncio_e2e::control_plane::NAMESPACE;
    let text = space
        .plane
        .kubectl(&["get", role, "-n", namespace, "-o", "json"], "")?;
    let mut role: Value = serde_json::from_str(&text)?;
    let rules = role["rules"].as_array_mut().into_iter().flatten();
    for rule in rules {
        let resources = rule["resources"].as_array_mut().into_iter();
        resources.for_each(|resources| resources.retain(|found| found != resource));
    }
    let rules = role["rules"].as_array_mut().into_iter();
    rules.for_each(|rules| {
        rules.retain(|rule| {
            rule["resources"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        });
    });
    space
        .plane
        .kubectl(&["replace", "-f", "-"], &role.to_string())
        .map(drop)
}

pub(crate) async fn a_kind_that_is_installed_later_is_served(space: &mut Space) -> Result<()> {
    let _backend = Backend::start("10.96.11.2:80", "later").await?;
    space.own_gateway()?.replica.process.kill();
    space
        .plane
        .kubectl(&["delete", "crd", "mappings.getambassador.io"], "")?;
    space.restart_replica().await?;
    space.apply(&host("later", "later.example", ""))?;
    let crds = root().join("config/crd").display().to_string();
    space
        .plane
        .kubectl(&["apply", "--server-side", "-k", &crds], "")?;
    until("the definition", || async {
        space.apply(&mapping("a", "later.example", "/a/", "10.96.11.2", ""))
    })
    .await?;
    let start = Instant::now();
    space.answers("later.example", "/a/", 200, "later").await?;
    eprintln!("a Mapping took {:?}", start.elapsed());
    Ok(())
}
