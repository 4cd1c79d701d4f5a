//! Nothing that restarts costs a request.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, client::Load, gateway::Replica, wait::until};

use crate::{
    World,
    fixture::{HTTP, host, mapping, service},
    routing::answers,
};

/// A Host and a Mapping to a backend that goes on answering.
async fn steady(world: &World) -> Result<Backend> {
    let backend = Backend::start("10.96.7.1:80", "steady").await?;
    let manifests = [
        service("steady", "10.96.7.1"),
        host("steady", "steady.example", ""),
        mapping("steady", "steady.example", "/steady/", "steady", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    answers("steady.example", "/steady/", 200, "steady").await?;
    Ok(backend)
}

pub(crate) async fn a_killed_operator_costs_no_request(world: &mut World) -> Result<()> {
    let _backend = steady(world).await?;
    let _other = Backend::start("10.96.7.2:80", "other").await?;
    world.plane.apply(&mapping(
        "edited",
        "steady.example",
        "/edited/",
        "steady",
        "",
    ))?;
    answers("steady.example", "/edited/", 200, "steady").await?;
    let load = Load::start(HTTP, "steady.example", "/steady/");
    let rejected = world.envoy.statistic("update_rejected").await?;
    for round in 0..3 {
        world.replica.process.kill();
        // changed while nobody looks
        world.plane.apply(&mapping(
            "edited",
            "steady.example",
            &format!("/edited-{round}/"),
            "10.96.7.2",
            "",
        ))?;
        world.replica = Replica::start(&world.plane, 0).await?;
        answers("steady.example", &format!("/edited-{round}/"), 200, "other").await?;
        answers("steady.example", "/edited/", 404, "").await?;
    }
    load.finish().await?;
    ensure!(
        world.envoy.statistic("update_rejected").await? == rejected,
        "an update was refused"
    );
    Ok(())
}

pub(crate) async fn a_restarted_envoy_gets_everything(world: &mut World) -> Result<()> {
    let _backend = steady(world).await?;
    world.envoy.restart()?;
    answers("steady.example", "/steady/", 200, "steady").await?;
    world
        .plane
        .apply(&mapping("after", "steady.example", "/after/", "steady", ""))?;
    answers("steady.example", "/after/", 200, "steady").await
}

pub(crate) async fn a_restarted_apiserver_is_picked_up(world: &mut World) -> Result<()> {
    let _backend = steady(world).await?;
    let load = Load::start(HTTP, "steady.example", "/steady/");
    world.plane.kill_apiserver();
    until("an error of the watch", || async {
        let errors = world.replica.metric("nuncio_watch_errors_total").await?;
        ensure!(errors > 0.0, "nobody has noticed");
        Ok(())
    })
    .await?;
    world.plane.restart_apiserver().await?;
    world
        .plane
        .apply(&mapping("again", "steady.example", "/again/", "steady", ""))?;
    answers("steady.example", "/again/", 200, "steady").await?;
    load.finish().await.map(drop)
}
