//! Envoy's admin interface, on whatever socket it is.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, header::HOST},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nuncio_xds::socket::{Address, Stream};
use tokio::time::timeout;

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest response that is read.
const MAX_BYTES: usize = 16 << 20;

/// The body of the response to a request.
pub(crate) async fn request(
    address: &Address,
    method: Method,
    path: &str,
) -> anyhow::Result<String> {
    timeout(TIMEOUT, exchange(address, method, path))
        .await
        .with_context(|| format!("no response from Envoy's admin interface to {path}"))?
}

/// The body of the response to a GET, which is read while it arrives.
pub(crate) async fn get(address: &Address, path: &str) -> anyhow::Result<Body> {
    let response = async {
        let stream = Stream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .uri(path)
            .header(HOST, "envoy")
            .body(Body::empty())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        ensure!(status.is_success(), "{path}: status {status}");
        Ok(Body::new(response.into_body()))
    };
    timeout(TIMEOUT, response)
        .await
        .with_context(|| format!("no response from Envoy's admin interface to {path}"))?
}

async fn exchange(address: &Address, method: Method, path: &str) -> anyhow::Result<String> {
    let stream = Stream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "envoy")
        .body(Body::empty())?;
    let response = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), MAX_BYTES).await?;
        ensure!(status.is_success(), "{path}: status {status}");
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    tokio::select! {
        response = response => response,
        Err(error) = connection => Err(error.into()),
    }
}
