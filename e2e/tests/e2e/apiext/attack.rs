//! Clients that are in the way, while the apiserver converts.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use nuncio_e2e::client::{get, tls_config};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    load::Load,
    rig::{Rig, SERVER_NAME, Stored, address},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Connections of each sort.
const CROWD: usize = 400;
/// Most memory of a replica, in MiB; the limit in its manifest is more.
const MEMORY: f64 = 700.0;

/// A client of the webhook, like the apiserver.
struct Client {
    address: String,
    connector: TlsConnector,
}

impl Client {
    fn new(rig: &Rig) -> Result<Self> {
        let authority = rig.secret()?.remove("tls.crt").unwrap_or_default();
        let root = CertificateDer::from_pem_slice(authority.as_bytes())?;
        Ok(Self {
            address: address(1),
            connector: TlsConnector::from(Arc::new(tls_config(&root, None)?)),
        })
    }

    /// A connection from an address of another pod.
    async fn tcp(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind("10.244.9.66:0".parse()?)?;
        Ok(socket.connect(self.address.parse()?).await?)
    }

    async fn open(&self) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(SERVER_NAME)?;
        Ok(self.connector.connect(name, self.tcp().await?).await?)
    }

    /// The status and body of the answer to a request.
    async fn send(&self, head: &str, body: &[u8]) -> Result<(u16, String)> {
        let mut stream = self.open().await?;
        let head = format!(
            "{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        // an answer can come before the body has been read
        let _ = stream.write_all(body).await;
        answer(&mut stream).await
    }

    async fn post(&self, body: &[u8]) -> Result<(u16, String)> {
        self.send("POST /webhooks/crd-convert", body).await
    }

    async fn review(&self, request: &Value) -> Result<(u16, String)> {
        let review = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request,
        });
        self.post(review.to_string().as_bytes()).await
    }
}

/// The status and body of an answer, or of what there is of it.
async fn answer(stream: &mut TlsStream<TcpStream>) -> Result<(u16, String)> {
    let mut text = Vec::new();
    let read = async {
        let mut part = [0; 4096];
        while let Ok(length) = stream.read(&mut part).await {
            text.extend_from_slice(&part[..length]);
            let found = String::from_utf8_lossy(&text).into_owned();
            let whole = found.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head.to_lowercase();
                let length = length.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
                length.is_some_and(|length| body.len() >= length)
            });
            if length == 0 || whole {
                break;
            }
        }
    };
    timeout(PATIENCE, read).await?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), text))
}

pub(crate) async fn hostile_clients_do_not_keep_the_apiserver_from_converting() -> Result<()> {
    let rig = Rig::start(Stored::V2, 1).await?;
    let load = Load::start(&rig)?;
    let client = Client::new(&rig)?;
    requests_that_are_no_reviews(&client).await?;
    reviews_that_fail(&client).await?;
    load.proceed().await;
    ensure!(load.failures() == 0);
    let crowd = crowd(&client).await?;
    load.proceed().await;
    large_bodies(&client).await?;
    load.proceed().await;
    drop(crowd);
    let memory = rig.replicas.values().map(|process| process.memory_mib());
    let memory = memory.fold(0.0, f64::max);
    eprintln!("{memory:.0} MiB");
    ensure!(memory < MEMORY, "{memory} MiB");
    let (status, body) = rig.readiness(1).await?;
    ensure!(status == 200, "{body}");
    load.finish().await.map(drop)
}

async fn requests_that_are_no_reviews(client: &Client) -> Result<()> {
    let deep = "[".repeat(1 << 20);
    for (body, part) in [
        ("", "ConversionReview"),
        ("garbage", "ConversionReview"),
        ("{}", "ConversionReview"),
        ("\u{0}\u{1}", "ConversionReview"),
        (&*deep, "ConversionReview"),
        (
            r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}"#,
            "request",
        ),
        (
            r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": {"uid": 7, "desiredAPIVersion": "getambassador.io/v2"}}"#,
            "invalid type: integer `7`",
        ),
    ] {
        let found = client.post(body.as_bytes()).await?;
        ensure!(
            found.0 == 400 && found.1.contains(part),
            "{body:.80}: {found:?}"
        );
    }
    let found = client.send("GET /webhooks/crd-convert", b"").await?;
    ensure!(found.0 == 405, "{found:?}");
    let found = client.send("POST /other", b"{}").await?;
    ensure!(found.0 == 404, "{found:?}");
    // without TLS
    let plain = get(&client.address, "x", "/webhooks/crd-convert").await;
    ensure!(plain.is_err(), "{plain:?}");
    Ok(())
}

