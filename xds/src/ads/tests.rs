//! The state machine with a model of a client that follows the protocol, under random schedules: changes, polls, deliveries
//! and reconnects in any order. At the end the client must have what it subscribes to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message as _;

use super::connection::{Connection, RequestKind, Response};
use crate::{
    Resource, ResourceType,
    fleet::{Protocol, Suspects},
    pb::{
        envoy::service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        },
        google::rpc,
    },
    snapshot::Snapshot,
};

mod binding;
mod cost;
mod filters;
mod known;
mod scopes;
mod stress;
mod warming;

use known::Known;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The client rejects responses with a body that starts with this byte.
const BAD: u8 = 0xff;

#[derive(Clone, Debug)]
enum Step {
    Put(ResourceType, &'static str, u8),
    Remove(ResourceType, &'static str),
    Subscribe(ResourceType, &'static str),
    Unsubscribe(ResourceType, &'static str),
    /// The server makes a response.
    Poll,
    /// The client handles a response.
    Receive,
    /// The server handles a request.
    Request,
    /// Time passes, longer than the server's ACK timeout.
    Wait,
    /// The stream breaks, and the client reconnects.
    Reconnect,
    /// The client rejects the next response that has removals only.
    RejectRemovals,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || select(&ResourceType::ALL[..]);
    let named = || {
        select(
            &[
                ResourceType::Endpoints,
                ResourceType::Secret,
                ResourceType::Filter,
                ResourceType::RouteTable,
            ][..],
        )
    };
    let name = || select(&NAMES[..]);
    prop_oneof![
        6 => (kind(), name(), prop_oneof![8 => 0..4_u8, 1 => Just(BAD)]).prop_map(|(kind, name, body)| Step::Put(kind, name, body)),
        2 => (kind(), name()).prop_map(|(kind, name)| Step::Remove(kind, name)),
        3 => (named(), name()).prop_map(|(kind, name)| Step::Subscribe(kind, name)),
        1 => (named(), name()).prop_map(|(kind, name)| Step::Unsubscribe(kind, name)),
        8 => Just(Step::Poll),
        8 => Just(Step::Receive),
        8 => Just(Step::Request),
        1 => Just(Step::Wait),
        1 => Just(Step::Reconnect),
        1 => Just(Step::RejectRemovals),
    ]
}

enum Request {
    Delta(DeltaDiscoveryRequest),
    Sotw(DiscoveryRequest),
}

/// A resource in a response.
struct Received {
    name: String,
    version: String,
    body: Bytes,
}

#[derive(Default)]
struct TypeState {
    started: bool,
    names: BTreeSet<String>,
    /// Accepted resources: version and body.
    held: BTreeMap<String, (String, Bytes)>,
    version: String,
    nonce: String,
}

/// Server and client, with messages in transit.
struct World {
    protocol: Protocol,
    grace: Duration,
    rejects_removals: bool,
    /// Removals that the client has rejected on this stream.
    rejected_removals: BTreeSet<(ResourceType, String)>,
    /// Clusters that the client can use as far as the server knows.
    usable_clusters: BTreeSet<String>,
    /// Clusters that were sent on this stream since, each with the last nonce and the first time.
    unusable_clusters: BTreeMap<String, (String, Instant)>,
    /// Clusters that were removed on this stream, by nonce, until the server handles the ACK or NACK.
    removed_clusters: BTreeMap<String, Vec<String>>,
    snapshot: Arc<Snapshot>,
    connection: Connection,
    now: Instant,
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
    types: [TypeState; ResourceType::ALL.len()],
    /// Resources that the client rejected alone on this stream, as the server knows: it must not send them again.
    rejected: BTreeSet<(ResourceType, String, Bytes)>,
    /// NACKs of single resources in transit, by nonce.
    nacks: BTreeMap<(ResourceType, String), (ResourceType, String, Bytes)>,
    /// What the client accepted on this stream.
    accepted: BTreeMap<(ResourceType, String), Bytes>,
    known: Known,
}

/// Clusters that warm.
const WARMING: [&str; 2] = ["b", "d"];

/// The cluster that a table with this body refers to.
const fn cluster_of(body: u8) -> &'static str {
    NAMES[body as usize % NAMES.len()]
}

const fn is_wildcard(kind: ResourceType) -> bool {
    matches!(
        kind,
        ResourceType::Cluster | ResourceType::Listener | ResourceType::Scope
    )
}

impl World {
    fn new(protocol: Protocol) -> Self {
        Self::with_grace(protocol, Duration::ZERO)
    }

    fn with_grace(protocol: Protocol, grace: Duration) -> Self {
        let mut world = Self {
            protocol,
            grace,
            rejects_removals: false,
            rejected_removals: BTreeSet::new(),
            usable_clusters: BTreeSet::new(),
            unusable_clusters: BTreeMap::new(),
            removed_clusters: BTreeMap::new(),
            snapshot: Arc::default(),
            connection: Connection::new(protocol, Duration::ZERO),
            now: Instant::now(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            types: Default::default(),
            rejected: BTreeSet::new(),
            nacks: BTreeMap::new(),
            accepted: BTreeMap::new(),
            known: Known::default(),
        };
        world.connect();
        world
    }

    /// A new stream: the client subscribes, and lists what it has.
    fn connect(&mut self) {
        self.connection = Connection::new(self.protocol, self.grace);
        self.rejected_removals.clear();
        let clusters = self.types[ResourceType::Cluster.index()].held.keys();
        self.usable_clusters = clusters.cloned().collect();
        self.unusable_clusters.clear();
        self.removed_clusters.clear();
        self.requests.clear();
        self.responses.clear();
        self.rejected.clear();
        self.nacks.clear();
        self.accepted.clear();
        self.known = Known::default();
        for kind in ResourceType::ALL {
            self.types[kind.index()].started = false;
            self.types[kind.index()].nonce.clear();
            if is_wildcard(kind) || !self.types[kind.index()].names.is_empty() {
                self.send_subscription(kind, Vec::new());
            }
        }
    }

    /// Sends the first request of a type, or one with new names.
    fn send_subscription(&mut self, kind: ResourceType, new: Vec<String>) {
        let state = &mut self.types[kind.index()];
        let first = !std::mem::replace(&mut state.started, true);
        let request = match self.protocol {
            Protocol::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: if first {
                    state.names.iter().cloned().collect()
                } else {
                    new
                },
                initial_resource_versions: if first {
                    state
                        .held
                        .iter()
                        .map(|(name, (version, _))| (name.clone(), version.clone()))
                        .collect()
                } else {
                    Default::default()
                },
                ..Default::default()
            }),
            Protocol::Sotw => Request::Sotw(DiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names: state.names.iter().cloned().collect(),
                version_info: state.version.clone(),
                response_nonce: state.nonce.clone(),
                ..Default::default()
            }),
        };
        self.requests.push_back(request);
    }

    fn subscribe(&mut self, kind: ResourceType, name: &str) {
        if self.types[kind.index()].names.insert(name.to_owned()) {
            self.send_subscription(kind, vec![name.to_owned()]);
        }
    }

    fn unsubscribe(&mut self, kind: ResourceType, name: &str) {
        let state = &mut self.types[kind.index()];
        if state.names.len() < 2 || !state.names.remove(name) {
            return; // a client needs one name at least
        }
        if self.protocol == Protocol::Delta {
            // in SotW the client can subscribe again before the server notices
            state.held.remove(name);
        }
        match self.protocol {
            Protocol::Delta => self
                .requests
                .push_back(Request::Delta(DeltaDiscoveryRequest {
                    type_url: kind.type_url().to_owned(),
                    resource_names_unsubscribe: vec![name.to_owned()],
                    ..Default::default()
                })),
            Protocol::Sotw => self.send_subscription(kind, Vec::new()),
        }
    }

    fn put(&mut self, kind: ResourceType, name: &str, body: u8) {
        // the body has the name, since a SotW response has no names of its own
        let resource = Resource::new(kind, name, [&[body], name.as_bytes()].concat().into());
        let resource = match kind {
            ResourceType::Cluster => resource
                .with_warming(WARMING.contains(&name))
                .with_refs([(ResourceType::Endpoints, name.into())]),
            ResourceType::RouteTable => {
                let cluster = cluster_of(body);
                if self
                    .snapshot
                    .of(ResourceType::Cluster)
                    .get(cluster)
                    .is_none()
                {
                    return; // a table refers to what there is
                }
                resource.with_refs([(ResourceType::Cluster, cluster.into())])
            }
            _ => resource,
        };
        if let Some(next) = self.snapshot.next(&[resource], &[]) {
            self.snapshot = Arc::new(next);
            self.known.changed(kind, name);
        }
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        let is_used = self
            .snapshot
            .of(ResourceType::RouteTable)
            .iter()
            .any(|table| cluster_of(body_of(table.delta())) == name);
        if kind == ResourceType::Cluster && is_used {
            return;
        }
        if let Some(next) = self.snapshot.next(&[], &[(kind, name.into())]) {
            self.snapshot = Arc::new(next);
            self.known.changed(kind, name);
        }
    }

    /// The server makes a response; false if none is due.
    fn poll(&mut self) -> bool {
        let response = self.connection.poll(&self.snapshot, self.now);
        let is_due = response.is_some();
        let deadline = self.connection.deadline(self.now);
        assert!(
            is_due || deadline.is_none_or(|deadline| deadline > self.now),
            "no response is due, but the deadline is"
        );
        if let Some(response) = &response {
            let (received, removed, nonce, _) = self.decode(response);
            self.check_order(response.kind, &received, &removed, &nonce);
            if self.protocol == Protocol::Delta {
                self.known.sent(response.kind, &received, &removed, &nonce);
            }
            for found in received {
                let again = (response.kind, found.name, found.body);
                assert!(
                    !self.rejected.contains(&again),
                    "{} is sent again although it was rejected",
                    again.1
                );
            }
        }
        self.responses.extend(response);
        is_due
    }

    /// Notes what a request says about what the client has.
    fn note(&mut self, request: &DeltaDiscoveryRequest) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return;
        };
        let versions: BTreeMap<_, _> = request.initial_resource_versions.iter().collect();
        for (name, version) in versions {
            let served = self.snapshot.of(kind).get(name);
            if served.is_some_and(|served| served.version.to_string() == *version) {
                self.known.listed(kind, name, version);
            }
        }
        let asked = &request.resource_names_subscribe;
        for name in asked.iter().chain(&request.resource_names_unsubscribe) {
            if !request.initial_resource_versions.contains_key(name) {
                self.known.asked(kind, name);
            }
        }
        let accepted = request.error_detail.is_none();
        self.known.answered(&request.response_nonce, accepted);
    }

    fn request(&mut self) -> bool {
        let (nonce, (kind, request_kind)) = match self.requests.pop_front() {
            Some(Request::Delta(request)) => {
                self.note(&request);
                (
                    request.response_nonce.clone(),
                    self.connection.on_delta(request),
                )
            }
            Some(Request::Sotw(request)) => (
                request.response_nonce.clone(),
                self.connection.on_sotw(request),
            ),
            None => return false,
        };
        assert_ne!(request_kind, RequestKind::Unknown);
        if kind == Some(ResourceType::Cluster) {
            let accepted = matches!(request_kind, RequestKind::Ack { .. });
            self.clusters_acknowledged(&nonce, accepted);
        }
        if matches!(request_kind, RequestKind::Nack(_)) {
            self.rejected
                .extend(self.nacks.remove(&(kind.unwrap(), nonce)));
        }
        true
    }

    /// The client applies a response as a whole, or rejects it.
    fn receive(&mut self) -> bool {
        let Some(response) = self.responses.pop_front() else {
            return false;
        };
        let kind = response.kind;
        let (received, removed, nonce, version) = self.decode(&response);
        let names: BTreeSet<&str> = received
            .iter()
            .map(|found| found.name.as_str())
            .chain(removed.iter().map(String::as_str))
            .collect();
        assert_eq!(
            names.len(),
            received.len() + removed.len(),
            "duplicate name"
        );
        let fresh: Vec<&Received> = received
            .iter()
            .filter(|found| self.accepted.get(&(kind, found.name.clone())) != Some(&found.body))
            .collect();
        let mut bad = fresh.iter().any(|found| found.body.first() == Some(&BAD));
        if self.rejects_removals && received.is_empty() && !removed.is_empty() {
            self.rejects_removals = false;
            let removed = removed.iter().map(|name| (kind, name.clone()));
            self.rejected_removals.extend(removed);
            bad = true;
        }
        // a full state repeats what the client has
        let repeats = self.protocol == Protocol::Sotw && is_wildcard(kind);
        let tried = if repeats { fresh.len() } else { received.len() };
        if bad
            && tried == 1
            && let [culprit] = fresh.as_slice()
        {
            let culprit = (kind, culprit.name.clone(), culprit.body.clone());
            self.nacks.insert((kind, nonce.clone()), culprit);
        }
        let state = &mut self.types[kind.index()];
        state.nonce.clone_from(&nonce);
        if !bad {
            if self.protocol == Protocol::Sotw && is_wildcard(kind) {
                state.held.clear();
                self.accepted.retain(|(of, _), _| *of != kind);
            }
            for found in received {
                self.accepted
                    .insert((kind, found.name.clone()), found.body.clone());
                if self.protocol == Protocol::Sotw
                    || is_wildcard(kind)
                    || state.names.contains(&found.name)
                {
                    state.held.insert(found.name, (found.version, found.body));
                }
            }
            for name in removed {
                state.held.remove(&name);
                self.accepted.remove(&(kind, name));
            }
            state.version = version;
        }
        let error_detail = bad.then(|| rpc::Status {
            message: "bad body".to_owned(),
            ..Default::default()
        });
        self.requests.push_back(match self.protocol {
            Protocol::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                response_nonce: nonce,
                error_detail,
                ..Default::default()
            }),
            Protocol::Sotw => Request::Sotw(DiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names: state.names.iter().cloned().collect(),
                version_info: state.version.clone(),
                response_nonce: nonce,
                error_detail,
                ..Default::default()
            }),
        });
        true
    }

    fn decode(&self, response: &Response) -> (Vec<Received>, Vec<String>, String, String) {
        let bytes = response.parts().concat().into();
        match self.protocol {
            Protocol::Delta => decode_delta(bytes),
            Protocol::Sotw => decode_sotw(bytes),
        }
    }

    /// Delivers messages until there are none.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let moved = self.request() | self.poll() | self.receive();
            if !moved {
                return;
            }
        }
        panic!("server and client never settle");
    }

    /// Make before break: no table is sent before the client can use the new clusters that it refers to, and no cluster is
    /// removed that a table of the client refers to.
    fn check_order(
        &mut self,
        kind: ResourceType,
        received: &[Received],
        removed: &[String],
        nonce: &str,
    ) {
        for Received { name, version, .. } in received {
            match kind {
                ResourceType::Cluster => self.cluster_sent(name, nonce),
                ResourceType::Endpoints => self.endpoints_sent(name),
                ResourceType::RouteTable if self.protocol == Protocol::Delta => {
                    let table = self.snapshot.of(kind).get(name);
                    let table = table.filter(|table| table.version.to_string() == *version);
                    let refs = table.map(|table| table.refs.clone()).unwrap_or_default();
                    for (_, cluster) in refs.iter() {
                        assert!(
                            self.can_be_referred_to(cluster),
                            "table {name} is sent before cluster {cluster} can be used"
                        );
                    }
                }
                _ => {}
            }
        }
        for name in removed {
            assert!(
                kind != ResourceType::Cluster || !self.is_in_use(name),
                "cluster {name} is removed although a table uses it"
            );
        }
        if kind == ResourceType::Cluster {
            let removed = removed.iter();
            let removed = removed.filter(|name| self.usable_clusters.remove(*name));
            let removed = removed.cloned().collect();
            self.removed_clusters.insert(nonce.to_owned(), removed);
        }
    }

    fn cluster_sent(&mut self, name: &str, nonce: &str) {
        if self.usable_clusters.contains(name) {
            return;
        }
        if self.waits_for(name, None) {
            let sent = self.unusable_clusters.entry(name.to_owned());
            let (last, _) = sent.or_insert_with(|| (String::new(), self.now));
            nonce.clone_into(last);
        } else {
            self.usable_clusters.insert(name.to_owned());
        }
    }

    fn endpoints_sent(&mut self, name: &str) {
        let mut clusters = std::mem::take(&mut self.unusable_clusters);
        let usable = clusters.extract_if(.., |cluster, _| !self.waits_for(cluster, Some(name)));
        let usable: Vec<String> = usable.map(|(cluster, _)| cluster).collect();
        self.usable_clusters.extend(usable);
        self.unusable_clusters = clusters;
    }

    /// Whether a cluster waits for anything but these endpoints.
    fn waits_for(&self, cluster: &str, endpoints: Option<&str>) -> bool {
        let cluster = self.snapshot.of(ResourceType::Cluster).get(cluster);
        cluster.is_some_and(|cluster| {
            let mut refs = cluster.refs.iter();
            cluster.warms || refs.any(|(_, name)| Some(&**name) != endpoints)
        })
    }

    /// Whether tables need not wait for this cluster.
    fn can_be_referred_to(&self, cluster: &str) -> bool {
        let clusters = self.snapshot.of(ResourceType::Cluster);
        let waited = |(_, sent): &(String, Instant)| self.now >= *sent + Duration::from_secs(5);
        clusters.get(cluster).is_none()
            || self.rejected.iter().any(|(_, name, _)| name == cluster)
            || self.usable_clusters.contains(cluster)
            || self.unusable_clusters.get(cluster).is_some_and(waited)
    }

    /// The server handles an ACK or NACK of clusters.
    fn clusters_acknowledged(&mut self, nonce: &str, accepted: bool) {
        let answered = self
            .unusable_clusters
            .extract_if(.., |_, (last, _)| last == nonce);
        let names: Vec<String> = answered.map(|(name, _)| name).collect();
        let removed = self.removed_clusters.remove(nonce).unwrap_or_default();
        if accepted {
            self.usable_clusters.extend(names);
        } else {
            self.usable_clusters.extend(removed);
        }
    }

    /// Whether the client serves a table, accepted on this stream, that refers to this cluster.
    fn is_in_use(&self, cluster: &str) -> bool {
        let tables = &self.types[ResourceType::RouteTable.index()];
        let mut held = tables.held.iter();
        held.any(|(name, (_, body))| {
            let key = (ResourceType::RouteTable, name.clone());
            tables.names.contains(name)
                && self
                    .snapshot
                    .of(ResourceType::RouteTable)
                    .get(name)
                    .is_some()
                && self.accepted.contains_key(&key)
                && cluster_of(body[0]) == cluster
        })
    }

    /// Whether the client has rejected a new version of a resource of which it uses one of an earlier stream. The server
    /// does not know what that refers to, so it removes nothing.
    fn uses_unknown(&self) -> bool {
        let mut rejected = self.connection.rejected().into_iter();
        rejected.any(|(kind, name)| {
            let refers = matches!(
                kind,
                ResourceType::Filter
                    | ResourceType::Listener
                    | ResourceType::Scope
                    | ResourceType::RouteTable
            );
            let is_held = self.types[kind.index()].held.contains_key(&name);
            refers && is_held && !self.accepted.contains_key(&(kind, name))
        })
    }

    /// The client has the current version of everything that it subscribes to, except for what it rejects.
    fn check(&self) {
        let uses_unknown = self.uses_unknown();
        for kind in ResourceType::ALL {
            let state = &self.types[kind.index()];
            if !state.started {
                continue;
            }
            let view = self.snapshot.of(kind);
            for name in NAMES {
                if !is_wildcard(kind) && !state.names.contains(name) {
                    continue;
                }
                let held = state.held.get(name).map(|(_, body)| body[0]);
                match view.get(name).map(|entry| body_of(entry.delta())) {
                    Some(BAD) => assert_ne!(
                        held,
                        Some(BAD),
                        "{kind} {name} is held although it was rejected"
                    ),
                    Some(body) => assert_eq!(held, Some(body), "{kind} {name}"),
                    // SotW cannot remove resources that are subscribed by name
                    None if self.protocol == Protocol::Sotw && !is_wildcard(kind) => {}
                    // a client keeps a filter until it unsubscribes
                    None if kind == ResourceType::Filter => {}
                    None if uses_unknown && kind != ResourceType::Listener => {}
                    None if self.rejected_removals.contains(&(kind, name.to_owned())) => {}
                    None if matches!(kind, ResourceType::Cluster | ResourceType::Endpoints)
                        && self.is_in_use(name) => {}
                    None => assert_eq!(held, None, "{kind} {name} was removed"),
                }
            }
        }
        assert_eq!(
            self.connection.acked(),
            self.snapshot.seq,
            "everything is acknowledged or rejected"
        );
        let expected = ResourceType::ALL.into_iter().flat_map(|kind| {
            let state = &self.types[kind.index()];
            let names = NAMES
                .into_iter()
                .filter(move |name| is_wildcard(kind) || state.names.contains(*name));
            names
                .filter(move |name| {
                    self.snapshot
                        .of(kind)
                        .get(name)
                        .is_some_and(|entry| body_of(entry.delta()) == BAD)
                })
                .map(move |name| (kind, name.to_owned()))
        });
        let rejections = self.connection.rejected();
        assert_eq!(rejections, expected.collect(), "rejections");
    }
}

