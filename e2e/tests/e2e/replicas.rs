//! Several replicas: each serves its Envoys, one writes status.

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::Load,
    gateway::{Replica, xds_address},
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
                .field("default", "lease/nuncio-leader", "{.spec.holderIdentity}")?;
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
                .field("default", "lease/nuncio-leader", "{.spec.holderIdentity}")?;
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
