//! Parts that fail.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::wait::until;
use rustix::process::Signal;
use tokio::time::sleep;

use super::{Form, apply};
use crate::{
    fixture::mapping,
    installation::{HOST, Installation, NUNCIO},
};

/// A change must reach traffic: what failed works again.
async fn works_again(stage: &Installation) -> Result<()> {
    let prefix = format!("/again-{}/", fastrand::u32(..));
    until("a change", || async {
        apply(stage, &mapping("again", HOST, &prefix, "backend", ""))
    })
    .await?;
    until(&prefix, || async {
        let answer = nuncio_e2e::client::get(&stage.target.http, HOST, &prefix).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await
}

/// The control plane that writes status.
fn leader(stage: &Installation) -> Result<String> {
    let leases = stage.kubectl(&[
        "get",
        "leases",
        "-o",
        "jsonpath={range .items[*]}{.spec.holderIdentity} {end}",
    ])?;
    let pods = stage.pods("nuncio")?;
    let mut holders = leases.split_whitespace();
    let leader = holders.find(|holder| pods.iter().any(|pod| pod == holder));
    Ok(leader
        .with_context(|| format!("no Pod holds a Lease: {leases}"))?
        .to_owned())
}

/// The leader is killed.
pub(super) async fn leader_killed(stage: &mut Installation, form: Form) -> Result<()> {
    for _ in 0..form.choose(1, 3) {
        let leader = until("a leader", || async { leader(stage) }).await?;
        stage.node.signal(NUNCIO, &leader, Signal::KILL)?;
        works_again(stage).await?;
        stage.has_replicas("nuncio", 2).await?;
    }
    Ok(())
}

/// All control planes are killed at once.
pub(super) async fn control_planes_killed(stage: &mut Installation, form: Form) -> Result<()> {
    for _ in 0..form.choose(1, 3) {
        for pod in stage.pods("nuncio")? {
            stage.node.signal(NUNCIO, &pod, Signal::KILL)?;
        }
        works_again(stage).await?;
        stage.has_replicas("nuncio", 2).await?;
    }
    Ok(())
}

/// All control planes hang, and go on.
pub(super) async fn control_planes_stopped(stage: &mut Installation, form: Form) -> Result<()> {
    let pods = stage.pods("nuncio")?;
    for pod in &pods {
        stage.node.signal(NUNCIO, pod, Signal::STOP)?;
    }
    sleep(form.choose(Duration::from_secs(3), Duration::from_secs(20))).await;
    for pod in &pods {
        // one whose liveness probe has failed may have been replaced
        let _ = stage.node.signal(NUNCIO, pod, Signal::CONT);
    }
    works_again(stage).await?;
    stage.has_replicas("nuncio", 2).await
}

/// The apiserver is away, and then slow: it is stopped and goes on again and again.
pub(super) async fn apiserver_down(stage: &mut Installation, form: Form) -> Result<()> {
    stage.plane.apiserver().kill();
    sleep(form.choose(Duration::from_secs(5), Duration::from_secs(60))).await;
    stage.plane.restart_apiserver().await?;
    for _ in 0..form.choose(3, 30) {
        stage.plane.apiserver().signal(Signal::STOP);
        sleep(Duration::from_millis(700)).await;
        stage.plane.apiserver().signal(Signal::CONT);
        sleep(Duration::from_millis(300)).await;
    }
    works_again(stage).await
}
