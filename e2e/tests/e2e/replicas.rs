//! Several replicas: each serves its Envoys, one writes status.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::Load,
    control_plane::NAMESPACE,
    gateway::{Envoy, Replica},
    instance::Instance,
    sandbox::{CONTROL_PLANES, REPLICAS},
    wait::{until, until_within},
};
use rustix::process::Signal;

use nuncio::leader::lease_name;

use crate::{
    Space,
    fixture::{host, mapping},
    status::condition,
};

pub(crate) async fn the_other_replica_takes_over_status(space: &mut Space) -> Result<()> {
    let _backend = Backend::start("10.96.8.1:80", "both").await?;
    space.apply(
        &[
            host("replicas", "replicas.example", ""),
            mapping("replicas", "replicas.example", "/", "10.96.8.1", ""),
        ]
        .concat(),
    )?;
    space.answers("replicas.example", "/", 200, "both").await?;
    leads(space, "the Lease of the first", &space.gateway.replica).await?;
    let instance = space.gateway.instance.clone();
    let second = Replica::start(&space.plane, &instance, 1).await?;
    ensure!(
        second.metric("nuncio_leader").await? < 0.5,
        "two replicas lead"
    );
    let load = Load::start(&space.http(), "replicas.example", "/");
    space.own_gateway()?.replica.process.kill();
    leads(space, "the Lease of the second", &second).await?;
    space.apply(&mapping(
        "taken-over",
        "replicas.example",
        "'/('",
        "10.96.8.1",
        ", prefix_regex: true",
    ))?;
    condition(
        space,
        "mapping/taken-over",
        "Accepted",
        "False",
        "spec.prefix",
    )
    .await?;
    load.finish().await?;
    drop(second);
    space.restart_replica().await?;
    space.apply(&mapping(
        "back",
        "replicas.example",
        "/back/",
        "10.96.8.1",
        "",
    ))?;
    space
        .answers("replicas.example", "/back/", 200, "both")
        .await
}

pub(crate) async fn an_envoy_whose_replica_dies_goes_to_the_other(space: &mut Space) -> Result<()> {
    let _backend = Backend::start("10.96.8.2:80", "both").await?;
    let instance = space.gateway.instance.clone();
    let (mut replicas, _envoy) = two_replicas(space, 8003).await?;
    space.apply(
        &[
            host("moving", "moving.example", ""),
            mapping("stays", "moving.example", "/stays/", "10.96.8.2", ""),
        ]
        .concat(),
    )?;
    space
        .answers("moving.example", "/stays/", 200, "both")
        .await?;
    let load = Load::start(&space.http(), "moving.example", "/stays/");
    for round in 0..2 {
        let serving = serving(&replicas).await?;
        replicas[serving].process.kill();
        let prefix = format!("/round-{round}/");
        space.apply(&mapping(
            "moving",
            "moving.example",
            &prefix,
            "10.96.8.2",
            "",
        ))?;
        space
            .answers("moving.example", &prefix, 200, "both")
            .await?;
        let number = if serving == 0 { 2 } else { 3 };
        replicas[serving] =
            Replica::start_on_pod(&space.plane, &instance, number, &address(serving, 8003)).await?;
    }
    load.finish().await.map(drop)
}

pub(crate) async fn a_replica_that_stops_hands_its_stream_over(space: &mut Space) -> Result<()> {
    let (mut replicas, _envoy) = two_replicas(space, 8013).await?;
    let serving = serving(&replicas).await?;
    let replica = &mut replicas[serving].process;
    ensure!(
        replica.stop(Signal::TERM, Duration::from_secs(8)),
        "it does not stop"
    );
    let log = fs::read_to_string(&replica.log)?;
    let (_, after) = log.split_once(": stopping").context("no signal")?;
    ensure!(
        !after.contains("Envoy connected"),
        "the Envoy came back to a replica that stops: {after}"
    );
    let other = &replicas[1 - serving];
    until_within(Duration::from_secs(3), "its stream", || async {
        let streams = other.metric("nuncio_xds_streams").await?;
        ensure!(streams > 0.5, "{streams} streams");
        Ok(())
    })
    .await
}