async fn reviews_that_fail(client: &Client) -> Result<()> {
    let mapping = |name: &str, spec: Value| {
        json!({
            "apiVersion": "getambassador.io/v2", "kind": "Mapping", "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        })
    };
    for (version, object, part) in [
        (
            "getambassador.io/v9",
            mapping("a", json!({})),
            "desiredAPIVersion: must be a version of getambassador.io",
        ),
        ("apps/v1", mapping("a", json!({})), "desiredAPIVersion"),
        (
            "getambassador.io/v3alpha1",
            mapping("a", json!("text")),
            "Mapping default/a: spec: must be an object",
        ),
        (
            "getambassador.io/v3alpha1",
            json!({"apiVersion": "v1", "kind": "Pod"}),
            "apiVersion: must be a version",
        ),
        ("getambassador.io/v3alpha1", json!(7), "must be an object"),
    ] {
        let request = json!({"uid": "u\"1", "desiredAPIVersion": version, "objects": [mapping("good", json!({})), object]});
        let found = client.review(&request).await?;
        let body = found.1.split("\r\n\r\n").nth(1).unwrap_or_default();
        let review: Value = serde_json::from_str(body)?;
        let response = &review["response"];
        ensure!(
            found.0 == 200
                && response["uid"] == "u\"1"
                && response["result"]["status"] == "Failure"
                && response["convertedObjects"].is_null(),
            "{found:?}"
        );
        let message = response["result"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains(part), "{part}: {message}");
    }
    Ok(())
}

/// Connections that send nothing, half of a head, or half of a body.
async fn crowd(client: &Client) -> Result<(Vec<TcpStream>, Vec<TlsStream<TcpStream>>)> {
    let mut silent = Vec::new();
    for _ in 0..CROWD {
        silent.push(client.tcp().await?);
    }
    let mut slow = Vec::new();
    for number in 0..CROWD {
        // with so many, the server closes some of them
        let Ok(mut stream) = client.open().await else {
            continue;
        };
        let text: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /webhooks/crd-convert HTTP/1.1\r\nhos",
            _ => b"POST /webhooks/crd-convert HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n{",
        };
        let _ = stream.write_all(text).await;
        slow.push(stream);
    }
    Ok((silent, slow))
}

async fn large_bodies(client: &Client) -> Result<()> {
    let head = "POST /webhooks/crd-convert HTTP/1.1\r\nhost: x\r\n";
    let mut stream = client.open().await?;
    stream
        .write_all(format!("{head}content-length: 1000000000\r\n\r\n").as_bytes())
        .await?;
    let found = answer(&mut stream).await?;
    ensure!(found.0 == 413, "{found:?}");
    // of unknown length
    let mut stream = client.open().await?;
    stream
        .write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())
        .await?;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    for _ in 0..20 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let found = answer(&mut stream).await?;
    ensure!(found.0 == 413 || found.0 == 0, "{found:?}");
    // much memory for each byte, several at a time
    let many = "1,".repeat(1 << 20);
    let body = format!(
        r#"{{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": {{"uid": "u", "desiredAPIVersion":
        "getambassador.io/v3alpha1", "objects": [{{"apiVersion": "getambassador.io/v2", "kind": "Mapping", "metadata": {{"name": "a"}},
        "spec": {{"a": [{many}1]}}}}]}}}}"#
    );
    let posts = (0..4).map(|_| client.post(body.as_bytes()));
    for found in futures::future::join_all(posts).await {
        let (status, text) = found?;
        ensure!([200, 503].contains(&status), "{status} {text:.200}");
    }
    Ok(())
}
