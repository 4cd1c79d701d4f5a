//! The HTTPS server of the webhook. The apiserver keeps its connections open and sends one review after the other; none of
//! them may fail because of how connections end here, and clients that only hold connections must not be in the way.
//!
//! - A connection is closed by the server only when a client cannot be sending a review on it: the client is told with the
//!   answer to the review before (`connection: close`), or has been idle for longer than the apiserver keeps idle connections.
//! - When there are too many, one without a review in progress is closed: first of those that have had none at all, of the
//!   address that has most of them the oldest.
//! - After `shutdown` the server goes on for [`DRAIN`], because the apiserver learns later that this replica is going, and
//!   answers each review with `connection: close`.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, header},
    response::Response,
};
use futures::future::BoxFuture;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nuncio_xds::tls::Acceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::metrics::Metrics;

/// How long the server goes on after its shutdown has begun.
pub(super) const DRAIN: Duration = Duration::from_secs(8);
/// How long reviews may take after that.
pub(super) const END: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, such as without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most connections at a time.
    pub(super) connections: usize,
    /// How long a handshake and the head of the first request may take.
    pub(super) head: Duration,
    /// How long a request may take.
    pub(super) request: Duration,
    /// How long a connection may be idle: longer than Go's 90 seconds, so that the apiserver closes first.
    pub(super) idle: Duration,
    /// After this time the client is asked to connect again, so that the connections spread over replicas.
    pub(super) age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: crate::descriptors::at_most(1024, crate::descriptors::Share::Half),
            head: Duration::from_secs(10),
            request: Duration::from_secs(60),
            idle: Duration::from_secs(150),
            age: Duration::from_secs(300),
        }
    }
}

/// Answers requests, and keeps [`Busy`] until the answer is written.
pub(super) type Answer =
    Arc<dyn Fn(Request<Body>, Busy) -> BoxFuture<'static, Response> + Send + Sync>;

/// A server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) tls: Arc<Acceptor>,
    pub(super) answer: Answer,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    /// Cancelled when answers must close their connections.
    pub(super) draining: CancellationToken,
}

impl Server {
    /// Serves until `shutdown` completes, and drains.
    pub(super) async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let draining = self.draining.clone();
        let mut shutdown = pin!(async move {
            shutdown.await;
            draining.cancel();
            sleep(DRAIN).await;
        });
        let mut tasks = JoinSet::new();
        let mut open = Open::default();
        let mut has_warned = false;
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        has_warned = false;
                        open.make_room(self.limits.connections);
                        let state = State::default();
                        let task = tasks.spawn(self.clone().connection(stream, state.clone()));
                        open.add(peer, state, task);
                        self.metrics.connections(tasks.len());
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut has_warned, true) {
                            warn!(%error, "failed to accept a connection; retrying");
                        }
                        open.make_room(0);
                        sleep(PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        open.close_idle();
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(END, all).await;
    }

    async fn connection(self, stream: TcpStream, state: State) {
        // an answer is one small write after another; it must not wait for an acknowledgement
        let _ = stream.set_nodelay(true);
        let head = self.limits.head;
        let stream = match timeout(head, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%error, "TLS handshake of a client failed"),
            Err(_elapsed) => return debug!("TLS handshake of a client timed out"),
        };
        let opened = Instant::now();
        let (server, limits, progress) = (self.clone(), self.limits, state.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, busy) = (server.clone(), state.begin());
            async move {
                let mut response = (server.answer)(request.map(Body::new), busy).await;
                if server.draining.is_cancelled() || opened.elapsed() > limits.age {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<Response<Body>, Infallible>(response)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            // the limits below know which request it is
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            result = served => {
                if let Err(error) = result {
                    debug!(%error, "connection closed with an error");
                }
            }
            () = progress.exceeds(&limits) => debug!("connection closed: no progress"),
        }
    }
}

/// What a connection does.
#[derive(Clone, Debug, Default)]
struct State(Arc<Mutex<Doing>>);

#[derive(Debug)]
struct Doing {
    since: Instant,
    is_busy: bool,
    has_answered: bool,
}

impl Default for Doing {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            is_busy: false,
            has_answered: false,
        }
    }
}

/// A request in progress.
pub(super) struct Busy(State);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.lock() = Doing {
            has_answered: true,
            ..Doing::default()
        };
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Busy {
        let mut doing = self.lock();
        doing.since = Instant::now();
        doing.is_busy = true;
        drop(doing);
        Busy(self.clone())
    }

    /// Completes when the connection does the same for too long.
    async fn exceeds(&self, limits: &Limits) {
        let shortest = limits.head.min(limits.request).min(limits.idle);
        let mut ticks = interval((shortest / 10).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            let doing = self.lock();
            let limit = match (doing.is_busy, doing.has_answered) {
                (true, _) => limits.request,
                (false, true) => limits.idle,
                (false, false) => limits.head,
            };
            if doing.since.elapsed() > limit {
                return;
            }
        }
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Open(VecDeque<(IpAddr, State, AbortHandle)>);

impl Open {
    fn add(&mut self, peer: SocketAddr, state: State, task: AbortHandle) {
        self.0.push_back((peer.ip(), state, task));
    }

    /// Closes one if there are as many as this.
    fn make_room(&mut self, most: usize) {
        self.0.retain(|(_, _, task)| !task.is_finished());
        if self.0.len() < most {
            return;
        }
        let found = self
            .oldest(|doing| !doing.is_busy && !doing.has_answered)
            .or_else(|| self.oldest(|doing| !doing.is_busy))
            .or_else(|| self.oldest(|_| true));
        if let Some((_, _, task)) = found.and_then(|at| self.0.remove(at)) {
            task.abort();
        }
    }

    /// The oldest of these, of the address that has most of them.
    fn oldest(&self, is_meant: impl Fn(&Doing) -> bool) -> Option<usize> {
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        let meant: Vec<(usize, IpAddr)> = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, (_, state, _))| is_meant(&state.lock()))
            .map(|(at, (address, _, _))| (at, *address))
            .collect();
        for (_, address) in &meant {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let mut meant = meant.into_iter();
        meant
            .find(|(_, address)| counts.get(address).copied() == most)
            .map(|(at, _)| at)
    }

    /// Closes all without a request in progress.
    fn close_idle(&mut self) {
        for (_, state, task) in &self.0 {
            if !state.lock().is_busy {
                task.abort();
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
