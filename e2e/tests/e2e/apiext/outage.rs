//! The webhook away and back.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nuncio_e2e::wait::until;
use rustix::process::Signal;

use super::{
    load::Load,
    rig::{Rig, Stored, mapping},
};

pub(crate) async fn the_webhook_goes_and_comes_back() -> Result<()> {
    let mut rig = Rig::start(Stored::V2, 2).await?;
    let old = mapping("v2", "old", "prefix: /old/, service: old");
    rig.plane.apply("default", &old)?;
    let leader = rig.leader().await?;
    let other = 3 - leader;
    // the leader is killed: the other one converts, and takes over
    rig.kill(leader);
    let start = Instant::now();
    until("the other replica alone", || async {
        rig.mappings("v3alpha1").get("old").await.map(drop)?;
        Ok(())
    })
    .await?;
    eprintln!("conversion after {:?}", start.elapsed());
    ensure!(rig.leader().await? == other);
    eprintln!("leader after {:?}", start.elapsed());

    // nobody is left: requests in the stored version go on, others say why they fail
    rig.kill(other);
    until("a clear error", || async {
        let get = ["get", "mappings.v3alpha1.getambassador.io", "old"];
        let Err(error) = rig.plane.kubectl(&get, "") else {
            bail!("it was converted");
        };
        let error = error.to_string();
        ensure!(
            error.contains("conversion webhook for getambassador.io/v2")
                && error.contains("failed"),
            "{error}"
        );
        Ok(())
    })
    .await?;
    rig.plane
        .kubectl(&["get", "mappings.v2.getambassador.io", "old"], "")?;
    rig.launch(1, &[])?;
    let start = Instant::now();
    until("conversion again", || async {
        rig.mappings("v3alpha1").get("old").await.map(drop)?;
        Ok(())
    })
    .await?;
    eprintln!("conversion again after {:?}", start.elapsed());
    Ok(())
}

pub(crate) async fn replicas_are_replaced_without_a_failed_call() -> Result<()> {
    let mut rig = Rig::start(Stored::V2, 2).await?;
    let load = Load::start(&rig)?;
    load.proceed().await;
    // a rollout: the new one is ready before an old one is stopped
    for (new, old) in [(3, 1), (1, 2)] {
        rig.launch(new, &[])?;
        rig.ready(new).await?;
        load.proceed().await;
        if let Some(mut process) = rig.replicas.remove(&old) {
            let stopped = process.stop(Signal::TERM, Duration::from_secs(25));
            ensure!(stopped, "replica {old} did not stop");
        }
        load.proceed().await;
    }
    let calls = load.finish().await?;
    eprintln!("{calls} calls");
    Ok(())
}
