//! Backends: HTTP/1.1 servers that say who they are and what reached them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::wait::until;

/// A running backend. Dropped, it ends.
#[derive(Debug)]
pub struct Backend {
    task: JoinHandle<()>,
    requests: Arc<AtomicU64>,
}

impl Backend {
    /// Answers on `address` as `name`: the body is `NAME METHOD PATH`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: &str, name: &str) -> Result<Self> {
        // one that has just ended may still hold the address
        let listener = until("the address of a backend", || async {
            Ok(TcpListener::bind(address).await?)
        })
        .await?;
        let requests = Arc::new(AtomicU64::new(0));
        let (counter, name) = (requests.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, name.clone(), counter.clone()));
            }
        });
        Ok(Self { task, requests })
    }

    /// How many requests it has answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(stream: TcpStream, name: String, requests: Arc<AtomicU64>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        let mut length = 0;
        if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some((key, value)) = line.split_once(':')
                && key.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        let mut words = first.split(' ');
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let body = format!("{name} {method} {path}");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
