//! The state machine of a stream, without I/O: takes requests, and returns the next response on demand. Responses are made
//! from the current snapshot, so nothing queues up for a slow client.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(test)]
use bytes::Bytes;
use prost::Message as _;

use super::{
    scopes::{self, Scopes},
    subscription::{
        Content, Context, Nack, RejectionChange, SubscribeRequest, Subscription, version,
    },
};
use crate::{
    ResourceType,
    fleet::{Protocol, Suspects},
    pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
    resource::Ref,
    snapshot::{Entry, Snapshot},
};

/// An encoded response: a head, and resources, which streams share.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) kind: ResourceType,
    pub(super) protocol: Protocol,
    /// All fields except for resources. Protobuf fields can be in any order.
    pub(super) head: Vec<u8>,
    pub(super) entries: Vec<Arc<Entry>>,
    /// Number of resources and removals.
    pub(super) resources: usize,
    length: usize,
}

impl Response {
    /// Size of the message.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// What the message consists of, one after another.
    #[cfg(test)]
    pub(super) fn parts(&self) -> Vec<Bytes> {
        let resources = self.entries.iter();
        let resources = resources.map(|entry| entry.encoded(self.protocol).clone());
        let head = Bytes::from(self.head.clone());
        std::iter::once(head).chain(resources).collect()
    }
}

/// The types that refer to clusters, directly or through others.
const REFERRING: [ResourceType; 4] = [
    ResourceType::Filter,
    ResourceType::Listener,
    ResourceType::Scope,
    ResourceType::RouteTable,
];

const _: () = assert!(
    ResourceType::Cluster.index() == 0,
    "clusters are sent before what refers to them"
);

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// The client subscribes or unsubscribes.
    Subscribe,
    /// The client accepts a response.
    Ack {
        /// When the response was sent.
        sent: Instant,
    },
    /// The client rejects a response.
    Nack(Nack),
    /// An ACK or NACK with an outdated or unknown nonce.
    Stale,
    /// The type is not served.
    Unknown,
}

/// Protocol state of one stream.
#[derive(Debug)]
pub(super) struct Connection {
    protocol: Protocol,
    removal_grace: Duration,
    nonce: u64,
    suspects: Suspects,
    subscriptions: [Subscription; ResourceType::ALL.len()],
    /// State of the clusters when resources were last held back because of them.
    held_at: u64,
    /// What waits for route tables.
    scopes: Scopes,
    /// Rejected routes and listeners when removals were last held back because of them.
    rejected_at: u64,
    /// The snapshot with which nothing can be due until a request other than an ACK.
    quiet_at: Option<u64>,
}

impl Connection {
    /// The state of a new stream. See [`super::Settings::removal_grace`].
    pub(super) fn new(protocol: Protocol, removal_grace: Duration) -> Self {
        Self {
            protocol,
            removal_grace,
            nonce: 0,
            suspects: Suspects::default(),
            subscriptions: ResourceType::ALL.map(|kind| Subscription::new(kind, protocol)),
            held_at: 0,
            scopes: Scopes::default(),
            rejected_at: 0,
            quiet_at: None,
        }
    }

