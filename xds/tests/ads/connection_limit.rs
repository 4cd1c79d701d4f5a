//! More connections from clients than Envoy may have.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use nuncio_xds::{cache::Update, fleet::Protocol};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    config,
    envoy::{self, Envoy, until},
    http,
    server::{Server, TIMEOUT, settings},
};

/// The limit.
const LIMIT: u32 = 10;
/// Connections of the flood.
const FLOOD: u32 = 40;

/// Whether Envoy has kept a connection: a request on it gets a response.
async fn is_open(stream: &mut TcpStream) -> Result<bool> {
    let exchange = async {
        let request = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
        if stream.write_all(request).await.is_err() {
            return false;
        }
        let mut response = [0; 1024];
        let read = stream.read(&mut response).await;
        read.is_ok_and(|read| response[..read].starts_with(b"HTTP/1.1 200"))
    };
    timeout(TIMEOUT, exchange).await.context("no response")
}

async fn flood(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..FLOOD {
        streams.push(TcpStream::connect(address).await?);
    }
    Ok(streams)
}

#[tokio::test]
async fn flood_of_connections_leaves_probes_and_open_connections_alone() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let mut bootstrap = envoy::bootstrap(server.address, Protocol::Delta)?;
    bootstrap.max_connections = LIMIT.try_into()?;
    let envoy = Envoy::start("connections", &bootstrap).await?;
    let (backend, port) = (http::backend().await?, envoy::free_address()?);
    let seq = server.apply(Update {
        upserts: vec![
            config::cluster("cluster", "1"),
            config::endpoints("cluster", "1", backend),
            config::route_table("table", "1", "cluster"),
            config::listener("listener", "1", port, "table"),
        ],
        ..Update::default()
    });
    server.is_acknowledged(seq).await?;
    until("Envoy serves", || async {
        let (status, _) = http::get(port, "/").await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    until("no connection is open", || async {
        let open = envoy.stat("listener.1.downstream_cx_active").await?;
        ensure!(open == 0, "{open} connections");
        Ok(())
    })
    .await?;

    let mut streams = flood(port).await?;
    let mut open = Vec::new();
    for stream in &mut streams {
        open.push(is_open(stream).await?);
    }
    let kept = open.iter().filter(|open| **open).count();
    assert_eq!(kept, LIMIT as usize, "{open:?}");
    let overflow = envoy.stat("listener.1.downstream_global_cx_overflow");
    assert_eq!(overflow.await?, u64::from(FLOOD - LIMIT));

    // those that are open stay, and probes have no limit
    let first = open.iter().position(|open| *open).context("none is open")?;
    assert!(is_open(&mut streams[first]).await?);
    for _ in 0..LIMIT * 2 {
        let (status, _) = http::get(envoy.ready, "/ready").await?;
        assert_eq!(status, 200);
    }

    drop(streams);
    until("a new connection is served", || async {
        let (status, _) = http::get(port, "/").await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    envoy.stop().await
}
