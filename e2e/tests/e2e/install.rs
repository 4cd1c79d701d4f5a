//! Installing, scaling, upgrading and removing Nuncio as its users do.

use std::time::Instant;

use anyhow::{Result, ensure};
use nuncio_e2e::{wait::until, workspace::root};

use crate::installation::{Installation, NUNCIO, record};

pub(crate) async fn one_apply_serves_traffic_and_one_delete_removes_everything() -> Result<()> {
    let start = Instant::now();
    let installation = Installation::start("default").await?;
    let seconds = start.elapsed().as_secs_f64();
    record(&format!("from no cluster to traffic: {seconds:.1} s"))?;
    let plane = &installation.plane;
    let before = plane.kubectl(&["api-resources", "-o", "name"], "")?;
    ensure!(before.contains("getambassador.io"), "{before}");
    let path = root()
        .join("kustomize/overlays/default")
        .display()
        .to_string();
    plane.kubectl(&["delete", "-k", &path, "--wait=false"], "")?;
    until("removal without leftovers", || async {
        for what in [
            "namespace",
            "customresourcedefinitions",
            "clusterroles",
            "clusterrolebindings",
            "mutatingwebhookconfigurations,validatingwebhookconfigurations",
        ] {
            let found = plane.kubectl(&["get", what, "-o", "name"], "")?;
            let left = found.lines().find(|name| {
                name.contains("nuncio") || name.contains("getambassador") || name.contains(NUNCIO)
            });
            ensure!(left.is_none(), "{left:?} is left");
        }
        Ok(())
    })
    .await
}
