//! Upgrades, and the way back.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Form, all_serve_a_change};
use crate::installation::{Installation, OLDER_ENVOY};

/// How long an Envoy may take to serve a change.
const BOUND: Duration = Duration::from_secs(30);
/// The version of Envoy, as a number.
const VERSION: &str = "envoy_server_version{}";

/// The image of a Deployment.
fn image(stage: &Installation, deployment: &str) -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    stage.kubectl(&["get", &format!("deployment/{deployment}"), "-o", path])
}

async fn rolled_out(stage: &Installation, deployment: &str) -> Result<()> {
    let name = format!("deployment/{deployment}");
    stage.kubectl(&["rollout", "status", &name, "--timeout=120s"])?;
    stage.has_replicas(deployment, 2).await
}

async fn set_image(stage: &Installation, deployment: &str, image: &str) -> Result<()> {
    let name = format!("deployment/{deployment}");
    stage.kubectl(&["set", "image", &name, &format!("*={image}")])?;
    rolled_out(stage, deployment).await
}

/// Control planes, then Envoys are upgraded, and rolled back in the other order. There is no release yet, so that both
/// versions are the same binary.
pub(super) async fn everything(stage: &mut Installation, form: Form) -> Result<()> {
    let deployments = ["nuncio", "nuncio-envoy"];
    for _ in 0..form.choose(1, 3) {
        let mut before = Vec::new();
        for deployment in deployments {
            before.push(image(stage, deployment)?);
            set_image(stage, deployment, &format!("{deployment}:next")).await?;
            // between the two, the versions of control planes and Envoys differ
            all_serve_a_change(stage, BOUND).await?;
        }
        for (deployment, before) in deployments.into_iter().zip(before).rev() {
            let name = format!("deployment/{deployment}");
            stage.kubectl(&["rollout", "undo", &name])?;
            rolled_out(stage, deployment).await?;
            let after = image(stage, deployment)?;
            ensure!(after == before, "{after} instead of {before}");
            all_serve_a_change(stage, BOUND).await?;
        }
    }
    Ok(())
}

/// What versions of Envoy run.
async fn versions(stage: &Installation) -> Result<Vec<f64>> {
    let mut versions = Vec::new();
    for pod in stage.pods("nuncio-envoy")? {
        let version = stage.metric(&pod, VERSION).await?;
        ensure!(version > 0.0, "{pod} does not say its version");
        versions.push(version);
    }
    Ok(versions)
}

/// Envoys go back to the older minor version of Envoy, and are upgraded.
pub(super) async fn envoy(stage: &mut Installation, form: Form) -> Result<()> {
    for _ in 0..form.choose(1, 3) {
        let newer = (image(stage, "nuncio-envoy")?, versions(stage).await?);
        set_image(stage, "nuncio-envoy", OLDER_ENVOY).await?;
        all_serve_a_change(stage, BOUND).await?;
        let older = versions(stage).await?;
        let is_another = older.iter().all(|version| !newer.1.contains(version));
        ensure!(is_another, "{older:?} is the version of {newer:?}");
        set_image(stage, "nuncio-envoy", &newer.0).await?;
        all_serve_a_change(stage, BOUND).await?;
        let upgraded = versions(stage).await?;
        ensure!(upgraded == newer.1, "{upgraded:?} after {newer:?}");
    }
    Ok(())
}
