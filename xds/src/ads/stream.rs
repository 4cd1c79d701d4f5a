//! Moves messages between a stream's transport and its [`Connection`]. The transport pulls: only when it can take a
//! message is one made, from the newest snapshot.

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

    /// Who sends it; known with the first request of a stream.
    fn node(&mut self) -> Option<Node>;

    /// What the client says, in short, if it refuses something.
    fn refusal(&self) -> Option<(&str, &str)>;

    /// Hands it to the state machine.
    fn apply(self, connection: &mut Connection) -> (Option<ResourceType>, RequestKind);
}

impl Discovery for DeltaDiscoveryRequest {
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn refusal(&self) -> Option<(&str, &str)> {
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

    fn refusal(&self) -> Option<(&str, &str)> {
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

/// What made a stream wake up.
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
    /// Number of refused resources by type, as the metrics have it.
    rejected: [usize; ResourceType::ALL.len()],
    ends: Option<Instant>,
    /// When the state machine was asked last: what was due then has been done.
    polled: Instant,
    /// Newest snapshot that was looked at, and when.
    looked: (u64, Instant),
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
            ends: shared
                .settings
                .max_stream_age
                .map(|age| now + jittered(age, now)),
            polled: now,
            looked: (0, now),
            shared,
            requests,
        }
    }

    /// The next response; `None` when the stream is over.
    async fn next(&mut self) -> Result<Option<Response>, Status> {
        loop {
            // what has come already is taken in before anything is answered: clients subscribe in bursts
            while let Some(request) = self.requests.next().now_or_never() {
                if !self.take(request)? {
                    return Ok(None);
                }
            }
            if let Some(response) = self.poll()? {
                return Ok(Some(response));
            }
            match self.wait().await {
                Event::Request(request) => {
                    if !self.take(request)? {
                        return Ok(None);
                    }
                }
                Event::Snapshot | Event::Deadline => {}
                Event::Close(why) => {
                    debug!(node = %self.node, why, "xDS stream is ended");
                    return Ok(None);
                }
            }
        }
    }

    /// Takes a request in; false when the client has ended the stream.
    fn take(&mut self, request: Option<Result<R, Status>>) -> Result<bool, Status> {
        let Some(request) = request else {
            return Ok(false);
        };
        let mut request = request?;
        if let Some(node) = request.node()
            && self.membership.is_none()
        {
            self.join(node);
        }
        if let Some((type_url, message)) = request.refusal() {
            warn!(node = %self.node, type_url, message, "Envoy refuses a configuration");
        }
        let (kind, what) = request.apply(&mut self.connection);
        self.shared.metrics.request(kind, what);
        Ok(true)
    }

    fn join(&mut self, node: Node) {
        info!(node = %node.id, cluster = %node.cluster, protocol = ?R::PROTOCOL, "Envoy is connected");
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
            return Ok(None); // nothing is better than half of it
        };
        let now = Instant::now();
        if self.looked.0 != snapshot.seq {
            self.looked = (snapshot.seq, now);
        }
        self.polled = now;
        let response = self.connection.poll(&snapshot, now).map_err(|_behind| {
            Status::aborted("too many changes since the last response: connect again")
        })?;
        if let Some(response) = &response {
            self.shared
                .metrics
                .push(response.kind, response.resources, response.len());
        }
        self.tell(&snapshot);
        Ok(response)
    }

    /// Tells the fleet how far this Envoy is.
    fn tell(&mut self, snapshot: &Snapshot) {
        let acked = self.connection.acked();
        let current = acked == snapshot.seq;
        let rejections = self.connection.rejections(snapshot, &self.node);
        self.count_rejected(&rejections);
        let Some(membership) = &self.membership else {
            return;
        };
        let changed = membership.update(acked, current.then(|| snapshot.digest()), rejections);
        if changed && current && self.looked.0 == acked {
            self.shared
                .metrics
                .converged(self.looked.1.elapsed().as_secs_f64());
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
        let deadline = [self.connection.deadline(self.polled), self.ends]
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
            _ = self.closing.wait_for(|closing| *closing) => Event::Close("the server is shutting down"),
            changed = self.snapshots.changed() => match changed {
                Ok(()) => Event::Snapshot,
                Err(_) => Event::Close("there will be no more snapshots"),
            },
            () = sleep => match self.ends {
                Some(ends) if ends <= Instant::now() => Event::Close("it has reached its age"),
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

/// Between 75 % and 125 % of a time, different for each stream, so that not all end at once.
fn jittered(time: Duration, now: Instant) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(now) % 512;
    time.mul_f64(0.75 + random as f64 / 1024.0)
}