fn decode_delta(bytes: Bytes) -> (Vec<Received>, Vec<String>, String, String) {
    let response = DeltaDiscoveryResponse::decode(bytes).unwrap();
    let received = response.resources.into_iter().map(|resource| Received {
        name: resource.name,
        version: resource.version,
        body: resource.resource.unwrap().value.into(),
    });
    (
        received.collect(),
        response.removed_resources,
        response.nonce,
        String::new(),
    )
}

fn decode_sotw(bytes: Bytes) -> (Vec<Received>, Vec<String>, String, String) {
    let response = DiscoveryResponse::decode(bytes).unwrap();
    let received = response.resources.into_iter().map(|resource| {
        let body: Bytes = resource.value.into();
        Received {
            name: String::from_utf8(body[1..].to_vec()).unwrap(),
            version: String::new(),
            body,
        }
    });
    (
        received.collect(),
        Vec::new(),
        response.nonce,
        response.version_info,
    )
}

/// First byte of the body in an encoded entry.
fn body_of(entry: Bytes) -> u8 {
    let response = DeltaDiscoveryResponse::decode(entry).unwrap();
    response.resources[0]
        .resource
        .as_ref()
        .unwrap()
        .value
        .as_slice()
        .get_u8()
}

fn run(protocol: Protocol, steps: &[Step]) {
    run_with_grace(protocol, Duration::ZERO, steps);
}

