//! An Envoy pod that stops under load, behind a load balancer that follows its readiness.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    balancer::{Balancer, Pod},
    certificate::Authority,
    client::{Connection, Load, get, tls_config},
    process::Process,
    wait::until,
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use crate::{
    envoy_pod::{HOST, PROMPT, control_plane, envoy_pod, exits, metric, ready, unready},
    fixture::{LISTENERS, mapping, tls_host},
};

const BALANCER: &str = "127.0.3.1";
const PODS: [Pod; 2] = [
    Pod {
        health: "127.0.1.1:8006",
        ip: "127.0.1.1",
    },
    Pod {
        health: "127.0.2.1:8006",
        ip: "127.0.2.1",
    },
];
/// Size of a download, half of which is sent at its end.
const BYTES: usize = 1 << 20;

/// A backend with downloads that end once they are released, and upgraded connections that echo.
async fn backend(listener: TcpListener, released: watch::Receiver<bool>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, released.clone()));
    }
}

async fn serve(mut stream: TcpStream, mut released: watch::Receiver<bool>) -> Result<()> {
    let mut bytes = vec![0; 4096];
    loop {
        let length = stream.read(&mut bytes).await?;
        let head = &bytes[..length];
        if head.starts_with(b"GET /download") {
            let header = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            stream.write_all(header.as_bytes()).await?;
            stream.write_all(&vec![b'a'; BYTES / 2]).await?;
            released.wait_for(|released| *released).await?;
            stream.write_all(&vec![b'b'; BYTES / 2]).await?;
        } else if head.starts_with(b"GET /websocket") {
            let header = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(header.as_bytes()).await?;
            loop {
                let length = stream.read(&mut bytes).await?;
                stream.write_all(&bytes[..length]).await?;
                ensure!(length > 0, "closed");
            }
        } else if length > 0 {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await?;
        } else {
            return Ok(());
        }
    }
}

/// A connection to a pod on which this GET has been sent.
async fn send(ip: &str, path: &str, headers: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((ip, 8080)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Sends a text on an upgraded connection and reads it again.
async fn echo(stream: &mut TcpStream, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut bytes = vec![0; text.len()];
    timeout(PROMPT, stream.read_exact(&mut bytes)).await??;
    ensure!(bytes == text.as_bytes(), "{bytes:?}");
    Ok(())
}

/// Reads the head of a response.
async fn head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PROMPT, stream.read_u8()).await??);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Two pods, each with a control plane of its own, because both have the same ports on addresses of their own.
async fn start(manifests: &tempfile::TempDir) -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for pod in PODS {
        processes.push(control_plane(pod.ip, manifests.path(), &[])?);
        let flags = [
            "--xds-insecure",
            "--drain-delay",
            "2",
            "--drain-timeout",
            "60",
        ];
        processes.push(envoy_pod(pod.ip, &flags)?);
    }
    for pod in PODS {
        ready(pod.health).await?;
    }
    Ok(processes)
}

/// Loads of several kinds.
fn loads(config: &rustls::ClientConfig) -> Vec<(&'static str, Load)> {
    let http = format!("{BALANCER}:8080");
    let https = format!("{BALANCER}:8443");
    let mut loads = Vec::new();
    for _ in 0..2 {
        let config = || config.clone();
        loads.push(("HTTP/1.1", Load::start(&http, HOST, "/")));
        loads.push(("TLS", Load::start_tls(&https, HOST, "/", config())));
        loads.push(("HTTP/2", Load::start_http2(&https, HOST, "/", config())));
        loads.push((
            "new connections",
            Load::start_handshakes(&https, HOST, "/", config()),
        ));
    }
    loads
}

/// A directory with the objects of the test.
fn manifests(authority: &Authority) -> Result<tempfile::TempDir> {
    let manifests = tempfile::tempdir()?;
    let objects = [
        authority.issue(&[HOST])?.secret("default", "edge"),
        tls_host(
            "edge",
            HOST,
            ", tls: {alpn_protocols: 'h2,http/1.1'}, requestPolicy: {insecure: {action: Route}}",
        ),
        mapping(
            "m",
            HOST,
            "/",
            "127.0.0.1:9101",
            ", allow_upgrade: [websocket], timeout_ms: 0",
        ),
        LISTENERS.to_owned(),
    ];
    fs::write(manifests.path().join("m.yaml"), objects.concat())?;
    Ok(manifests)
}

/// Of a pod that stops: connections are accepted until load balancers have noticed, and closed with their first response.
async fn new_connections_end() -> Result<()> {
    let mut late = Connection::open("127.0.1.1:8080").await?;
    until("connections that close", || async {
        let answer = get("127.0.1.1:8080", HOST, "/").await?;
        let close = answer.headers.get("connection").map(String::as_str);
        ensure!(answer.status == 200 && close == Some("close"), "{answer:?}");
        Ok(())
    })
    .await?;
    let answer = late.get(HOST, "/").await?;
    ensure!(answer.status == 200, "{answer:?}");
    until("the end of new connections", || async {
        let connected = TcpStream::connect("127.0.1.1:8080").await;
        ensure!(connected.is_err(), "it listens");
        Ok(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_pod_that_stops_loses_no_request() -> Result<()> {
    let authority = Authority::new()?;
    let manifests = manifests(&authority)?;
    let (release, released) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:9101").await?;
    tokio::spawn(backend(listener, released));
    let mut processes = start(&manifests).await?;
    let balancer = Balancer::start(BALANCER, &[8080, 8443], &PODS).await?;
    until("both pods", || async {
        let ready = balancer.ready();
        ensure!(ready.len() == PODS.len(), "{ready:?}");
        Ok(())
    })
    .await?;
    let loads = loads(&tls_config(&authority.der(), None)?);
    let stops = PODS[0].ip;
    let mut download = send(stops, "/download", "").await?;
    let mut websocket = send(
        stops,
        "/websocket",
        "connection: upgrade\r\nupgrade: websocket\r\n",
    )
    .await?;
    let status = head(&mut websocket).await?;
    ensure!(status.starts_with("HTTP/1.1 101"), "{status}");
    echo(&mut websocket, "before").await?;
    let length = format!("content-length: {BYTES}");
    let begin = head(&mut download).await?;
    ensure!(begin.contains(&length), "{begin}");
    for (what, load) in &loads {
        until(what, || async {
            ensure!(load.sent().requests > 20, "{:?}", load.sent());
            Ok(())
        })
        .await?;
    }
    processes[1].signal(Signal::TERM);
    unready(PODS[0].health, "stopping").await?;
    new_connections_end().await?;
    echo(&mut websocket, "while it drains").await?;
    ensure!(processes[1].is_running(), "it does not wait for requests");
    ensure!(
        metric(PODS[0].health, "nuncio_envoy_up").await? == 1,
        "no metrics while it drains"
    );
    release.send_replace(true);
    let mut body = vec![0; BYTES];
    timeout(PROMPT, download.read_exact(&mut body))
        .await?
        .context("the download")?;
    ensure!(
        body[BYTES / 2..].iter().all(|byte| *byte == b'b'),
        "another body"
    );
    drop((download, websocket));
    exits(&mut processes[1], PROMPT * 2)?;
    for (what, load) in loads {
        load.finish().await.context(what)?;
    }
    Ok(())
}
