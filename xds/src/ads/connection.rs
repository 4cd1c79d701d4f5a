//! The state machine of a stream, without I/O: takes requests, and returns the next response on demand. Responses are made
//! from the current snapshot, so nothing queues up for a slow client.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;

use super::subscription::{Content, SubscribeRequest, Subscription, TooFarBehind, version};
use crate::{
    ResourceType,
    fleet::{Protocol, Rejection},
    pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
    snapshot::Snapshot,
};

/// An encoded response: `parts` concatenated.
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
    Nack,
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
    subscriptions: [Subscription; ResourceType::ALL.len()],
}

impl Connection {
    /// The state of a new stream. See [`super::Settings::removal_grace`].
    pub(super) fn new(protocol: Protocol, removal_grace: Duration) -> Self {
        Self {
            protocol,
            removal_grace,
            nonce: 0,
            subscriptions: ResourceType::ALL.map(|kind| Subscription::new(kind, protocol)),
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

    /// The next response, if one is due.
    ///
    /// Types are sent in the order of [`ResourceType::ALL`], so that Envoy has a resource before others refer to it. Removals
    /// of clusters and endpoints wait until routes and listeners that do not use them any more are acknowledged.
    pub(super) fn poll(
        &mut self,
        snapshot: &Arc<Snapshot>,
        now: Instant,
    ) -> Result<Option<Response>, TooFarBehind> {
        for subscription in &mut self.subscriptions {
            subscription.collect_changes(snapshot)?;
        }
        loop {
            let routes_acked = self.routes_acked();
            for kind in [ResourceType::Cluster, ResourceType::Endpoints] {
                self.subscriptions[kind.index()].release_removals(
                    routes_acked,
                    self.removal_grace,
                    now,
                );
            }
            let response = self.respond(snapshot, now);
            // routes can be acknowledged without a response, if none was due, which releases removals
            if response.is_some() || self.routes_acked() == routes_acked {
                return Ok(response);
            }
        }
    }

    /// The newest snapshot whose routes and listeners are acknowledged.
    fn routes_acked(&self) -> u64 {
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
            let clusters_pending = self.subscriptions[ResourceType::Cluster.index()].has_pending();
            if clusters_pending && matches!(kind, ResourceType::Listener | ResourceType::RouteTable)
            {
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
                // an EDS cluster that is added or changed warms until its endpoints are sent again
                let endpoints = content
                    .fresh
                    .iter()
                    .filter_map(|entry| entry.endpoints.clone());
                self.subscriptions[ResourceType::Endpoints.index()].resend(endpoints);
            }
            let version = version(view, content.differing);
            return Some(self.encode(kind, nonce, version, &content));
        }
        None
    }

    /// Protocol variant of the stream.
    pub(super) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When to poll again without a new request or snapshot.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.subscriptions
            .iter()
            .filter_map(|subscription| subscription.deadline(now))
            .min()
    }

    /// The newest snapshot of which the client has acknowledged or rejected everything that it subscribes to.
    pub(super) fn acked(&self) -> u64 {
        let started = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.is_started());
        started.map(Subscription::acked).min().unwrap_or(0)
    }

    /// Resources whose current version the client has rejected.
    pub(super) fn rejections(&self, snapshot: &Snapshot, node: &str) -> Vec<Rejection> {
        ResourceType::ALL
            .into_iter()
            .flat_map(|kind| {
                let rejected = self.subscriptions[kind.index()].rejected(snapshot.of(kind));
                rejected.map(move |(name, rejected)| Rejection {
                    node: node.to_owned(),
                    kind,
                    name: name.clone(),
                    version: rejected.version,
                    message: rejected.message.clone(),
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
        // protobuf fields can be in any order, so shared bytes can follow those of this stream
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

/// Handles an ACK or NACK. Only an error means NACK, whatever the versions.
fn acknowledge(subscription: &mut Subscription, nonce: &str, error: Option<&str>) -> RequestKind {
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
