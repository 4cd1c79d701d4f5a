//! An apiserver that answers as a test says, to the byte. Each connection serves one request.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kube::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Limits, connect};

/// A running server. It stops with the test's runtime.
pub(crate) struct Apiserver {
    url: String,
    requests: Arc<AtomicUsize>,
}

/// The answer to one request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    text: String,
    stays: bool,
}

impl Answer {
    /// Answers, and closes the connection.
    pub(crate) fn complete(&mut self, status: u16, body: &str) {
        self.complete_with(status, "content-type: application/json", body);
    }

    /// The same with this header.
    pub(crate) fn complete_with(&mut self, status: u16, header: &str, body: &str) {
        self.text = format!(
            "HTTP/1.1 {status} x\r\n{header}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }

    /// Begins an answer that never ends.
    pub(crate) fn begin(&mut self, body: &str) {
        let chunk = if body.is_empty() {
            String::new()
        } else {
            format!("{:x}\r\n{body}\r\n", body.len())
        };
        self.text = format!("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
        self.stays = true;
    }

    /// Keeps the connection open and sends nothing.
    pub(crate) fn never(&mut self) {
        self.stays = true;
    }
}

impl Apiserver {
    /// Starts a server; `handle` gets the path with the query of each request.
    pub(crate) async fn start(handle: impl Fn(&str, &mut Answer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (handle, count) = (Arc::new(handle), requests.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (handle, count) = (handle.clone(), count.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let head = String::from_utf8_lossy(&head).into_owned();
                    // a connection that is closed with a part unread is reset, with the answer
                    let mut body = vec![0; length(&head)];
                    if stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let mut answer = Answer::default();
                    handle(head.split(' ').nth(1).unwrap_or_default(), &mut answer);
                    let _ = stream.write_all(answer.text.as_bytes()).await;
                    if answer.stays {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { url, requests }
    }

    /// A client for this server.
    pub(crate) fn client(&self, limits: Limits) -> Client {
        connect(kube::Config::new(self.url.parse().unwrap()), limits).unwrap()
    }

    /// How many requests have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// The length of the body that follows this head.
fn length(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    let mut lines = head.lines();
    let text = lines.find_map(|line| line.strip_prefix("content-length:"));
    text.map_or(0, |text| text.trim().parse().unwrap())
}