fn run_with_grace(protocol: Protocol, grace: Duration, steps: &[Step]) {
    let mut world = World::with_grace(protocol, grace);
    for step in steps {
        match step {
            Step::Put(kind, name, body) => world.put(*kind, name, *body),
            Step::Remove(kind, name) => world.remove(*kind, name),
            Step::Subscribe(kind, name) => world.subscribe(*kind, name),
            Step::Unsubscribe(kind, name) => world.unsubscribe(*kind, name),
            Step::Poll => drop(world.poll()),
            Step::Receive => drop(world.receive()),
            Step::Request => drop(world.request()),
            Step::Wait => world.now += Duration::from_secs(6),
            Step::Reconnect => world.connect(),
            Step::RejectRemovals => world.rejects_removals = true,
        }
    }
    // removals of clusters follow those of tables, each after its grace period
    for _ in 0..4 {
        world.settle();
        world.now += grace;
    }
    world.settle();
    world.check();
}

/// 2000 schedules, or `PROPTEST_CASES`.
fn schedules() -> ProptestConfig {
    let default = ProptestConfig::default();
    let is_chosen = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        failure_persistence: None,
        cases: if is_chosen { default.cases } else { 2000 },
        ..default
    }
}

proptest! {
    #![proptest_config(schedules())]

    #[test]
    fn delta_client_gets_what_it_subscribes_to(steps in vec(step(), 0..80), grace in 0..12_u64) {
        run_with_grace(Protocol::Delta, Duration::from_secs(grace), &steps);
    }

    #[test]
    fn sotw_client_gets_what_it_subscribes_to(steps in vec(step(), 0..80), grace in 0..12_u64) {
        run_with_grace(Protocol::Sotw, Duration::from_secs(grace), &steps);
    }
}

