//! Moves messages between the transport of a stream and its [`Connection`]. The transport pulls: a response is made, from
//! the current snapshot, only when the transport is ready to send it.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Instant};

use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use tokio::{
    sync::watch,
    time::{Sleep, sleep_until},
};
use tonic::Status;
use tracing::{debug, info, warn};

use super::{
    Shared,
    authorize::{Peer, Rejection, View},
    connection::{Connection, RequestKind, Response},
    connections::{ConnectInfo, OpenStream},
    requests::Requests,
    version,
};
use crate::{
    ResourceType,
    fleet::{Envoy, Membership, Protocol, Suspects},
    pb::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
    snapshot::Snapshot,
};

/// Maximum number of requests that are handled before a response is made.
const REQUESTS_PER_TURN: usize = 256;
/// Maximum number of snapshots whose digest is kept until they are acknowledged.
const UNACKED: usize = 1024;

/// A request of either variant.
pub(super) trait Discovery: prost::Message + Default + 'static {
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

/// The responses to these requests.
pub(super) fn responses<R: Discovery>(
    shared: Arc<Shared>,
    connection: ConnectInfo,
    requests: Requests<R>,
) -> BoxStream<'static, Result<Response, Status>> {
    let stream = Box::new(AdsStream::new(shared, connection, requests));
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
    requests: Requests<R>,
    peer: Arc<Peer>,
    /// The fleet that it belongs to; `None` until that is decided.
    view: Option<View>,
    /// What the peer gets; `None` until that is decided, which its first request allows.
    snapshots: Option<watch::Receiver<Option<Arc<Snapshot>>>>,
    /// Whether `snapshots` has announced a snapshot, which it then counts as seen.
    has_changed: bool,
    /// Becomes true when the connection ends.
    closing: watch::Receiver<bool>,
    connection: Connection,
    node: String,
    membership: Option<Membership>,
    /// Versions that others of its fleet have rejected.
    suspects: Option<watch::Receiver<Suspects>>,
    /// Number of rejected resources by type, as in the metrics.
    rejected: [usize; ResourceType::ALL.len()],
    /// Until when there must be a request; `None` after the first one.
    starts: Option<Instant>,
    /// Ends at the next of these times and deadlines, which seldom changes.
    alarm: Pin<Box<Sleep>>,
    _open: OpenStream,
    /// Time of the last poll of the state machine, which handled all deadlines until then.
    polled: Instant,
    connected: Instant,
    /// Snapshots that were polled and are not acknowledged, oldest first: number, digest, time of publishing.
    unacked: VecDeque<(u64, u128, Option<Instant>)>,
    /// The newest snapshot that is acknowledged.
    acked: u64,
}

impl<R: Discovery> AdsStream<R> {
    fn new(shared: Arc<Shared>, connection: ConnectInfo, requests: Requests<R>) -> Self {
        let open = connection.stream();
        shared.metrics.stream(R::PROTOCOL, true);
        let now = Instant::now();
        Self {
            view: None,
            snapshots: None,
            has_changed: false,
            peer: connection.peer,
            closing: connection.closing,
            connection: Connection::new(R::PROTOCOL, shared.settings.removal_grace),
            node: String::new(),
            membership: None,
            suspects: None,
            rejected: [0; ResourceType::ALL.len()],
            polled: now,
            connected: now,
            unacked: VecDeque::new(),
            acked: 0,
            starts: Some(now + shared.settings.idle_timeout),
            alarm: Box::pin(sleep_until(now.into())),
            _open: open,
            shared,
            requests,
        }
    }

