//! Backends: HTTP/1.1 servers that answer with their name and the request line.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::wait::until;

/// A running backend. Stopped when dropped.
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
        // one that has just been stopped may still hold the address
        let listener = until("the address of a backend", || async {
            Ok(TcpListener::bind(address).await?)
        })
        .await?;
        let requests = Arc::new(AtomicU64::new(0));
        let (counter, name) = (requests.clone(), Arc::<str>::from(name));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counter, name) = (counter.clone(), name.clone());
                let service =
                    service_fn(move |request| answer(request, name.clone(), counter.clone()));
                // the client sees how the connection ends
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { task, requests })
    }

    /// Number of requests answered.
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

async fn answer(
    request: Request<Incoming>,
    name: Arc<str>,
    requests: Arc<AtomicU64>,
) -> Result<Response<String>> {
    let (parts, body) = request.into_parts();
    body.collect().await?;
    requests.fetch_add(1, Ordering::Relaxed);
    let body = format!("{name} {} {}", parts.method, parts.uri);
    Ok(Response::new(body))
}