/// The client has accepted the first responses: one with clusters, and one with listeners.
const STARTED: [Step; 8] = [
    Step::Request,
    Step::Request,
    Step::Poll,
    Step::Poll,
    Step::Receive,
    Step::Receive,
    Step::Request,
    Step::Request,
];

/// The server reverts a change before the client acknowledges it, in a response that is rejected because of `a`.
fn reverted_before_a_late_ack(kind: ResourceType, change: Step) {
    let mut steps = vec![Step::Put(kind, "b", 1)];
    steps.extend(STARTED);
    steps.extend([change, Step::Poll, Step::Wait]);
    steps.extend([Step::Put(kind, "a", BAD), Step::Put(kind, "b", 1)]);
    run(Protocol::Sotw, &steps);
}

#[test]
fn cluster_change_that_is_reverted_before_a_late_ack_survives_a_nack() {
    let kind = ResourceType::Cluster;
    reverted_before_a_late_ack(kind, Step::Put(kind, "b", 2));
}

#[test]
fn cluster_removal_that_is_reverted_before_a_late_ack_survives_a_nack() {
    let kind = ResourceType::Cluster;
    reverted_before_a_late_ack(kind, Step::Remove(kind, "b"));
}

#[test]
fn listener_change_that_is_reverted_before_a_late_ack_survives_a_nack() {
    let kind = ResourceType::Listener;
    reverted_before_a_late_ack(kind, Step::Put(kind, "b", 2));
}

