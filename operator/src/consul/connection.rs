//! A connection to an agent: HTTP/1.1 over TCP, TLS or a Unix socket, with bounds on time and size.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, StatusCode, Uri, header::HOST};
use hyper::{
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    net::UnixStream,
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use tower::Service as _;

use super::target::{Place, Target};

/// How long it may take to connect, also for TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer: tens of thousands of instances.
const MAX_BYTES: usize = 16 << 20;
/// Pause between TCP keepalive probes, also before the first one.
const PROBE: Duration = Duration::from_secs(5);
/// Probes without an answer after which a connection is closed.
const PROBES: u32 = 3;

/// A connection that is open.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// It cannot, or not in time.
    pub(super) async fn open(target: &Target) -> anyhow::Result<Self> {
        timeout(CONNECT, connect(target))
            .await
            .unwrap_or_else(|_elapsed| Err(anyhow!("no connection within {} s", CONNECT.as_secs())))
    }

    /// Whether another request can be sent.
    pub(super) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// There is no complete answer within the limit, or it is too large.
    pub(super) async fn get(
        &mut self,
        target: &Target,
        path: &str,
        limit: Duration,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::get(path)
            .header(HOST, &target.authority)
            .body(Body::empty())
            .context("invalid request")?;
        request.headers_mut().extend(target.headers.clone());
        let deadline = Instant::now() + limit;
        let late = |_elapsed| anyhow!("no answer in time");
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer = timeout_at(deadline, exchange).await.map_err(late)?;
        let answer = answer.map_err(|error| readable(&error))?;
        let (head, body) = answer.into_parts();
        let body = to_bytes(Body::new(body), MAX_BYTES);
        let body = timeout_at(deadline, body).await.map_err(late)?;
        let body = body.map_err(|_cause| anyhow!("the answer is incomplete or too large"))?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_vec(),
        })
    }
}

/// An error of hyper with its cause, which is what says something.
fn readable(error: &hyper::Error) -> anyhow::Error {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    anyhow!(cause.unwrap_or_else(|| error.to_string()))
}

async fn connect(target: &Target) -> anyhow::Result<Connection> {
    let (host, port) = match &target.place {
        Place::Unix(path) => {
            return handshake(TokioIo::new(UnixStream::connect(path).await?)).await;
        }
        Place::Tcp { host, port } => (host, *port),
    };
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(PROBE));
    connector.set_keepalive_interval(Some(PROBE));
    connector.set_keepalive_retries(Some(PROBES));
    connector.set_tcp_user_timeout(Some(PROBE * PROBES));
    let uri = Uri::builder()
        .scheme("http")
        .authority(match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        })
        .path_and_query("/")
        .build()
        .context("invalid address")?;
    let stream = connector.call(uri).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        anyhow!("{error}: {}", cause.unwrap_or_default())
    })?;
    match &target.tls {
        None => handshake(stream).await,
        Some((config, name)) => {
            let stream = TlsConnector::from(config.clone())
                .connect(name.clone(), stream.into_inner())
                .await
                .context("TLS")?;
            handshake(TokioIo::new(stream)).await
        }
    }
}

async fn handshake<S>(stream: S) -> anyhow::Result<Connection>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await?;
    // its error reaches whoever waits for an answer
    let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
    Ok(Connection { sender, driver })
}
