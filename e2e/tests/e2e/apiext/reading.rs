//! Which version the operator reads: v2 alone, and what is stored while the webhook is away.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use nuncio_e2e::{
    backend::Backend,
    client::get,
    control_plane::ControlPlane,
    gateway::{Envoy, Replica},
    instance::Instance,
    wait::until,
};
use serde_json::{Value, json};

use super::rig::{Rig, Stored, kustomization, mapping};

/// Where Envoy listens.
const GATEWAY: &str = "127.0.0.1:8080";
const BACKEND: &str = "10.96.11.1:80";
const LISTENER: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
";
/// A Host of v2.
const HOST: &str = "
apiVersion: getambassador.io/v2
kind: Host
metadata: {name: old}
spec: {hostname: old.example, requestPolicy: {insecure: {action: Route}}}
---
";

/// A Mapping of v2 to the backend. Its condition has another shape in v3alpha1.
fn old_mapping(name: &str, prefix: &str) -> String {
    let spec = format!(
        "prefix: {prefix}, service: 10.96.11.1, host: old.example, headers: {{host: true}}"
    );
    mapping("v2", name, &spec)
}

/// A gateway of a cluster.
struct Gateway {
    replica: Replica,
    _envoy: Envoy,
    _backend: Backend,
}

impl Gateway {
    async fn start(plane: &ControlPlane) -> Result<Self> {
        let backend = Backend::start(BACKEND, "old").await?;
        let instance = Instance::default();
        let replica = Replica::start(plane, &instance, 0).await?;
        let (xds, admin) = (instance.xds(0), instance.admin(0));
        let envoy = Envoy::start("envoy-old", &xds, &admin, "delta")?;
        Ok(Self {
            replica,
            _envoy: envoy,
            _backend: backend,
        })
    }

    /// Waits until requests for this path are answered so.
    async fn answers(&self, path: &str, status: u16) -> Result<()> {
        until(&format!("{status} for {path}"), || async {
            let answer = get(GATEWAY, "old.example", path).await?;
            ensure!(
                answer.status == status,
                "{}: {}",
                answer.status,
                answer.body
            );
            Ok(())
        })
        .await
    }
}

/// Waits until the status of a Mapping says in v2 that it is served.
async fn is_programmed(plane: &ControlPlane, name: &str) -> Result<()> {
    let object = ["get", "mappings.v2.getambassador.io", name, "-o", "json"];
    until(&format!("the status of {name}"), || async {
        let found: Value = serde_json::from_str(&plane.kubectl(&object, "")?)?;
        let status = &found["status"];
        let conditions = status["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let programmed = conditions.find(|condition| condition["type"] == "Programmed");
        let is_true = programmed.is_some_and(|condition| condition["status"] == "True");
        ensure!(is_true && status["state"] == "Running", "{status}");
        ensure!(found["apiVersion"] == "getambassador.io/v2", "{found}");
        Ok(())
    })
    .await
}

pub(crate) async fn a_cluster_with_v2_alone_is_served() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let folder = tempfile::tempdir()?;
    let components = [
        "config/crd/components/served-v2",
        "config/crd/components/stored-v2",
    ];
    let path = kustomization(folder.path(), "config/crd", &components)?;
    let definitions = plane.kubectl(&["kustomize", &path], "")?;
    let mut definitions: Vec<Value> = serde_saphyr::from_multiple(&definitions)?;
    for definition in &mut definitions {
        let spec = &mut definition["spec"];
        let versions = spec["versions"].as_array_mut().context("no versions")?;
        if versions.len() > 1 {
            versions.retain(|version| version["name"] == "v2");
            spec["conversion"] = json!({"strategy": "None"});
        }
    }
    // those of the control plane have stored v3alpha1
    plane.kubectl(&["delete", "crd", "--all"], "")?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": definitions}).to_string();
    plane.kubectl(&["create", "-f", "-"], &list)?;
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=20s",
        "crd",
        "--all",
    ];
    plane.kubectl(&wait, "")?;
    let objects = [LISTENER, "---", HOST, &old_mapping("one", "/one/")].concat();
    until("the objects", || async { plane.apply("default", &objects) }).await?;

    let gateway = Gateway::start(&plane).await?;
    gateway.answers("/one/", 200).await?;
    is_programmed(&plane, "one").await?;
    let host = plane.field(
        "default",
        "hosts.v2.getambassador.io/old",
        "{.status.state}",
    )?;
    ensure!(host == "Ready", "{host}");
    // and changes are followed
    plane.apply("default", &old_mapping("two", "/two/"))?;
    gateway.answers("/two/", 200).await?;
    is_programmed(&plane, "two").await?;
    let delete = ["delete", "mappings.v2.getambassador.io", "one"];
    plane.kubectl(&delete, "")?;
    gateway.answers("/one/", 404).await
}

pub(crate) async fn stored_objects_are_served_while_the_webhook_is_away() -> Result<()> {
    let mut rig = Rig::without_replicas(Stored::V2).await?;
    let objects = [LISTENER, "---", HOST, &old_mapping("one", "/one/")].concat();
    rig.plane.apply("default", &objects)?;
    // from the start
    let start = Instant::now();
    let gateway = Gateway::start(&rig.plane).await?;
    gateway.answers("/one/", 200).await?;
    eprintln!(
        "served {:?} after the start, without a webhook",
        start.elapsed()
    );
    is_programmed(&rig.plane, "one").await?;
    let log = std::fs::read_to_string(&gateway.replica.process.log)?;
    ensure!(
        log.contains("cannot read version v3alpha1; reading another one"),
        "{log}"
    );
    rig.plane.apply("default", &old_mapping("two", "/two/"))?;
    gateway.answers("/two/", 200).await?;

    // it comes: whatever is written in any version is served
    rig.launch(1, &[])?;
    rig.ready(1).await?;
    rig.serves().await?;
    let edit = Patch::Merge(json!({"spec": {"prefix": "/three/"}}));
    rig.mappings("v3alpha1")
        .patch("two", &PatchParams::default(), &edit)
        .await?;
    gateway.answers("/three/", 200).await?;
    // the probe of the rig takes every other path, and has no endpoints
    gateway.answers("/two/", 503).await?;
    is_programmed(&rig.plane, "two").await?;

    // it goes
    rig.kill(1);
    gateway.answers("/three/", 200).await?;
    rig.plane.apply("default", &old_mapping("four", "/four/"))?;
    gateway.answers("/four/", 200).await?;
    is_programmed(&rig.plane, "four").await
}

pub(crate) async fn objects_of_the_read_version_need_no_webhook() -> Result<()> {
    let mut rig = Rig::start(Stored::V3Alpha1, 1).await?;
    let objects = [LISTENER, "---", HOST, &old_mapping("one", "/one/")].concat();
    rig.plane.apply("default", &objects)?;
    let gateway = Gateway::start(&rig.plane).await?;
    gateway.answers("/one/", 200).await?;
    // what is stored in the version that is read needs no webhook
    rig.kill(1);
    let new = "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: new}\n\
        spec: {prefix: /new/, service: 10.96.11.1, hostname: old.example}\n";
    rig.plane.apply("default", new)?;
    gateway.answers("/new/", 200).await?;
    gateway.answers("/one/", 200).await
}