#[test]
fn listener_removal_that_is_reverted_before_a_late_ack_survives_a_nack() {
    let kind = ResourceType::Listener;
    reverted_before_a_late_ack(kind, Step::Remove(kind, "b"));
}

#[test]
fn resource_that_is_added_again_survives_a_nack() {
    let steps = [
        Step::Put(ResourceType::Cluster, "c", 3),
        Step::Request,
        Step::Poll,
        Step::Remove(ResourceType::Cluster, "c"),
        Step::Poll,
        Step::Receive,
        Step::Request,
        Step::Request,
        Step::Poll,
        Step::Put(ResourceType::Cluster, "c", 3),
        Step::Put(ResourceType::Cluster, "a", BAD),
    ];
    run(Protocol::Sotw, &steps);
}

#[test]
fn cluster_that_is_removed_before_its_ack_and_added_again_is_known() {
    let kind = ResourceType::Cluster;
    let steps = [
        Step::Put(kind, "a", 1),
        Step::Request,
        Step::Poll,
        Step::Remove(kind, "a"),
        Step::Receive,
        Step::Poll,
        Step::Put(kind, "a", 0),
        Step::Request,
        Step::Put(kind, "a", 1),
    ];
    run_with_grace(Protocol::Delta, Duration::from_secs(1), &steps);
}

