//! Clients that only connect, more of them than the control plane has file descriptors.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::get,
    gateway::{Envoy, metric, stops},
    process::Process,
    wait::until,
    workspace::nuncio,
};
use rustix::process::Signal;
use tokio::{net::TcpStream, time::timeout};

use super::serve::{HTTP, samples};

const XDS: &str = "127.0.0.1:8003";
const HEALTH: &str = "127.0.0.1:8877";
/// Clients of the xDS port.
const CLIENTS: usize = 300;
/// Clients of the other port.
const PROBES: usize = 100;
/// Longest time of a change, on a busy machine.
const BOUND: Duration = Duration::from_secs(5);

pub(crate) async fn they_do_not_keep_a_configuration_from_envoys() -> Result<()> {
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    // connections alone exhaust the descriptors in the second case only: in the first they are limited before
    for descriptors in [200, 64] {
        let result = idle_clients(descriptors).await;
        result.with_context(|| format!("{descriptors} descriptors"))?;
    }
    Ok(())
}

async fn idle_clients(descriptors: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    samples(directory.path())?;
    edit(directory.path(), "/before/")?;
    let name = format!("nuncio-serve-{descriptors}");
    let arguments = [
        &format!("--nofile={descriptors}:{descriptors}"),
        &nuncio()?.display().to_string(),
        "serve",
        &directory.path().display().to_string(),
        "--xds-address",
        XDS,
    ];
    let mut serve = Process::start(&name, Path::new("prlimit"), arguments, &[])?;
    until("the xDS server", || async {
        Ok(TcpStream::connect(XDS).await.map(drop)?)
    })
    .await?;
    let envoy = Envoy::start("envoy-idle-0", XDS, "127.0.0.1:8001", "delta")?;
    answers("/before/").await?;
    let mut clients = Vec::new();
    for address in [XDS; CLIENTS].into_iter().chain([HEALTH; PROBES]) {
        let connected = timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
        // one that waits to be accepted has a place in the backlog of the socket
        clients.extend(connected.ok().and_then(Result::ok));
    }
    ensure!(
        clients.len() > CLIENTS / 2,
        "{} are connected",
        clients.len()
    );
    for path in ["/while/", "/again/"] {
        let start = Instant::now();
        edit(directory.path(), path)?;
        answers(path).await?;
        ensure!(start.elapsed() < BOUND, "{path} took {:?}", start.elapsed());
    }
    drop(envoy);
    let start = Instant::now();
    let envoy = Envoy::start("envoy-idle-1", XDS, "127.0.0.1:8001", "delta")?;
    answers("/again/").await?;
    eprintln!("a new Envoy is served after {:?}", start.elapsed());
    until("metrics", || async {
        let streams = metric(HEALTH, "nuncio_xds_streams").await?;
        ensure!((streams - 1.0).abs() < 0.1, "{streams} streams");
        Ok(())
    })
    .await?;
    drop((envoy, clients));
    stops(&mut serve, Signal::TERM)
}

fn edit(directory: &Path, prefix: &str) -> Result<()> {
    let mapping = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: m}}\nspec: {{hostname: '*', prefix: {prefix}, service: '127.0.0.1:9101'}}\n"
    );
    fs::write(directory.join("m.yaml"), mapping)?;
    Ok(())
}

async fn answers(path: &str) -> Result<()> {
    until(path, || async {
        let answer = get(HTTP, "localhost", path).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await
}
