//! A load generator: connections that stay open, on each the next request follows the answer to the one before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::process::Process;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest head of an answer.
const HEAD: usize = 4096;

/// Open connections.
pub(super) struct Load {
    streams: Vec<TcpStream>,
}

/// What came of a round.
pub(super) struct Round {
    /// Answers in a second.
    pub(super) throughput: f64,
    /// CPU time of the server for each answer, in microseconds.
    pub(super) cpu: f64,
    /// Of each answer, in microseconds.
    pub(super) latencies: Vec<f64>,
}

impl Load {
    /// Opens connections.
    pub(super) async fn open(address: &str, connections: usize) -> Result<Self> {
        let streams = try_join_all((0..connections).map(|_| async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(stream)
        }))
        .await?;
        Ok(Self { streams })
    }

    /// Asks for this path for as long as a round lasts. All answers are redirects.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) async fn round(
        &mut self,
        server: &Process,
        host: &str,
        path: &str,
        length: Duration,
    ) -> Result<Round> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let (start, cpu) = (Instant::now(), server.cpu_seconds());
        let clients = self
            .streams
            .iter_mut()
            .map(|stream| client(stream, request.as_bytes(), start + length));
        let latencies = try_join_all(clients).await?.concat();
        let (elapsed, cpu) = (start.elapsed(), server.cpu_seconds() - cpu);
        let answers = latencies.len() as f64;
        Ok(Round {
            throughput: answers / elapsed.as_secs_f64(),
            cpu: cpu * 1e6 / answers,
            latencies,
        })
    }
}

/// Sends one request after the other until `end`; the latencies.
async fn client(stream: &mut TcpStream, request: &[u8], end: Instant) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        let answer = exchange(stream, request);
        timeout(PATIENCE, answer).await.context("no answer")??;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// Sends a request and reads the answer, a redirect without a body.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    stream.write_all(request).await?;
    let (mut head, mut length) = ([0; HEAD], 0);
    while !head[..length].ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut head[length..]).await?;
        ensure!(read > 0, "the connection is closed, or the answer is long");
        length += read;
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 301 "),
        "no redirect: {}",
        String::from_utf8_lossy(&head[..length])
    );
    Ok(())
}