fn resource(kind: ResourceType, name: &str, body: &[u8]) -> Resource {
    Resource::new(kind, name, Bytes::copy_from_slice(body))
}

#[test]
fn one_change_among_ten_thousand_sends_one_resource() {
    let many: Vec<Resource> = (0..10_000)
        .map(|n| resource(ResourceType::Cluster, &n.to_string(), b"before"))
        .collect();
    let snapshot = Arc::new(Snapshot::default().next(&many, &[]).unwrap());
    let mut connection = Connection::new(Protocol::Delta, Duration::ZERO);
    let now = Instant::now();
    connection.on_delta(DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        ..Default::default()
    });
    let mut sent = 0;
    while let Some(response) = connection.poll(&snapshot, now) {
        sent += response.resources;
        let nonce = DeltaDiscoveryResponse::decode(Bytes::from(response.parts().concat()))
            .unwrap()
            .nonce;
        connection.on_delta(DeltaDiscoveryRequest {
            type_url: ResourceType::Cluster.type_url().to_owned(),
            response_nonce: nonce,
            ..Default::default()
        });
    }
    assert_eq!(sent, 10_000);
    let next = Arc::new(
        snapshot
            .next(&[resource(ResourceType::Cluster, "77", b"after")], &[])
            .unwrap(),
    );
    let response = connection.poll(&next, now).unwrap();
    assert_eq!(response.resources, 1);
    assert!(response.len() < 300, "{} bytes", response.len());
    let shared = next.of(ResourceType::Cluster).get("77").unwrap().delta();
    assert_eq!(
        response.parts()[1].as_ptr(),
        shared.as_ptr(),
        "the bytes are shared, not copied"
    );
    assert!(connection.poll(&next, now).is_none());
}

