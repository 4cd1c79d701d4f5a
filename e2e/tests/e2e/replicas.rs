//! Several replicas: each serves its Envoys, one writes status.

use anyhow::{Result, bail, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::Load,
    control_plane::NAMESPACE,
    gateway::{Envoy, Replica, xds_address},
    sandbox::{CONTROL_PLANES, REPLICAS},
    wait::until,
};

use crate::{
    World,
    fixture::{HTTP, host, mapping},
    routing::answers,
    status::condition,
};

pub(crate) async fn the_other_replica_takes_over_status(world: &mut World) -> Result<()> {
    let _backend = Backend::start("10.96.8.1:80", "both").await?;
    world.plane.apply(
        &[
            host("replicas", "replicas.example", ""),
            mapping("replicas", "replicas.example", "/", "10.96.8.1", ""),
        ]
        .concat(),
    )?;
    answers("replicas.example", "/", 200, "both").await?;
    until("the Lease of the first", || async {
        let holder =
            world
                .plane
                .field(NAMESPACE, "lease/nuncio-leader", "{.spec.holderIdentity}")?;
        ensure!(holder == "nuncio-0", "{holder} holds it");
        Ok(())
    })
    .await?;
    let second = Replica::start(&world.plane, 1).await?;
    ensure!(
        second.metric("nuncio_leader").await? < 0.5,
        "two replicas lead"
    );
    ensure!(
        xds_address(1) != xds_address(0),
        "the replicas share a port"
    );
    let load = Load::start(HTTP, "replicas.example", "/");
    world.replica.process.kill();
    until("the Lease of the second", || async {
        let holder =
            world
                .plane
                .field(NAMESPACE, "lease/nuncio-leader", "{.spec.holderIdentity}")?;
        ensure!(holder == second.name(), "{holder} holds it");
        Ok(())
    })
    .await?;
    world.plane.apply(&mapping(
        "taken-over",
        "replicas.example",
        "'/('",
        "10.96.8.1",
        ", prefix_regex: true",
    ))?;
    condition(
        world,
        "mapping/taken-over",
        "Accepted",
        "False",
        "spec.prefix",
    )
    .await?;
    load.finish().await?;
    drop(second);
    world.replica = Replica::start(&world.plane, 0).await?;
    world.plane.apply(&mapping(
        "back",
        "replicas.example",
        "/back/",
        "10.96.8.1",
        "",
    ))?;
    answers("replicas.example", "/back/", 200, "both").await
}

pub(crate) async fn an_envoy_whose_replica_dies_goes_to_the_other(world: &mut World) -> Result<()> {
    let _backend = Backend::start("10.96.8.2:80", "both").await?;
    let address = |number: usize| format!("{}:8003", REPLICAS[number]);
    let mut replicas = [
        Replica::start_on_pod(&world.plane, 2, &address(0)).await?,
        Replica::start_on_pod(&world.plane, 3, &address(1)).await?,
    ];
    // it alone is to answer
    world.envoy.process.kill();
    let target = format!("{CONTROL_PLANES}:8003");
    let envoy = Envoy::start("envoy-moving", &target, 8201, "delta")?;
    envoy.ready().await?;
    world.plane.apply(
        &[
            host("moving", "moving.example", ""),
            mapping("stays", "moving.example", "/stays/", "10.96.8.2", ""),
        ]
        .concat(),
    )?;
    answers("moving.example", "/stays/", 200, "both").await?;
    let load = Load::start(HTTP, "moving.example", "/stays/");
    for round in 0..2 {
        let serving = serving(&replicas).await?;
        replicas[serving].process.kill();
        let prefix = format!("/round-{round}/");
        world.plane.apply(&mapping(
            "moving",
            "moving.example",
            &prefix,
            "10.96.8.2",
            "",
        ))?;
        answers("moving.example", &prefix, 200, "both").await?;
        let number = if serving == 0 { 2 } else { 3 };
        replicas[serving] = Replica::start_on_pod(&world.plane, number, &address(serving)).await?;
    }
    load.finish().await?;
    drop(envoy);
    world.envoy.restart()?;
    world.envoy.ready().await
}

/// Which of the replicas has a stream.
async fn serving(replicas: &[Replica]) -> Result<usize> {
    until("a stream", || async {
        for (index, replica) in replicas.iter().enumerate() {
            if replica.metric("xds_streams").await? > 0.5 {
                return Ok(index);
            }
        }
        bail!("no replica has one")
    })
    .await
}
