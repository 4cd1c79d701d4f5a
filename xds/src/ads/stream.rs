//! Moves messages between the transport of a stream and its [`Connection`]. The transport pulls: a response is made, from
//! the current snapshot, only when the transport is ready to send it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio::{sync::watch, time::sleep_until};
use tonic::{Request, Status, Streaming, server::StreamingService};
use tracing::{debug, info, warn};

use super::{
    Shared,
    connection::{Connection, RequestKind, Response},
};
use crate::{
    ResourceType,
    fleet::{Envoy, Membership, Protocol, Rejection},
    pb::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
    snapshot::Snapshot,
};

/// `DeltaAggregatedResources`
pub(super) struct Delta(pub(super) Arc<Shared>);

/// `StreamAggregatedResources`
pub(super) struct Sotw(pub(super) Arc<Shared>);

type Responses = BoxStream<'static, Result<Response, Status>>;

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = Response;
    type ResponseStream = Responses;
    type Future = BoxFuture<'static, Result<tonic::Response<Responses>, Status>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let responses = responses(self.0.clone(), request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(responses)) })
    }
}

impl StreamingService<DiscoveryRequest> for Sotw {
    type Response = Response;
    type ResponseStream = Responses;
    type Future = BoxFuture<'static, Result<tonic::Response<Responses>, Status>>;

    fn call(&mut self, request: Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let responses = responses(self.0.clone(), request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(responses)) })
    }
}

/// A request of either variant.
trait Discovery: Send + 'static {
    const PROTOCOL: Protocol;

    /// The node; only the first request of a stream has one.
    fn node(&mut self) -> Option<Node>;

    /// Type URL and error message of a NACK.
    fn rejection(&self) -> Option<(&str, &str)>;

    /// Passes the request to the state machine.
    fn apply(self, connection: &mut Connection) -> (Option<ResourceType>, RequestKind);
}

impl Discovery for DeltaDiscoveryRequest {
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn rejection(&self) -> Option<(&str, &str)> {
        self.error_detail
            .as_ref()
            .map(|status| (self.type_url.as_str(), status.message.as_str()))
    }

    fn apply(self, connection: &mut Connection) -> (Option<ResourceType>, RequestKind) {
        connection.on_delta(self)
    }
}

impl Discovery for DiscoveryRequest {
    const PROTOCOL: Protocol = Protocol::Sotw;

    fn node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn rejection(&self) -> Option<(&str, &str)> {
        self.error_detail
            .as_ref()
            .map(|status| (self.type_url.as_str(), status.message.as_str()))
    }

    fn apply(self, connection: &mut Connection) -> (Option<ResourceType>, RequestKind) {
        connection.on_sotw(self)
    }
}