    /// Handles a delta request. Subscriptions apply whatever the nonce: that only matches an ACK or NACK with its response.
    pub(super) fn on_delta(
        &mut self,
        request: DeltaDiscoveryRequest,
    ) -> (Option<ResourceType>, RequestKind) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return (None, RequestKind::Unknown);
        };
        let subscription = &mut self.subscriptions[kind.index()];
        let mut request_kind = RequestKind::Subscribe;
        if !request.response_nonce.is_empty() {
            let error = request
                .error_detail
                .as_ref()
                .map(|status| status.message.as_str());
            request_kind = acknowledge(subscription, &request.response_nonce, error);
        }
        let names = request.resource_names_subscribe;
        let unsubscribe = request.resource_names_unsubscribe;
        let is_ack = matches!(request_kind, RequestKind::Ack { .. });
        if !is_ack || !names.is_empty() || !unsubscribe.is_empty() {
            self.quiet_at = None;
        }
        if !subscription.is_started() || !names.is_empty() || !unsubscribe.is_empty() {
            subscription.subscribe(SubscribeRequest {
                names,
                unsubscribe,
                initial_versions: request.initial_resource_versions.into_iter().collect(),
                version: String::new(),
            });
        }
        (Some(kind), request_kind)
    }

    /// Handles a SotW request. Without the nonce of the last response its names are outdated; the client sends another
    /// request once it has processed that response.
    pub(super) fn on_sotw(
        &mut self,
        request: DiscoveryRequest,
    ) -> (Option<ResourceType>, RequestKind) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return (None, RequestKind::Unknown);
        };
        self.quiet_at = None;
        let subscription = &mut self.subscriptions[kind.index()];
        let mut request_kind = RequestKind::Subscribe;
        // the first request can have a nonce of an earlier stream
        if subscription.is_started() && !request.response_nonce.is_empty() {
            let outdated = subscription
                .last_nonce()
                .is_some_and(|last| last.to_string() != request.response_nonce);
            let error = request
                .error_detail
                .as_ref()
                .map(|status| status.message.as_str());
            request_kind = acknowledge(subscription, &request.response_nonce, error);
            if outdated {
                return (Some(kind), request_kind);
            }
        }
        subscription.subscribe(SubscribeRequest {
            names: request.resource_names,
            version: request.version_info,
            ..SubscribeRequest::default()
        });
        (Some(kind), request_kind)
    }

    /// Versions that other Envoys have rejected.
    pub(super) fn set_suspects(&mut self, suspects: Suspects) {
        self.suspects = suspects;
    }

    /// The next response, if one is due.
    ///
    /// Types are sent in the order of [`ResourceType::ALL`], so that Envoy has a resource before others refer to it. Routes
    /// and listeners wait for new clusters that they refer to and that warm, or whose endpoints cannot be sent yet: Envoy
    /// subscribes to endpoints only when it has the first cluster that needs some. Removals wait until routes and listeners
    /// that do not use the resource any more are accepted.
    ///
    /// A table waits as a whole: until the cluster is warm, its other changes wait, too.
    pub(super) fn poll(&mut self, snapshot: &Arc<Snapshot>, now: Instant) -> Option<Response> {
        if self.quiet_at == Some(snapshot.seq) {
            return None;
        }
        let response = self.next(snapshot, now);
        let is_quiet = self.subscriptions.iter().all(Subscription::is_quiet);
        self.quiet_at = is_quiet.then_some(snapshot.seq);
        response
    }

    /// Whether nothing can be due until there is a new snapshot, or a request other than an ACK.
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet_at.is_some()
    }

    fn next(&mut self, snapshot: &Arc<Snapshot>, now: Instant) -> Option<Response> {
        for subscription in &mut self.subscriptions {
            subscription.collect_changes(snapshot);
        }
        self.subscription(ResourceType::Cluster).expire_warming(now);
        self.subscription(ResourceType::Listener).retry(now);
        self.release_held();
        self.scopes.release(&mut self.subscriptions, now);
        loop {
            let routes_acked = self.routes_acked();
            self.release_removals(routes_acked, now);
            let response = self.respond(snapshot, now);
            // routes can be acknowledged without a response, if none was due, which releases removals
            if response.is_some() || self.routes_acked() == routes_acked {
                self.scopes.note(&self.subscriptions, now);
                return response;
            }
        }
    }

    fn subscription(&mut self, kind: ResourceType) -> &mut Subscription {
        &mut self.subscriptions[kind.index()]
    }

    /// The newest snapshot of which the client has acknowledged or rejected everything of this type.
    fn acked_of(&self, kind: ResourceType) -> u64 {
        let subscription = &self.subscriptions[kind.index()];
        if subscription.is_started() {
            subscription.acked()
        } else {
            u64::MAX
        }
    }

    /// The newest snapshot whose routes, listeners and filters are acknowledged or rejected.
    fn routes_acked(&self) -> u64 {
        let acked = REFERRING.map(|kind| self.acked_of(kind));
        acked.into_iter().min().unwrap_or(u64::MAX)
    }

    /// Looks again at routes and listeners that wait for clusters, if the state of those has changed.
    fn release_held(&mut self) {
        let generation = self.subscription(ResourceType::Cluster).generation();
        if generation != self.held_at {
            self.held_at = generation;
            for kind in REFERRING {
                self.subscription(kind).release_held();
            }
        }
    }

    fn release_removals(&mut self, routes_acked: u64, now: Instant) {
        let rejected_at = REFERRING
            .map(|kind| self.subscriptions[kind.index()].rejection_generation())
            .into_iter()
            .sum();
        let recheck = std::mem::replace(&mut self.rejected_at, rejected_at) != rejected_at;
        let listeners_acked = self.acked_of(ResourceType::Listener);
        let scopes_acked = self.acked_of(ResourceType::Scope);
        for kind in ResourceType::ALL {
            let acked = match kind {
                // clients unsubscribe from filters when they do not use them any more
                ResourceType::Filter | ResourceType::Listener => continue,
                ResourceType::Scope => listeners_acked,
                ResourceType::RouteTable => listeners_acked.min(scopes_acked),
                ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Secret => {
                    routes_acked
                }
            };
            let grace = self.removal_grace;
            let subscription = self.subscription(kind);
            if recheck {
                subscription.recheck_removals();
            }
            if subscription.advance_removals(acked, grace, now) {
                let in_use = self.in_use();
                let is_in_use = |name: &Arc<str>| {
                    let in_use = in_use.as_ref();
                    let chain = scopes::chain(kind, name);
                    let name = chain.unwrap_or_else(|| name.clone());
                    in_use.is_none_or(|in_use| in_use.contains(&(kind, name)))
                };
                self.subscription(kind)
                    .release_removals(acked, now, is_in_use);
            }
        }
    }

    /// What the client still uses because it has rejected newer versions of routes and listeners; `None` if that is not
    /// known.
    fn in_use(&self) -> Option<BTreeSet<Ref>> {
        let mut open = Vec::new();
        for kind in REFERRING {
            open.extend(self.subscriptions[kind.index()].refs_in_use()?);
        }
        let mut in_use = BTreeSet::new();
        while let Some((kind, name)) = open.pop() {
            if in_use.insert((kind, name.clone())) {
                if kind == ResourceType::Scope {
                    open.extend(self.subscriptions[kind.index()].accepted_scopes(&name));
                }
                let refs = self.subscriptions[kind.index()].accepted_refs(&name);
                open.extend(refs.iter().cloned());
            }
        }
        Some(in_use)
    }

    fn respond(&mut self, snapshot: &Arc<Snapshot>, now: Instant) -> Option<Response> {
        let nonce = self.nonce + 1;
        for kind in ResourceType::ALL {
            if !self.subscriptions[kind.index()].is_due() {
                continue;
            }
            let (until, later) = self.subscriptions.split_at_mut(kind.index() + 1);
            let Some((subscription, earlier)) = until.split_last_mut() else {
                continue;
            };
            let context = Context {
                snapshot,
                suspects: &self.suspects,
                clusters: earlier.first().filter(|clusters| {
                    REFERRING.contains(&kind) && clusters.is_started() && clusters.has_unusable()
                }),
                loading: self.scopes.loading(subscription, later),
                nonce,
                now,
            };
            let Some(content) = subscription.respond(&context) else {
                continue;
            };
            self.nonce = nonce;
            match kind {
                ResourceType::Cluster => self.follow(&content),
                ResourceType::Endpoints => {
                    let clusters = self.subscription(ResourceType::Cluster);
                    clusters.endpoints_sent(&content.entries);
                }
                _ => {}
            }
            let version = version(snapshot.of(kind), content.differing);
            return Some(self.encode(kind, nonce, version, content));
        }
        None
    }

    /// Sends what Envoy waits for before it uses a cluster that is added or changed, even if it has not changed.
    fn follow(&mut self, clusters: &Content) {
        for kind in [ResourceType::Endpoints, ResourceType::Secret] {
            let refs = clusters.fresh.iter().flat_map(|entry| entry.refs.iter());
            let names = refs.filter(|(of, _)| *of == kind).map(|(_, name)| name);
            self.subscriptions[kind.index()].resend(names);
        }
    }

    /// Protocol variant of the stream.
    pub(super) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When to poll again without a new request or snapshot.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.is_quiet() {
            return None;
        }
        self.subscriptions
            .iter()
            .filter_map(|subscription| subscription.deadline(now))
            .chain(self.warming_deadline())
            .chain(self.scopes.deadline())
            .min()
    }

    /// When routes or listeners stop waiting for a cluster.
    fn warming_deadline(&self) -> Option<Instant> {
        let waits = REFERRING
            .iter()
            .any(|kind| self.subscriptions[kind.index()].has_held());
        let clusters = &self.subscriptions[ResourceType::Cluster.index()];
        clusters.warming_deadline().filter(|_| waits)
    }

    /// The newest snapshot of which the client has acknowledged or rejected everything that it subscribes to.
    pub(super) fn acked(&self) -> u64 {
        let started = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.is_started());
        started.map(Subscription::acked).min().unwrap_or(0)
    }

    /// Changes of what the client rejects, since the last call.
    pub(super) fn take_rejection_changes(
        &mut self,
    ) -> impl Iterator<Item = (ResourceType, RejectionChange)> {
        let subscriptions = ResourceType::ALL.into_iter().zip(&mut self.subscriptions);
        subscriptions.flat_map(|(kind, subscription)| {
            let changes = subscription.take_rejection_changes().into_iter();
            changes.map(move |change| (kind, change))
        })
    }

    /// Names of resources whose current version the client has rejected.
    #[cfg(test)]
    pub(super) fn rejected(&self) -> BTreeSet<(ResourceType, String)> {
        let names = |kind: ResourceType| {
            let rejected = self.subscriptions[kind.index()].rejected().keys();
            rejected.map(move |name| (kind, name.to_string()))
        };
        ResourceType::ALL.into_iter().flat_map(names).collect()
    }

    fn encode(
        &self,
        kind: ResourceType,
        nonce: u64,
        version: String,
        content: Content,
    ) -> Response {
        let resources = content.entries.len() + content.removed.len();
        let head = match self.protocol {
            Protocol::Delta => DeltaDiscoveryResponse {
                system_version_info: version,
                type_url: kind.type_url().to_owned(),
                nonce: nonce.to_string(),
                removed_resources: content.removed.iter().map(ToString::to_string).collect(),
                ..DeltaDiscoveryResponse::default()
            }
            .encode_to_vec(),
            Protocol::Sotw => DiscoveryResponse {
                version_info: version,
                type_url: kind.type_url().to_owned(),
                nonce: nonce.to_string(),
                ..DiscoveryResponse::default()
            }
            .encode_to_vec(),
        };
        let entries = content.entries;
        let sizes = entries
            .iter()
            .map(|entry| entry.encoded(self.protocol).len());
        Response {
            kind,
            protocol: self.protocol,
            length: head.len() + sizes.sum::<usize>(),
            head,
            entries,
            resources,
        }
    }
}

/// Handles an ACK or NACK. Only an error means NACK, whatever the versions.
fn acknowledge(subscription: &mut Subscription, nonce: &str, error: Option<&str>) -> RequestKind {
    let Ok(nonce) = nonce.parse() else {
        return RequestKind::Stale;
    };
    match error {
        None => subscription
            .ack(nonce)
            .map_or(RequestKind::Stale, |sent| RequestKind::Ack { sent }),
        Some(message) => subscription
            .nack(nonce, message)
            .map_or(RequestKind::Stale, RequestKind::Nack),
    }
}