#[test]
fn unchanged_endpoints_are_sent_after_a_changed_cluster() {
    let cluster = |body: &[u8]| {
        resource(ResourceType::Cluster, "c", body)
            .with_refs([(ResourceType::Endpoints, "e".into())])
    };
    let first = [cluster(b"1"), resource(ResourceType::Endpoints, "e", b"1")];
    let snapshot = Arc::new(Snapshot::default().next(&first, &[]).unwrap());
    let mut world = World::new(Protocol::Delta);
    world.snapshot = snapshot;
    world.subscribe(ResourceType::Endpoints, "e");
    world.settle();
    world.snapshot = Arc::new(world.snapshot.next(&[cluster(b"2")], &[]).unwrap());
    let now = world.now;
    let kinds: Vec<ResourceType> =
        std::iter::from_fn(|| world.connection.poll(&world.snapshot, now))
            .map(|response| response.kind)
            .collect();
    assert_eq!(kinds, [ResourceType::Cluster, ResourceType::Endpoints]);
}

#[test]
fn cluster_is_removed_after_the_routes_that_used_it() {
    let mut world = World::new(Protocol::Delta);
    world.connection = Connection::new(Protocol::Delta, Duration::from_secs(10));
    let first = [
        resource(ResourceType::Cluster, "a", b"1"),
        resource(ResourceType::RouteTable, "b", b"1"),
    ];
    world.snapshot = Arc::new(world.snapshot.next(&first, &[]).unwrap());
    world.subscribe(ResourceType::RouteTable, "b");
    world.settle();
    let routes = [resource(ResourceType::RouteTable, "b", b"2")];
    world.snapshot = Arc::new(
        world
            .snapshot
            .next(&routes, &[(ResourceType::Cluster, "a".into())])
            .unwrap(),
    );
    assert!(world.poll());
    assert_eq!(
        world.responses.back().unwrap().kind,
        ResourceType::RouteTable
    );
    world.settle();
    assert!(
        world.types[ResourceType::Cluster.index()]
            .held
            .contains_key("a"),
        "the grace period is not over"
    );
    world.now += Duration::from_secs(11);
    world.settle();
    assert!(
        !world.types[ResourceType::Cluster.index()]
            .held
            .contains_key("a")
    );
}

