//! What is Nuncio's own is no upstream: whoever writes a Mapping reaches neither the control plane nor Envoy's admin interface.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{backend::Backend, client::get, wait::until};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::serve::{HTTP, READY, gone, samples, serve_with};

/// Ways to write an address of this machine.
const SPELLINGS: [&str; 6] = [
    "127.0.0.1",
    "localhost",
    "0.0.0.0",
    "127.8.8.8",
    "[::1]",
    "[::ffff:127.0.0.1]",
];
/// Where the control plane and Envoy's admin interface are in Emissary, and were in Nuncio.
const PORTS: [u16; 2] = [8001, 8003];
/// Where the first TCPMapping listens; the others follow.
const TCP: u16 = 9700;

/// A manifest with every spelling of every port, and the ports of its TCPMappings.
fn manifests() -> Result<(String, Vec<u16>)> {
    let mut text = String::new();
    let mut tcp = Vec::new();
    for port in PORTS {
        for (index, host) in SPELLINGS.iter().enumerate() {
            let listener = TCP + u16::try_from(tcp.len())?;
            tcp.push(listener);
            writeln!(
                text,
                r#"---
{{apiVersion: getambassador.io/v3alpha1, kind: Mapping, metadata: {{name: http-{port}-{index}}},
  spec: {{hostname: "*", prefix: /{port}-{index}/, service: "{host}:{port}"}}}}
---
{{apiVersion: getambassador.io/v3alpha1, kind: TCPMapping, metadata: {{name: tcp-{port}-{index}}},
  spec: {{port: {listener}, service: "{host}:{port}"}}}}
---
{{apiVersion: getambassador.io/v3alpha1, kind: Listener, metadata: {{name: tcp-{listener}}},
  spec: {{port: {listener}, protocol: TCP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}}}"#
            )?;
        }
    }
    text.push_str(
        r#"---
{apiVersion: getambassador.io/v3alpha1, kind: Mapping, metadata: {name: discovery}, spec: {hostname: "*", grpc: true, rewrite: "",
  prefix: /envoy.service.discovery.v3.AggregatedDiscoveryService/, service: "127.0.0.1:8003"}}
---
{apiVersion: getambassador.io/v3alpha1, kind: Mapping, metadata: {name: works}, spec: {hostname: "*", prefix: /works/, service: "127.0.0.1:9101"}}
"#,
    );
    Ok((text, tcp))
}

pub(crate) async fn no_service_reaches_the_control_plane_or_the_admin_interface() -> Result<()> {
    let _backend = Backend::start("127.0.0.1:9101", "sidecar").await?;
    let directory = tempfile::tempdir()?;
    samples(directory.path())?;
    let (text, tcp) = manifests()?;
    fs::write(directory.path().join("hostile.yaml"), text)?;
    let serve = serve_with(directory.path(), &[], &[])?;
    let works = || async {
        let answer = get(HTTP, "localhost", "/works/").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    };
    until("a service on loopback that is not ours", works).await?;
    for port in PORTS {
        for index in 0..SPELLINGS.len() {
            for path in ["ready", "config_dump", "quitquitquit", "stats"] {
                let path = format!("/{port}-{index}/{path}");
                let answer = get(HTTP, "localhost", &path).await?;
                ensure!(answer.status == 503, "{path}: status {}", answer.status);
            }
        }
    }
    let discovery =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let answer = get(HTTP, "localhost", discovery).await?;
    ensure!(
        answer.body.is_empty() || answer.status == 503,
        "{}: {}",
        answer.status,
        answer.body
    );
    for port in &tcp {
        until("the port of a TCPMapping", || async {
            let mut stream = TcpStream::connect(("127.0.0.1", *port)).await?;
            let _ = stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            ensure!(
                bytes.is_empty(),
                "port {port}: {}",
                String::from_utf8_lossy(&bytes)
            );
            Ok(())
        })
        .await?;
    }
    works().await?;
    for (path, status) in [
        ("/ready", 200),
        ("/stats/prometheus", 200),
        ("/quitquitquit", 404),
        ("/config_dump", 404),
    ] {
        let answer = get(READY, "localhost", path).await?;
        ensure!(
            answer.status == status,
            "{READY}{path}: status {}",
            answer.status
        );
    }
    let known: BTreeSet<u16> = tcp.into_iter().chain([8080, 8006, 8877, 9101]).collect();
    let unknown: Vec<u16> = listening()?.difference(&known).copied().collect();
    ensure!(
        unknown.is_empty(),
        "ports that no part of this test has: {unknown:?}"
    );
    serve.signal(Signal::TERM);
    gone().await
}

/// TCP ports on which anybody listens.
fn listening() -> Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(file).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(address), Some(&"0A")) = (fields.get(1), fields.get(3)) else {
                continue;
            };
            let (_, port) = address.rsplit_once(':').context("no port")?;
            ports.insert(u16::from_str_radix(port, 16)?);
        }
    }
    Ok(ports)
}
