//! Clusters that Envoy cannot use at once: traffic must not notice a switch to them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nuncio_xds::{
    Resource, Unit,
    cache::Update,
    fleet::Protocol,
    ir::{Balancer, Cluster, Discovery, DnsFamily, HealthCheck, HealthChecker, Ir},
    render,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    config,
    envoy::{self, Envoy},
    http,
    server::{Server, settings},
};

/// How long the backend takes for a health check.
const SLOW: Duration = Duration::from_millis(700);

/// A backend that responds to health checks slowly.
async fn slow_backend() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut request).await {
                    if request[..read].starts_with(b"GET /health") {
                        sleep(SLOW).await;
                    }
                    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(response).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

fn cluster(name: &str, discovery: Discovery, health_checks: Vec<HealthCheck>) -> Result<Resource> {
    let name: Arc<str> = name.into();
    let cluster = Cluster {
        name: name.clone(),
        stat_name: name.to_string(),
        discovery,
        tls: None,
        http2: false,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: None,
        max_connection_lifetime: None,
        balancer: Balancer::default(),
        by_zone: false,
        circuit_breakers: Vec::new(),
        keepalive: None,
        health_checks,
        outlier_detection: None,
    };
    let ir = Ir {
        clusters: [(name.clone(), Arc::new(cluster))].into_iter().collect(),
        ..Ir::default()
    };
    let resource = render(&Unit::Cluster(name), &ir);
    resource.context("the cluster is rendered")
}

fn fixed(address: SocketAddr) -> Discovery {
    Discovery::Static {
        address: address.ip(),
        port: address.port(),
    }
}

/// Forwards connections to the server, and delays what Envoy sends.
async fn with_slow_requests(server: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((envoy, _)) = listener.accept().await {
            let (mut requests, mut responses) = envoy.into_split();
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_server, &mut responses).await });
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = requests.read(&mut bytes).await {
                    sleep(SLOW / 10).await;
                    if to_server.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// Requests one after the other, all of which must succeed.
struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<usize>>,
}

impl Traffic {
    /// Routes to a cluster `old` that is usable at once, and requests to it.
    async fn start(server: &mut Server, port: SocketAddr, backend: SocketAddr) -> Result<Self> {
        let seq = server.apply(Update {
            upserts: vec![
                cluster("old", fixed(backend), Vec::new())?,
                config::route_table("table", "1", "old"),
                config::listener("listener", "1", port, "table"),
            ],
            ..Update::default()
        });
        server.is_acknowledged(seq).await?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut sent = 0;
            while !stopped.load(Relaxed) {
                let (status, body) = http::get(port, "/").await?;
                ensure!(status == 200, "request {sent}: {status} {body}");
                sent += 1;
            }
            Ok(sent)
        });
        Ok(Self { stop, task })
    }

    async fn finish(self) -> Result<()> {
        self.stop.store(true, Relaxed);
        let sent = self.task.await??;
        ensure!(sent > 10, "{sent} requests");
        Ok(())
    }
}

/// Envoy subscribes to endpoints only when it has its first cluster that needs some.
#[tokio::test]
async fn switch_to_the_first_endpoints_of_a_stream_loses_no_request() -> Result<()> {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut server = Server::start(settings()).await?;
        let xds = with_slow_requests(server.address).await?;
        let envoy = Envoy::start("endpoints", &envoy::bootstrap(xds, protocol)?).await?;
        let (backend, port) = (http::backend().await?, envoy::free_address()?);
        let traffic = Traffic::start(&mut server, port, backend).await?;
        for (edition, name) in [("2", "first"), ("3", "second")] {
            let seq = server.apply(Update {
                upserts: vec![
                    config::cluster(name, "1"),
                    config::endpoints(name, "1", backend),
                    config::route_table("table", edition, name),
                ],
                ..Update::default()
            });
            let started = Instant::now();
            server.is_acknowledged(seq).await?;
            let seconds = started.elapsed().as_secs_f64();
            assert!(seconds < 4.0, "{protocol:?}: {seconds} s");
        }
        let finished = traffic.finish().await;
        finished.with_context(|| format!("{protocol:?}"))?;
        envoy.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn switch_to_clusters_that_warm_loses_no_request() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let bootstrap = envoy::bootstrap(server.address, Protocol::Delta)?;
    let envoy = Envoy::start("warming", &bootstrap).await?;
    let (backend, port) = (slow_backend().await?, envoy::free_address()?);
    let traffic = Traffic::start(&mut server, port, backend).await?;
    let check = HealthCheck {
        timeout: SLOW * 2,
        interval: SLOW * 2,
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        checker: HealthChecker::Http {
            path: "/health".to_owned(),
            host: String::new(),
            add_headers: std::collections::BTreeMap::default(),
            remove_headers: Vec::new(),
            expected: Vec::new(),
        },
    };
    let dns = Discovery::Dns {
        host: "localhost".to_owned(),
        port: backend.port(),
        family: DnsFamily::V4,
        logical: false,
        respect_ttl: false,
    };
    for (edition, new) in [
        ("2", cluster("checked", fixed(backend), vec![check])?),
        ("3", cluster("named", dns, Vec::new())?),
    ] {
        assert!(new.warms);
        let started = Instant::now();
        let table = config::route_table("table", edition, &new.name);
        let seq = server.apply(Update {
            upserts: vec![new, table],
            ..Update::default()
        });
        server.is_acknowledged(seq).await?;
        assert!(edition != "2" || started.elapsed() >= SLOW, "it warms");
        assert!(started.elapsed() < Duration::from_secs(4), "it is warm");
    }
    traffic.finish().await?;
    envoy.stop().await
}
