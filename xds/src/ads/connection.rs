//! One stream without its I/O: requests go in, responses come out when asked for. What is sent is taken from the newest
//! snapshot at that moment, so nothing queues up for a slow client.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;

use super::subscription::{Content, Interest, Subscription, TooFarBehind, version};
use crate::{
    ResourceType,
    fleet::{Protocol, Rejection},
    pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
    snapshot::Snapshot,
};

/// An encoded response: the parts make up the message.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) kind: ResourceType,
    pub(super) parts: Vec<Bytes>,
    pub(super) resources: usize,
}

impl Response {
    /// Size of the message.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// The client says what it wants.
    Interest,
    /// The client accepts a response.
    Ack {
        /// When that response was made.
        sent: Instant,
    },
    /// The client refuses a response.
    Nack,
    /// An answer to a response that has been overtaken, or that we never sent.
    Stale,
    /// For a type that we do not serve.
    Unknown,
}

/// Protocol state of one stream.
#[derive(Debug)]
pub(super) struct Connection {
    protocol: Protocol,
    grace: Duration,
    nonce: u64,
    subscriptions: [Subscription; ResourceType::ALL.len()],
}

impl Connection {
    /// A stream on which nothing has happened. `grace`: how long a cluster stays after its last route has gone.
    pub(super) fn new(protocol: Protocol, grace: Duration) -> Self {
        Self {
            protocol,
            grace,
            nonce: 0,
            subscriptions: ResourceType::ALL.map(|kind| Subscription::new(kind, protocol)),
        }
    }

    /// An incremental request. Subscriptions are honoured whatever the nonce says, which only pairs the answer.
    pub(super) fn on_delta(
        &mut self,
        request: DeltaDiscoveryRequest,
    ) -> (Option<ResourceType>, RequestKind) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return (None, RequestKind::Unknown);
        };
        let subscription = &mut self.subscriptions[kind.index()];
        let mut what = RequestKind::Interest;
        if !request.response_nonce.is_empty() {
            let error = request
                .error_detail
                .as_ref()
                .map(|status| status.message.as_str());
            what = answer(subscription, &request.response_nonce, error);
        }
        let names = request.resource_names_subscribe;
        let dropped = request.resource_names_unsubscribe;
        if !subscription.is_started() || !names.is_empty() || !dropped.is_empty() {
            subscription.interest(Interest {
                names,
                dropped,
                held: request.initial_resource_versions.into_iter().collect(),
                version: String::new(),
            });
        }
        (Some(kind), what)
    }

    /// A state-of-the-world request. If it does not answer the last response, the names in it are outdated; the client
    /// sends another when it has handled that response.
    pub(super) fn on_sotw(
        &mut self,
        request: DiscoveryRequest,
    ) -> (Option<ResourceType>, RequestKind) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return (None, RequestKind::Unknown);
        };
        let subscription = &mut self.subscriptions[kind.index()];
        let mut what = RequestKind::Interest;
        // a first request may carry the nonce of a stream that is dead
        if subscription.is_started() && !request.response_nonce.is_empty() {
            let outdated = subscription
                .last_nonce()
                .is_some_and(|last| last.to_string() != request.response_nonce);
            let error = request
                .error_detail
                .as_ref()
                .map(|status| status.message.as_str());
            what = answer(subscription, &request.response_nonce, error);
            if outdated {
                return (Some(kind), what);
            }
        }
        subscription.interest(Interest {
            names: request.resource_names,
            version: request.version_info,
            ..Interest::default()
        });
        (Some(kind), what)
    }

    /// The next response, if one is due.
    ///
    /// Types come in the order of [`ResourceType::ALL`], so that nothing is referred to before it is there; removals of
    /// clusters and endpoints wait until the routes and listeners that used them are acknowledged.
    pub(super) fn poll(
        &mut self,
        snapshot: &Arc<Snapshot>,
        now: Instant,
    ) -> Result<Option<Response>, TooFarBehind> {
        for subscription in &mut self.subscriptions {
            subscription.look(snapshot)?;
        }
        loop {
            let routed = self.routed();
            for kind in [ResourceType::Cluster, ResourceType::Endpoints] {
                self.subscriptions[kind.index()].release_removals(routed, self.grace, now);
            }
            let response = self.respond(snapshot, now);
            // what turned out to need no response may have settled routes, and with them removals
            if response.is_some() || self.routed() == routed {
                return Ok(response);
            }
        }
    }

    /// Up to which snapshot routes and listeners are settled.
    fn routed(&self) -> u64 {
        [ResourceType::Listener, ResourceType::RouteTable]
            .map(|kind| &self.subscriptions[kind.index()])
            .into_iter()
            .filter(|subscription| subscription.is_started())
            .map(Subscription::acked)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn respond(&mut self, snapshot: &Arc<Snapshot>, now: Instant) -> Option<Response> {
        for kind in ResourceType::ALL {
            let clusters_wait = self.subscriptions[ResourceType::Cluster.index()].is_waiting();
            if clusters_wait && matches!(kind, ResourceType::Listener | ResourceType::RouteTable) {
                break;
            }
            let nonce = self.nonce + 1;
            let view = snapshot.of(kind);
            let Some(content) = self.subscriptions[kind.index()].respond(snapshot, nonce, now)
            else {
                continue;
            };
            self.nonce = nonce;
            if kind == ResourceType::Cluster {
                // a cluster that asks EDS stays cold until its endpoints come, even if they are as before
                let needs = content.fresh.iter().filter_map(|entry| entry.needs.clone());
                self.subscriptions[ResourceType::Endpoints.index()].follow(needs);
            }
            let version = version(view, content.differing);
            return Some(self.encode(kind, nonce, version, &content));
        }
        None
    }

    /// The variant that the stream speaks.
    pub(super) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When to poll again although nothing has come.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.subscriptions
            .iter()
            .filter_map(|subscription| subscription.deadline(now))
            .min()
    }

    /// Up to which snapshot everything that the client asked for is settled.
    pub(super) fn acked(&self) -> u64 {
        let started = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.is_started());
        started.map(Subscription::acked).min().unwrap_or(0)
    }

    /// What the client refuses.
    pub(super) fn rejections(&self, snapshot: &Snapshot, node: &str) -> Vec<Rejection> {
        ResourceType::ALL
            .into_iter()
            .flat_map(|kind| {
                let refused = self.subscriptions[kind.index()].refused(snapshot.of(kind));
                refused.map(move |(name, refused)| Rejection {
                    node: node.to_owned(),
                    kind,
                    name: name.clone(),
                    version: refused.version,
                    message: refused.message.clone(),
                })
            })
            .collect()
    }

    fn encode(
        &self,
        kind: ResourceType,
        nonce: u64,
        version: String,
        content: &Content,
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
        // fields may come in any order, so that shared bytes can follow what is this stream's own
        let body = content.entries.iter().map(|entry| match self.protocol {
            Protocol::Delta => entry.delta(),
            Protocol::Sotw => entry.sotw(),
        });
        Response {
            kind,
            parts: std::iter::once(head.into()).chain(body).collect(),
            resources,
        }
    }
}

/// Pairs an answer with its response. Only an error means a refusal, whatever versions say.
fn answer(subscription: &mut Subscription, nonce: &str, error: Option<&str>) -> RequestKind {
    let Ok(nonce) = nonce.parse() else {
        return RequestKind::Stale;
    };
    match error {
        None => subscription
            .ack(nonce)
            .map_or(RequestKind::Stale, |sent| RequestKind::Ack { sent }),
        Some(message) if subscription.nack(nonce, message) => RequestKind::Nack,
        Some(_) => RequestKind::Stale,
    }
}