#[test]
fn routes_wait_until_their_clusters_have_been_sent() {
    let large = vec![1; 1 << 20];
    let mut first: Vec<Resource> = ["a", "b", "c", "d", "e"]
        .map(|name| resource(ResourceType::Cluster, name, &large))
        .into();
    let refs = ["a", "e"].map(|name| (ResourceType::Cluster, name.into()));
    first.push(resource(ResourceType::RouteTable, "a", b"1").with_refs(refs));
    let mut world = World::new(Protocol::Delta);
    world.snapshot = Arc::new(world.snapshot.next(&first, &[]).unwrap());
    world.subscribe(ResourceType::RouteTable, "a");
    while world.request() {}
    while world.poll() {}
    let sent = |world: &World| -> Vec<ResourceType> {
        let kinds = world.responses.iter();
        kinds.map(|response| response.kind).collect()
    };
    assert_eq!(
        sent(&world),
        [
            [ResourceType::Cluster; 4].as_slice(),
            &[ResourceType::Listener, ResourceType::Scope]
        ]
        .concat(),
        "as many clusters as can be in flight"
    );
    // the client acknowledges one, so that the last cluster can be sent, and then the routes
    let acked = world.responses.pop_front().unwrap();
    let (_, _, nonce, _) = world.decode(&acked);
    world.connection.on_delta(DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        response_nonce: nonce,
        ..Default::default()
    });
    while world.poll() {}
    assert_eq!(
        sent(&world)[4..],
        [
            ResourceType::Scope,
            ResourceType::Cluster,
            ResourceType::RouteTable
        ]
    );
}

#[test]
fn unknown_types_and_nonces_are_ignored() {
    let mut connection = Connection::new(Protocol::Delta, Duration::ZERO);
    let unknown = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/nobody.knows.This".to_owned(),
        ..Default::default()
    };
    assert_eq!(connection.on_delta(unknown), (None, RequestKind::Unknown));
    let stale = DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        response_nonce: "not a number".to_owned(),
        ..Default::default()
    };
    assert_eq!(connection.on_delta(stale).1, RequestKind::Stale);
}
