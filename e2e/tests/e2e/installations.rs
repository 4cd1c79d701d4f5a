//! Two installations with one `ambassador_id`, in two namespaces.

use std::time::Duration;

use anyhow::{Result, ensure};
use nuncio_e2e::{gateway::metric, process::Process, wait::until, workspace::nuncio};
use tokio::time::sleep;

use crate::{
    Space,
    fixture::{host, mapping},
    status::condition,
};

pub(crate) async fn the_one_that_sorts_first_writes_status(space: &mut Space) -> Result<()> {
    space.apply(
        &[
            host("twice", "twice.example", ""),
            mapping("twice", "twice.example", "/", "10.96.12.1", ""),
        ]
        .concat(),
    )?;
    condition(space, "mapping/twice", "Programmed", "True", "1/1 Envoys").await?;
    let instance = space.gateway.instance.clone();
    let health = instance.health(1);
    // sorts before nuncio-system, and has no Envoy
    let _first = Process::start(
        "first-installation",
        &nuncio()?,
        [
            "operator",
            "--xds-address",
            &instance.xds(1),
            "--health-address",
            &health,
        ],
        &[
            (
                "KUBECONFIG",
                &space.plane.kubeconfig().display().to_string(),
            ),
            ("AMBASSADOR_ID", &instance.id),
            ("AMBASSADOR_NAMESPACE", "default"),
            ("POD_NAME", "first-installation"),
        ],
    )?;
    condition(space, "mapping/twice", "Programmed", "False", "").await?;
    until("the second one yields", || async {
        let yielded = space
            .gateway
            .replica
            .metric("nuncio_status_yielded")
            .await?;
        ensure!(yielded > 0.5, "it leaves no status to the other");
        Ok(())
    })
    .await?;
    let writes = async || -> Result<f64> {
        let first = metric(&health, "nuncio_status_writes_total").await?;
        let own = space.gateway.replica.metric("nuncio_status_writes_total");
        Ok(first + own.await?)
    };
    // both are done with what they had to write
    sleep(Duration::from_secs(8)).await;
    let before = writes().await?;
    sleep(Duration::from_secs(10)).await;
    let after = writes().await?;
    ensure!(after - before < 3.0, "{} writes in 10 s", after - before);
    space.apply(&mapping(
        "twice",
        "twice.example",
        "'/('",
        "10.96.12.1",
        ", prefix_regex: true",
    ))?;
    condition(space, "mapping/twice", "Accepted", "False", "spec.prefix").await
}
