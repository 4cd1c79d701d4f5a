//! The connection to the apiserver: no request waits without end, whatever stands between here and the apiserver.
//!
//! - An answer must begin within [`Limits::answer`], that to a list within [`Limits::list`].
//! - A body must not pause for longer than [`Limits::idle`]. A watch asks the apiserver to end it after [`WATCH`], so that
//!   a watch without any byte for longer is a connection that nobody serves any more.
//! - TCP keepalive finds peers that are gone, and idle connections are closed soon, so that a request after an outage does
//!   not start on a connection that died in it.
//! - A watch of the same path starts at most every [`Limits::pace`]: one that is answered with nothing must not spin.
//!
//! Requests are not retried here: every caller retries with pauses of its own, and shows that it does.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client,
    client::{Body as RequestBody, ConfigExt as _},
};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tower::{BoxError, Service, ServiceBuilder};

/// How long the apiserver lets a watch run, in seconds. Another one follows at once.
pub const WATCH: u32 = 20;

/// How long to wait for the apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection is open.
    pub connect: Duration,
    /// Until an answer begins.
    pub answer: Duration,
    /// The same for a list, which an apiserver with many objects needs longer for.
    pub list: Duration,
    /// Until the next part of a body.
    pub idle: Duration,
    /// From the start of a watch to the next one of the same path.
    pub pace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(8),
            list: Duration::from_secs(30),
            idle: Duration::from_secs(WATCH as u64 + 4),
            pace: Duration::from_millis(500),
        }
    }
}

/// An idle connection is closed after this time.
const POOLED: Duration = Duration::from_secs(5);
/// Pause between TCP keepalive probes, also before the first one.
const PROBE: Duration = Duration::from_secs(5);
/// Probes without an answer after which a connection is closed.
const PROBES: u32 = 3;

/// A client for this cluster.
///
/// # Errors
/// Certificates or credentials that cannot be read, or a proxy, which is not supported.
pub fn connect(config: kube::Config, limits: Limits) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // its error says so
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(limits.connect));
    tcp.set_keepalive(Some(PROBE));
    tcp.set_keepalive_interval(Some(PROBE));
    tcp.set_keepalive_retries(Some(PROBES));
    // for connections that have sent something: probes are sent only while nothing is unacknowledged
    tcp.set_tcp_user_timeout(Some(PROBE * PROBES));
    let client = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOLED)
        .build::<_, RequestBody>(config.rustls_https_connector_with_connector(tcp)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(
        Limited::new(service, limits),
        config.default_namespace,
    ))
}

/// The apiserver did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the apiserver within {0:?}")]
struct Unanswered(Duration);

/// The apiserver stopped in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("no data from the apiserver for {0:?}")]
struct Stalled(Duration);

/// A service whose answers, and the parts of their bodies, come in time or not at all.
struct Limited<S> {
    inner: S,
    limits: Limits,
    watches: Watches,
}

impl<S> Limited<S> {
    fn new(inner: S, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            watches: Watches::default(),
        }
    }
}

impl<S, B> Service<Request<RequestBody>> for Limited<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<LimitedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let has = |name: &str| {
            let query = request.uri().query().unwrap_or_default();
            query
                .split('&')
                .any(|pair| pair.split('=').next() == Some(name))
        };
        let limit = if has("limit") {
            self.limits.list
        } else {
            self.limits.answer
        };
        let at = has("watch").then(|| self.watches.start(request.uri().path(), self.limits.pace));
        let idle = self.limits.idle;
        let answer = self.inner.call(request);
        Box::pin(async move {
            if let Some(at) = at {
                sleep_until(at).await;
            }
            let response = timeout(limit, answer)
                .await
                .map_err(|_elapsed| Unanswered(limit))?
                .map_err(Into::into)?;
            Ok(response.map(|body| LimitedBody {
                inner: Box::pin(body),
                idle,
                sleep: Box::pin(sleep(idle)),
            }))
        })
    }
}

/// When the last watch of each path started.
#[derive(Clone, Default)]
struct Watches(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Watches {
    /// When a watch of this path may start.
    fn start(&self, path: &str, pace: Duration) -> Instant {
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = started
            .get(path)
            .map_or(now, |before| now.max(*before + pace));
        started.insert(path.to_owned(), at);
        at
    }
}

/// A body that fails when it pauses for too long.
struct LimitedBody<B> {
    inner: Pin<Box<B>>,
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = self.inner.as_mut().poll_frame(context) {
            let next = Instant::now() + self.idle;
            self.sleep.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = self.idle;
        self.sleep
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(Stalled(idle).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
