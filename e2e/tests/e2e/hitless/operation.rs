//! What operators do: scaling and upgrades.

use anyhow::Result;

use super::Form;
use crate::installation::Installation;

async fn scale(stage: &Installation, deployment: &str, numbers: &[usize]) -> Result<()> {
    for replicas in numbers {
        let name = format!("deployment/{deployment}");
        let flag = format!("--replicas={replicas}");
        stage.kubectl(&["scale", &name, &flag])?;
        stage.has_replicas(deployment, *replicas).await?;
    }
    Ok(())
}

async fn restart(stage: &Installation, deployment: &str, times: usize) -> Result<()> {
    for _ in 0..times {
        let name = format!("deployment/{deployment}");
        stage.kubectl(&["rollout", "restart", &name])?;
        stage.kubectl(&["rollout", "status", &name, "--timeout=120s"])?;
        stage.has_replicas(deployment, 2).await?;
    }
    Ok(())
}

/// Control planes are scaled to three, one, none, and back.
pub(super) async fn control_planes_scaled(stage: &mut Installation, form: Form) -> Result<()> {
    scale(stage, "nuncio", form.choose(&[1, 2], &[3, 1, 0, 5, 2])).await
}

/// Envoys are scaled up and down.
pub(super) async fn envoys_scaled(stage: &mut Installation, form: Form) -> Result<()> {
    scale(
        stage,
        "nuncio-envoy",
        form.choose(&[3, 1, 2], &[5, 1, 4, 2]),
    )
    .await
}

/// Control planes are replaced one by one.
pub(super) async fn control_planes_restarted(stage: &mut Installation, form: Form) -> Result<()> {
    restart(stage, "nuncio", form.choose(1, 3)).await
}

/// Envoys are replaced one by one.
pub(super) async fn envoys_restarted(stage: &mut Installation, form: Form) -> Result<()> {
    restart(stage, "nuncio-envoy", form.choose(1, 3)).await
}