pub(crate) async fn envoys_spread_over_replicas_that_are_added(space: &mut Space) -> Result<()> {
    let _backend = Backend::start("10.96.8.3:80", "both").await?;
    let instance = space.gateway.instance.clone();
    let start = async |number: usize| {
        let address = address(number, 8023);
        let flags = ["--xds-insecure", "--xds-max-connection-age", "3"];
        let number = 2 + u16::try_from(number)?;
        Replica::start_with(&space.plane, &instance, number, &address, &flags).await
    };
    let envoy = envoy_by_name(&instance, 8023)?;
    let first = start(0).await?;
    envoy.ready().await?;
    space.apply(
        &[
            host("spread", "spread.example", ""),
            mapping("spread", "spread.example", "/", "10.96.8.3", ""),
        ]
        .concat(),
    )?;
    space.answers("spread.example", "/", 200, "both").await?;
    let load = Load::start(&space.http(), "spread.example", "/");
    ensure!(first.metric("nuncio_xds_streams").await? > 0.5);
    let second = start(1).await?;
    let before = first.metric("nuncio_xds_response_resources_total").await?;
    until("a stream of the second", || async {
        ensure!(second.metric("nuncio_xds_streams").await? > 0.5);
        Ok(())
    })
    .await?;
    // the Envoy has everything already, whichever replica it is connected to
    for (replica, expected) in [(&first, before), (&second, 0.0)] {
        let sent = replica
            .metric("nuncio_xds_response_resources_total")
            .await?;
        ensure!(
            (sent - expected).abs() < 0.5,
            "{} sent {sent}",
            replica.name()
        );
    }
    space.apply(&mapping(
        "later",
        "spread.example",
        "/later/",
        "10.96.8.3",
        "",
    ))?;
    space
        .answers("spread.example", "/later/", 200, "both")
        .await?;
    load.finish().await.map(drop)
}

/// Two replicas with addresses of their own behind one name, and an Envoy that finds them by it.
///
/// Tests run beside each other, so that each has a port of its own.
async fn two_replicas(space: &mut Space, port: u16) -> Result<([Replica; 2], Envoy)> {
    let instance = space.gateway.instance.clone();
    let replicas = [
        Replica::start_on_pod(&space.plane, &instance, 2, &address(0, port)).await?,
        Replica::start_on_pod(&space.plane, &instance, 3, &address(1, port)).await?,
    ];
    // so that only the second Envoy answers
    space.own_gateway()?.envoy.process.kill();
    let envoy = envoy_by_name(&instance, port)?;
    envoy.ready().await?;
    Ok((replicas, envoy))
}

/// An Envoy that finds the replicas by their name.
fn envoy_by_name(instance: &Instance, port: u16) -> Result<Envoy> {
    let target = format!("{CONTROL_PLANES}:{port}");
    Envoy::start(
        &instance.name("envoy", 1),
        &target,
        &instance.admin(1),
        "delta",
    )
}

/// Where a replica serves xDS.
fn address(number: usize, port: u16) -> String {
    format!("{}:{port}", REPLICAS[number])
}

/// Waits until a replica holds the Lease of its instance.
async fn leads(space: &Space, what: &str, replica: &Replica) -> Result<()> {
    let lease = format!("lease/{}", lease_name(&space.gateway.instance.id));
    until(what, || async {
        let holder = space
            .plane
            .field(NAMESPACE, &lease, "{.spec.holderIdentity}")?;
        ensure!(holder == replica.name(), "{holder} holds it");
        Ok(())
    })
    .await
}

/// Which of the replicas has a stream.
async fn serving(replicas: &[Replica]) -> Result<usize> {
    until("a stream", || async {
        for (index, replica) in replicas.iter().enumerate() {
            if replica.metric("nuncio_xds_streams").await? > 0.5 {
                return Ok(index);
            }
        }
        bail!("no replica has one")
    })
    .await
}
