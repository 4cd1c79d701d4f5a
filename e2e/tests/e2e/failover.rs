//! No restart loses a request.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, client::Load, wait::until};

use crate::{
    Space,
    fixture::{host, mapping, service},
};

/// A Host and a Mapping to a backend that keeps answering.
async fn steady(space: &Space, address: &str) -> Result<Backend> {
    let backend = Backend::start(&format!("{address}:80"), "steady").await?;
    let manifests = [
        service("steady", address),
        host("steady", "steady.example", ""),
        mapping("steady", "steady.example", "/steady/", "steady", ""),
    ];
    space.apply(&manifests.concat())?;
    space
        .answers("steady.example", "/steady/", 200, "steady")
        .await?;
    Ok(backend)
}

pub(crate) async fn a_killed_operator_costs_no_request(space: &mut Space) -> Result<()> {
    let _backend = steady(space, "10.96.7.1").await?;
    let _other = Backend::start("10.96.7.2:80", "other").await?;
    space.apply(&mapping(
        "edited",
        "steady.example",
        "/edited/",
        "steady",
        "",
    ))?;
    space
        .answers("steady.example", "/edited/", 200, "steady")
        .await?;
    let load = Load::start(&space.http(), "steady.example", "/steady/");
    let rejected = space.gateway.envoy.statistic("update_rejected").await?;
    for round in 0..3 {
        space.own_gateway()?.replica.process.kill();
        // changed while no replica watches
        space.apply(&mapping(
            "edited",
            "steady.example",
            &format!("/edited-{round}/"),
            "10.96.7.2",
            "",
        ))?;
        space.restart_replica().await?;
        space
            .answers("steady.example", &format!("/edited-{round}/"), 200, "other")
            .await?;
        space.answers("steady.example", "/edited/", 404, "").await?;
    }
    load.finish().await?;
    ensure!(
        space.gateway.envoy.statistic("update_rejected").await? == rejected,
        "Envoy rejected an update"
    );
    Ok(())
}

pub(crate) async fn a_restarted_envoy_gets_everything(space: &mut Space) -> Result<()> {
    let _backend = steady(space, "10.96.7.3").await?;
    space.own_gateway()?.envoy.restart()?;
    space
        .answers("steady.example", "/steady/", 200, "steady")
        .await?;
    space.apply(&mapping("after", "steady.example", "/after/", "steady", ""))?;
    space
        .answers("steady.example", "/after/", 200, "steady")
        .await
}

pub(crate) async fn a_restarted_apiserver_is_picked_up(space: &mut Space) -> Result<()> {
    let _backend = steady(space, "10.96.7.4").await?;
    let load = Load::start(&space.http(), "steady.example", "/steady/");
    space.own_plane()?.apiserver().kill();
    until("an error of the watch", || async {
        let errors = space
            .gateway
            .replica
            .metric("nuncio_watch_errors_total")
            .await?;
        ensure!(errors > 0.0, "no watch has failed");
        Ok(())
    })
    .await?;
    space.own_plane()?.restart_apiserver().await?;
    space.apply(&mapping("again", "steady.example", "/again/", "steady", ""))?;
    space
        .answers("steady.example", "/again/", 200, "steady")
        .await?;
    load.finish().await.map(drop)
}