fn responses<R: Discovery>(shared: Arc<Shared>, requests: Streaming<R>) -> Responses {
    let stream = AdsStream::new(shared, requests);
    futures::stream::unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        match stream.next().await {
            Ok(Some(response)) => Some((Ok(response), Some(stream))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
    .boxed()
}

/// Why a stream wakes up.
enum Event<R> {
    Request(Option<Result<R, Status>>),
    Snapshot,
    Deadline,
    Close(&'static str),
}

struct AdsStream<R> {
    shared: Arc<Shared>,
    requests: Streaming<R>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    closing: watch::Receiver<bool>,
    connection: Connection,
    node: String,
    membership: Option<Membership>,
    /// Number of rejected resources by type, as in the metrics.
    rejected: [usize; ResourceType::ALL.len()],
    /// When to close the stream.
    closes: Option<Instant>,
    /// Time of the last poll of the state machine, which handled all deadlines until then.
    polled: Instant,
    /// Number of the newest snapshot that was polled, and the time of its first poll.
    newest: (u64, Instant),
}

impl<R: Discovery> AdsStream<R> {
    fn new(shared: Arc<Shared>, requests: Streaming<R>) -> Self {
        shared.metrics.stream(R::PROTOCOL, true);
        let now = Instant::now();
        Self {
            snapshots: shared.cache.subscribe(),
            closing: shared.closing.subscribe(),
            connection: Connection::new(R::PROTOCOL, shared.settings.removal_grace),
            node: String::new(),
            membership: None,
            rejected: [0; ResourceType::ALL.len()],
            closes: shared
                .settings
                .max_stream_age
                .map(|age| now + jittered(age, now)),
            polled: now,
            newest: (0, now),
            shared,
            requests,
        }
    }

    /// The next response; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Response>, Status> {
        loop {
            // handles all requests that have arrived before responding: Envoy subscribes in bursts
            while let Some(request) = self.requests.next().now_or_never() {
                if !self.handle(request)? {
                    return Ok(None);
                }
            }
            if let Some(response) = self.poll()? {
                return Ok(Some(response));
            }
            match self.wait().await {
                Event::Request(request) => {
                    if !self.handle(request)? {
                        return Ok(None);
                    }
                }
                Event::Snapshot | Event::Deadline => {}
                Event::Close(reason) => {
                    debug!(node = %self.node, reason, "xDS stream closed");
                    return Ok(None);
                }
            }
        }
    }

    /// Handles a request; false if the client has closed the stream.
    fn handle(&mut self, request: Option<Result<R, Status>>) -> Result<bool, Status> {
        let Some(request) = request else {
            return Ok(false);
        };
        let mut request = request?;
        if let Some(node) = request.node()
            && self.membership.is_none()
        {
            self.join(node);
        }
        if let Some((type_url, message)) = request.rejection() {
            warn!(node = %self.node, type_url, message, "Envoy rejected configuration");
        }
        let (kind, request_kind) = request.apply(&mut self.connection);
        self.shared.metrics.request(kind, request_kind);
        Ok(true)
    }

    fn join(&mut self, node: Node) {
        info!(node = %node.id, cluster = %node.cluster, protocol = ?R::PROTOCOL, "Envoy connected");
        self.node.clone_from(&node.id);
        self.membership = Some(self.shared.fleet.join(Envoy {
            node: node.id,
            cluster: node.cluster,
            protocol: R::PROTOCOL,
            acked: 0,
            digest: None,
        }));
    }

    fn poll(&mut self) -> Result<Option<Response>, Status> {
        let Some(snapshot) = self.snapshots.borrow_and_update().clone() else {
            return Ok(None); // see cache::channel
        };
        let now = Instant::now();
        if self.newest.0 != snapshot.seq {
            self.newest = (snapshot.seq, now);
        }
        self.polled = now;
        let response = self
            .connection
            .poll(&snapshot, now)
            .map_err(|_behind| Status::aborted("stream is too far behind; reconnect"))?;
        if let Some(response) = &response {
            self.shared
                .metrics
                .push(response.kind, response.resources, response.len());
        }
        self.update_fleet(&snapshot);
        Ok(response)
    }

    /// Records in the fleet what this Envoy has acknowledged and rejected.
    fn update_fleet(&mut self, snapshot: &Snapshot) {
        let acked = self.connection.acked();
        let current = acked == snapshot.seq;
        let rejections = self.connection.rejections(snapshot, &self.node);
        self.count_rejected(&rejections);
        let Some(membership) = &self.membership else {
            return;
        };
        let changed = membership.update(acked, current.then(|| snapshot.digest()), rejections);
        if changed && current && self.newest.0 == acked {
            self.shared
                .metrics
                .converged(self.newest.1.elapsed().as_secs_f64());
        }
    }

    fn count_rejected(&mut self, rejections: &[Rejection]) {
        for kind in ResourceType::ALL {
            let count = rejections
                .iter()
                .filter(|rejection| rejection.kind == kind)
                .count();
            let before = std::mem::replace(&mut self.rejected[kind.index()], count);
            self.shared.metrics.rejected(kind, before, count);
        }
    }

    async fn wait(&mut self) -> Event<R> {
        let deadline = [self.connection.deadline(self.polled), self.closes]
            .into_iter()
            .flatten()
            .min();
        let sleep = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            request = self.requests.next() => Event::Request(request),
            _ = self.closing.wait_for(|closing| *closing) => Event::Close("server is shutting down"),
            changed = self.snapshots.changed() => match changed {
                Ok(()) => Event::Snapshot,
                Err(_) => Event::Close("snapshot writer is gone"),
            },
            () = sleep => match self.closes {
                Some(closes) if closes <= Instant::now() => Event::Close("maximum age reached"),
                _ => Event::Deadline,
            },
        }
    }
}

impl<R> Drop for AdsStream<R> {
    fn drop(&mut self) {
        for kind in ResourceType::ALL {
            let count = self.rejected[kind.index()];
            self.shared.metrics.rejected(kind, count, 0);
        }
        let protocol = self.connection.protocol();
        self.shared.metrics.stream(protocol, false);
    }
}

/// A random duration between 75 % and 125 % of `time`, so that streams do not all close at once.
fn jittered(time: Duration, now: Instant) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(now) % 512;
    time.mul_f64(0.75 + random as f64 / 1024.0)
}
