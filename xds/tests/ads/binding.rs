//! Listeners whose addresses are taken when Envoy gets them.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use crate::{
    config,
    envoy::{self, Envoy, until},
    http,
    server::{Server, settings},
};
use anyhow::{Result, ensure};
use nuncio_xds::{
    cache::Update,
    fleet::{CANNOT_BIND, Protocol},
};

async fn is_served(address: SocketAddr) -> Result<()> {
    let (status, _) = http::get(address, "/").await?;
    ensure!(status == 200, "{status}");
    Ok(())
}

async fn taken_address(name: &str, protocol: Protocol) -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let bootstrap = envoy::bootstrap(server.address, protocol)?;
    let envoy = Envoy::start(name, &bootstrap).await?;
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let (address, other) = (taken.local_addr()?, envoy::free_address()?);
    let backend = http::backend().await?;
    let seq = server.apply(Update {
        upserts: vec![
            config::cluster("cluster", "1"),
            config::endpoints("cluster", "1", backend),
            config::route_table("table", "1", "cluster"),
            config::listener("taken", "1", address, "table"),
            config::listener("other", "1", other, "table"),
        ],
        ..Update::default()
    });
    server.is_acknowledged(seq).await?;
    until("the other listener is served", || is_served(other)).await?;
    let rejections = server.fleet.rejections();
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    assert!(rejections[0].message.contains(CANNOT_BIND));
    let nacks = server.metric("xds_nacks_total")?;

    // it is tried again, which is no change of state and no new rejection
    let notified = server.fleet.subscribe_rejections();
    let attempts = envoy.rejected().await?;
    until("it is tried twice more", || async {
        let now = envoy.rejected().await?;
        ensure!(now >= attempts + 2, "{now} attempts");
        Ok(())
    })
    .await?;
    assert!(!notified.has_changed()?, "a new rejection");
    assert_eq!(server.fleet.rejections(), rejections);
    let now = server.metric("xds_nacks_total")?;
    assert!((now - nacks).abs() < 0.1, "{now} instead of {nacks} NACKs");
    // meanwhile changes of other resources arrive
    let seq = server.apply(Update {
        upserts: vec![config::route_table("table", "2", "cluster")],
        ..Update::default()
    });
    server.is_acknowledged(seq).await?;

    drop(taken);
    let freed = Instant::now();
    until("the listener is served", || is_served(address)).await?;
    // the pauses were 1, 2 and perhaps 4 s
    assert!(
        freed.elapsed() < Duration::from_secs(9),
        "{:?}",
        freed.elapsed()
    );
    server
        .fleet_is("nothing is rejected", |state| state.rejections.is_empty())
        .await?;
    is_served(other).await?;
    envoy.stop().await
}

#[tokio::test]
async fn delta_listener_is_served_once_its_address_is_free() -> Result<()> {
    taken_address("taken-delta", Protocol::Delta).await
}

#[tokio::test]
async fn sotw_listener_is_served_once_its_address_is_free() -> Result<()> {
    taken_address("taken-sotw", Protocol::Sotw).await
}