    /// The next response; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Response>, Status> {
        loop {
            if *self.closing.borrow() {
                debug!(node = %self.node, "xDS stream closed with its connection");
                return Ok(None);
            }
            // handles all requests that have arrived before responding: Envoy subscribes in bursts
            for _ in 0..REQUESTS_PER_TURN {
                let Some(request) = self.requests.next().now_or_never() else {
                    break;
                };
                if !self.handle(request)? {
                    return Ok(None);
                }
            }
            if let Some(response) = self.poll() {
                return Ok(Some(response));
            }
            match self.wait().await {
                Event::Request(request) => {
                    if !self.handle(request)? {
                        return Ok(None);
                    }
                }
                Event::Snapshot => self.has_changed = true,
                Event::Deadline => {}
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
        self.starts = None;
        let node = request.node();
        if self.snapshots.is_none() {
            self.authorize(&node.clone().unwrap_or_default())?;
        }
        if let Some(node) = node
            && self.membership.is_none()
        {
            self.join(&node)?;
        }
        if let Some(membership) = &self.membership
            && membership.proves_shared_node()
        {
            warn!(node = %self.node, "several Envoys have the same node id; each is counted, but give each its own");
        }
        if let Some((type_url, message)) = request.rejection() {
            debug!(node = %self.node, type_url, error = %escaped(message), "Envoy rejected a response");
        }
        let (kind, request_kind) = request.apply(&mut self.connection);
        let metrics = self.shared.metrics_of(self.view);
        metrics.request(kind, request_kind);
        Ok(true)
    }

    /// Decides what the peer gets.
    fn authorize(&mut self, node: &Node) -> Result<(), Status> {
        let shared = &self.shared;
        let authorized = shared.settings.authorize.authorize(&self.peer, node);
        let served = authorized.and_then(|view| {
            let served = shared.fleets.get(view.0).ok_or_else(|| Rejection {
                reason: "fleet",
                message: "the fleet is not served here".to_owned(),
            });
            served.map(|served| (view, served))
        });
        match served {
            Ok((view, served)) => {
                self.view = Some(view);
                self.snapshots = Some(served.cache.subscribe());
                self.suspects = Some(served.fleet.suspects());
                shared.metrics.move_stream(R::PROTOCOL, &served.metrics);
                Ok(())
            }
            Err(Rejection { reason, message }) => {
                shared.metrics.rejected_stream(reason);
                let message = escaped(&message);
                if let Some(others) = shared.rejections.permit() {
                    warn!(%message, reason, others, "xDS stream rejected");
                }
                Err(Status::permission_denied(message))
            }
        }
    }

    fn join(&mut self, node: &Node) -> Result<(), Status> {
        let node_id = identifier("node.id", &node.id)?;
        let cluster = identifier("node.cluster", &node.cluster)?;
        let version = version::of(node);
        let Some(served) = self.view.and_then(|view| self.shared.fleets.get(view.0)) else {
            return Ok(());
        };
        let fleet = served.metrics.fleet();
        let said = version.map(tracing::field::display);
        info!(node = %node_id, %cluster, fleet, version = said, protocol = ?R::PROTOCOL, "Envoy connected");
        self.node.clone_from(&node_id);
        let oldest = self.shared.settings.min_envoy;
        if version.is_some_and(|version| version < oldest) {
            warn!(node = %node_id, version = said, %oldest, "Envoy is older than --min-envoy-version; it is not counted, and what it rejects has no effect");
            return Ok(());
        }
        self.membership = Some(served.fleet.join(Envoy {
            node: node_id,
            cluster,
            protocol: R::PROTOCOL,
            version,
            acked: 0,
            digest: None,
        }));
        Ok(())
    }

    fn poll(&mut self) -> Option<Response> {
        let snapshots = self.snapshots.as_mut()?;
        let has_changed = std::mem::take(&mut self.has_changed);
        let has_changed = has_changed || snapshots.has_changed().unwrap_or(true);
        if self.connection.is_quiet() && !has_changed {
            self.update_fleet();
            return None;
        }
        // None: see cache::channel
        let snapshot = snapshots.borrow_and_update().clone()?;
        let now = Instant::now();
        self.polled = now;
        if let Some(suspects) = &mut self.suspects
            && suspects.has_changed().unwrap_or(false)
        {
            let suspects = suspects.borrow_and_update().clone();
            self.connection.set_suspects(suspects);
        }
        let is_new = match self.unacked.back() {
            Some((seq, ..)) => *seq != snapshot.seq,
            None => self.acked != snapshot.seq,
        };
        if is_new {
            let digest = snapshot.digest();
            self.unacked
                .push_back((snapshot.seq, digest, snapshot.published));
            if self.unacked.len() > UNACKED {
                self.unacked.pop_front();
            }
        }
        let response = self.connection.poll(&snapshot, now);
        if let Some(response) = &response {
            self.shared.metrics_of(self.view).push(
                response.kind,
                response.resources,
                response.len(),
            );
        }
        self.update_fleet();
        response
    }

    /// Records in the fleet what this Envoy has acknowledged and rejected.
    fn update_fleet(&mut self) {
        for (kind, change) in self.connection.take_rejection_changes() {
            let count = &mut self.rejected[kind.index()];
            let before = *count;
            match &change.rejected {
                Some(_) => *count += 1,
                None => *count -= 1,
            }
            let metrics = self.shared.metrics_of(self.view);
            metrics.rejected(kind, before, *count);
            let Some(membership) = &mut self.membership else {
                continue;
            };
            let Some(rejected) = change.rejected else {
                membership.accept(kind, &change.name);
                continue;
            };
            let (name, message) = (&change.name, &rejected.message);
            if membership.reject(kind, name, rejected.version, message) {
                warn!(node = %self.node, %kind, %name, error = %escaped(message), "Envoy rejected configuration");
            }
        }
        let acked = self.connection.acked();
        if acked == self.acked {
            return;
        }
        self.acked = acked;
        let mut digest = None;
        while self.unacked.front().is_some_and(|(seq, ..)| *seq <= acked)
            && let Some((seq, of, published)) = self.unacked.pop_front()
        {
            digest = (seq == acked).then_some(of);
            if let Some(published) = published
                && self.connected < published
            {
                self.shared
                    .metrics_of(self.view)
                    .converged(published.elapsed().as_secs_f64());
            }
        }
        if let Some(membership) = &mut self.membership {
            membership.acknowledge(acked, digest);
        }
    }

    async fn wait(&mut self) -> Event<R> {
        let deadline = [self.connection.deadline(self.polled), self.starts]
            .into_iter()
            .flatten()
            .min();
        if let Some(deadline) = deadline
            && self.alarm.deadline() != deadline.into()
        {
            self.alarm.as_mut().reset(deadline.into());
        }
        let changed = async {
            let is_changed = match &mut self.snapshots {
                Some(snapshots) => snapshots.changed().await.is_ok(),
                None => false,
            };
            if !is_changed {
                // without a writer the server stops; it decides when this stream ends
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            request = self.requests.next() => Event::Request(request),
            _ = self.closing.wait_for(|closing| *closing) => Event::Close("connection ends"),
            () = changed => Event::Snapshot,
            () = self.alarm.as_mut(), if deadline.is_some() => {
                let now = Instant::now();
                let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
                if is_over(self.starts) {
                    Event::Close("no request")
                } else {
                    Event::Deadline
                }
            }
        }
    }
}

impl<R> Drop for AdsStream<R> {
    fn drop(&mut self) {
        let metrics = self.shared.metrics_of(self.view);
        for kind in ResourceType::ALL {
            let count = self.rejected[kind.index()];
            metrics.rejected(kind, count, 0);
        }
        let protocol = self.connection.protocol();
        metrics.stream(protocol, false);
    }
}

/// Maximum length of a node id or cluster in bytes, that of a DNS name.
const IDENTIFIER_BYTES: usize = 253;

/// An identifier that a client has sent, without control characters.
fn identifier(field: &str, text: &str) -> Result<String, Status> {
    if text.len() > IDENTIFIER_BYTES {
        return Err(Status::invalid_argument(format!(
            "{field} is longer than {IDENTIFIER_BYTES} bytes"
        )));
    }
    Ok(escaped(text))
}

/// A text for logs: without control characters, and bounded.
fn escaped(text: &str) -> String {
    let letters = text.chars().take(1024);
    letters
        .flat_map(|letter| {
            let escape = letter.is_control().then(|| letter.escape_default());
            let plain = (!letter.is_control()).then_some(letter);
            escape.into_iter().flatten().chain(plain)
        })
        .collect()
}
