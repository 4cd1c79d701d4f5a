//! The component in `kustomize`, with running pods.

use anyhow::{Result, ensure};
use nuncio_e2e::{control_plane::ControlPlane, node::Node, wait::until};

use super::{
    load::Load,
    rig::{kustomization, mapping, mappings},
};
use crate::installation::{NUNCIO, images};

pub(crate) async fn an_installation_converts_and_rolls_without_a_failed_call() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let images = images(folder.path())?;
    let plane = ControlPlane::start_empty().await?;
    let _node = Node::start(&plane, images).await?;
    let overlay = tempfile::tempdir()?;
    let components = [
        "config/crd/components/served-v2",
        "config/crd/components/stored-v2",
        "kustomize/components/apiext",
        "kustomize/components/network-policy",
    ];
    let path = kustomization(overlay.path(), "kustomize/overlays/minimal", &components)?;
    plane.kubectl(&["apply", "-k", &path], "")?;
    let rolled_out = [
        "rollout",
        "status",
        "-n",
        NUNCIO,
        "deployment/nuncio-apiext",
        "--timeout=60s",
    ];
    plane.kubectl(&rolled_out, "")?;
    let client = plane.client().await?;
    // edited and read in v1, too, by the load
    let served_v1 = [
        "config/crd/components/served-v2",
        "config/crd/components/served-v1",
        "config/crd/components/stored-v2",
    ];
    let definitions = tempfile::tempdir()?;
    let path = kustomization(definitions.path(), "config/crd", &served_v1)?;
    plane.kubectl(&["apply", "-k", &path], "")?;
    until("the first conversion", || async {
        plane.apply(
            "default",
            &mapping("v2", "one", "prefix: /one/, service: s, host: one.example"),
        )?;
        let read = mappings(&client, "v3alpha1").get("one").await?;
        ensure!(
            read.data["spec"]["hostname"] == "one.example",
            "{:?}",
            read.data
        );
        mappings(&client, "v1").get("one").await.map(drop)?;
        Ok(())
    })
    .await?;
    let load = Load::start_in(&plane, &client)?;
    load.proceed().await;
    for _ in 0..2 {
        let restart = [
            "rollout",
            "restart",
            "-n",
            NUNCIO,
            "deployment/nuncio-apiext",
        ];
        plane.kubectl(&restart, "")?;
        plane.kubectl(&rolled_out, "")?;
        load.proceed().await;
    }
    old_pods_are_gone(&plane).await?;
    load.proceed().await;
    load.finish().await.map(drop)?;
    leave_v2(&plane)
}

/// Objects are no longer stored as v2, and a Job stores the old ones again.
fn leave_v2(plane: &ControlPlane) -> Result<()> {
    let overlay = tempfile::tempdir()?;
    let components = [
        "config/crd/components/served-v2",
        "kustomize/components/apiext",
        "kustomize/components/migrate-storage",
    ];
    let path = kustomization(overlay.path(), "kustomize/overlays/minimal", &components)?;
    plane.kubectl(&["apply", "-k", &path], "")?;
    let job = "job/nuncio-migrate-storage";
    let complete = [
        "wait",
        "-n",
        NUNCIO,
        "--for=condition=Complete",
        "--timeout=60s",
        job,
    ];
    plane.kubectl(&complete, "")?;
    let definition = "crd/mappings.getambassador.io";
    let stored = plane.field("default", definition, "{.status.storedVersions}")?;
    ensure!(stored == r#"["v3alpha1"]"#, "{stored}");
    Ok(())
}

/// Waits for those that were replaced, which go on for some seconds.
async fn old_pods_are_gone(plane: &ControlPlane) -> Result<()> {
    until("the old pods are gone", || async {
        let get = [
            "get",
            "pods",
            "-n",
            NUNCIO,
            "-l",
            "app.kubernetes.io/name=nuncio-apiext",
            "-o",
            "name",
        ];
        let pods = plane.kubectl(&get, "")?;
        ensure!(pods.lines().count() == 2, "{pods}");
        Ok(())
    })
    .await
}
