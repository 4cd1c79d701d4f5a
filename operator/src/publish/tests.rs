//! The publish loop and its journal: every publication names what caused it and lists what it changed.

use std::time::Duration;

use nuncio_core::{
    change::{Reconciled, ResourceVersion, Subject},
    consul::{ConsulService, ConsulState},
    reconcile::reconcile,
};
use nuncio_xds::{
    ResourceType,
    cache::{self, SnapshotCache},
    snapshot::Snapshot,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    gateway::Gateway,
    journal::{Entry, Limits, Reason},
};

const CERTIFICATE: &str = include_str!("../../core/tests/testdata/waiting/certificate.pem");
const KEY: &str = include_str!("../../core/tests/testdata/waiting/key.pem");

/// A running loop.
struct World {
    batches: mpsc::Sender<Batch>,
    journal: Journal,
    gateways: Gateways,
    snapshots: SnapshotCache,
    metrics: Metrics,
    last: u64,
    _questions: mpsc::Sender<Question>,
    _elsewhere: watch::Sender<Elsewhere>,
    _secrets: watch::Receiver<WantedSecrets>,
}

impl World {
    fn new() -> Self {
        Self::with(Vec::new())
    }

    fn with(fallback: Vec<Change>) -> Self {
        let (batches, inputs) = mpsc::channel(8);
        let (questions, asked) = mpsc::channel(1);
        let (writer, snapshots) = cache::channel();
        let (elsewhere, heard) = watch::channel(Elsewhere::default());
        let (wanted_secrets, secrets) = watch::channel(None);
        let (fleet, metrics) = (Fleet::new(), Metrics::default());
        let gateways = Gateways::default();
        let journal = Journal::new(fleet.clone(), Limits::default());
        let outputs = Outputs {
            quarantine: Quarantine::new(writer, fleet.clone()),
            fleet,
            rejections: watch::channel(Vec::new()).0,
            elsewhere: heard,
            gateways: gateways.clone(),
            journal: journal.clone(),
            book: Book::default(),
            ready: watch::channel(false).0,
            unbound: watch::channel(Vec::new()).0,
            wanted_secrets,
            wanted_consul: watch::channel(WantedConsul::default()).0,
            served_ingresses: watch::channel(ServedIngresses::default()).0,
            owner_problems: watch::channel(OwnerProblems::default()).0,
            metrics: metrics.clone(),
        };
        tokio::spawn(run(inputs, asked, outputs, Settings::default(), fallback));
        Self {
            batches,
            journal,
            gateways,
            snapshots,
            metrics,
            last: 0,
            _questions: questions,
            _elsewhere: elsewhere,
            _secrets: secrets,
        }
    }

    async fn send(&self, received: Instant, deleted: &str, change: Change) {
        let batch = Batch {
            deleted: ResourceVersion::parse(deleted),
            ..Batch::new(received, vec![change])
        };
        self.batches.send(batch).await.unwrap();
    }

    /// Sends these as lists of all kinds.
    async fn list(&mut self, objects: &[(Kind, &str, Value)]) {
        for kind in Kind::WATCHED {
            let of_kind = objects.iter().filter(|(found, ..)| *found == kind);
            let all = of_kind.map(|(_, name, value)| object(kind, name, "1", value.clone()));
            let list = Change::Replace(Source::Api, kind, all.collect());
            self.send(Instant::now(), "", list).await;
        }
    }

    /// The next publication.
    async fn next(&mut self) -> Entry {
        for _ in 0..2000 {
            if let Some(entry) = self.journal.entries_after(self.last).first() {
                self.last = entry.publication.seq;
                return entry.clone();
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing was published after {}", self.last);
    }
}

fn object(kind: Kind, name: &str, version: &str, mut value: Value) -> Reconciled {
    let labels = value["labels"].take();
    value["metadata"] = json!({
        "name": name,
        "namespace": "default",
        "resourceVersion": version,
        "generation": 1,
        "labels": labels,
    });
    reconcile(kind, value, &Settings::default())
}

fn spec(spec: &Value) -> Value {
    json!({ "spec": spec })
}

/// A Listener, a Host, and Mappings, one for each way to find addresses.
fn base() -> Vec<(Kind, &'static str, Value)> {
    let listener = |port: u16| {
        spec(
            &json!({"port": port, "protocol": "HTTPS", "securityModel": "XFP",
            "hostBinding": {"namespace": {"from": "SELECTOR", "selector": {"matchLabels": {"tier": "public"}}}}}),
        )
    };
    let mapping = |service: &str, resolver: &str| {
        spec(
            &json!({"hostname": "*", "prefix": format!("/{service}/"), "service": service, "resolver": resolver}),
        )
    };
    vec![
        (
            Kind::Namespace,
            "default",
            json!({"labels": {"tier": "public"}}),
        ),
        (Kind::Listener, "http", listener(8080)),
        (
            Kind::Host,
            "any",
            spec(&json!({"requestPolicy": {"insecure": {"action": "Route"}}})),
        ),
        (
            Kind::Mapping,
            "plain",
            mapping("plain", "kubernetes-service"),
        ),
        (Kind::Mapping, "slices", mapping("slices", "found")),
        (Kind::Mapping, "consul", mapping("consul", "dc")),
        (
            Kind::ConsulResolver,
            "dc",
            spec(&json!({"address": "127.0.0.1:8500", "datacenter": "dc1"})),
        ),
        (
            Kind::Service,
            "slices",
            json!({"spec": {"clusterIP": "10.96.0.2", "ports": [{"port": 80}]}}),
        ),
    ]
}

/// Changes that each change what Envoys get, of every kind that can.
fn edits() -> Vec<(Kind, &'static str, Value)> {
    let slice = json!({
        "labels": {"kubernetes.io/service-name": "slices"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.1"]}],
        "ports": [{"port": 8080}],
    });
    vec![
        (
            Kind::Service,
            "plain",
            json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        ),
        (Kind::KubernetesEndpointResolver, "found", spec(&json!({}))),
        (Kind::EndpointSlice, "slices-1", slice),
        (
            Kind::Mapping,
            "plain",
            spec(&json!({"hostname": "*", "prefix": "/other/", "service": "plain"})),
        ),
        (
            Kind::Host,
            "tls",
            spec(
                &json!({"hostname": "a.example", "tlsSecret": {"name": "cert"}, "tlsContext": {"name": "terms"}}),
            ),
        ),
        (
            Kind::Secret,
            "cert",
            json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": CERTIFICATE, "tls.key": KEY}}),
        ),
        (
            Kind::TlsContext,
            "terms",
            spec(&json!({"min_tls_version": "v1.3"})),
        ),
        (
            Kind::Module,
            "ambassador",
            spec(&json!({"config": {"server_name": "edge"}})),
        ),
        (
            Kind::TcpMapping,
            "tcp",
            spec(&json!({"port": 9000, "service": "10.0.0.1:80"})),
        ),
        (
            Kind::ConsulResolver,
            "dc",
            spec(&json!({"address": "127.0.0.1:8500", "datacenter": "dc2"})),
        ),
        (
            Kind::Namespace,
            "default",
            json!({"labels": {"tier": "private"}}),
        ),
        (
            Kind::Listener,
            "http",
            spec(
                &json!({"port": 8081, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}}),
            ),
        ),
    ]
}

/// The same of the services that every request uses.
fn edge_services() -> Vec<(Kind, &'static str, Value)> {
    let upstream = |rest: Value| {
        let mut value = json!({"service": "10.0.0.9:9000", "protocol_version": "v3"});
        for (name, field) in rest.as_object().unwrap() {
            value[name] = field.clone();
        }
        spec(&value)
    };
    vec![
        (
            Kind::AuthService,
            "auth",
            spec(&json!({"auth_service": "10.0.0.9:9001", "proto": "http"})),
        ),
        (Kind::RateLimitService, "limits", upstream(json!({}))),
        (
            Kind::LogService,
            "logs",
            upstream(json!({"driver": "http"})),
        ),
        (
            Kind::TracingService,
            "traces",
            upstream(json!({"driver": "opentelemetry"})),
        ),
    ]
}

#[tokio::test]
async fn each_publication_names_the_object_that_caused_it() {
    let mut world = World::new();
    world.list(&base()).await;
    let first = world.next().await.publication;
    assert_eq!(first.reason, Reason::Start);
    assert_eq!(first.causes.total, base().len());
    assert_eq!(first.received(), None, "it waited for lists");
    assert!(
        first
            .difference
            .changes
            .iter()
            .all(|change| change.before.is_none())
    );
    for (number, (kind, name, value)) in edge_services().into_iter().chain(edits()).enumerate() {
        let version = (100 + number).to_string();
        let found = object(kind, name, &version, value);
        let subject = found.object.clone();
        let received = Instant::now();
        world
            .send(received, "", Change::Apply(Source::Api, found.into()))
            .await;
        let entry = world.next().await.publication;
        assert_eq!(entry.reason, Reason::Changes, "{subject}");
        assert_eq!(entry.causes.total, 1, "{subject}: {:?}", entry.causes);
        let cause = &entry.causes.listed[0];
        assert_eq!(cause.subject, Subject::Object(subject.clone()));
        assert_eq!(cause.version.to_string(), version, "{subject}");
        assert_eq!((cause.received, cause.is_gone), (received, false));
        assert!(entry.at >= received && entry.time >= entry.time_of(received));
        assert!(entry.difference.total > 0, "{subject}");
    }
}

#[tokio::test]
async fn the_static_configuration_is_served_until_the_cluster_has_been_listed() {
    let mapping = |name: &'static str| {
        let mapping = json!({"hostname": "*", "prefix": "/", "service": format!("{name}.example")});
        (Kind::Mapping, name, spec(&mapping))
    };
    let listener = json!({"port": 8080, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}});
    let listener = |name: &'static str| (Kind::Listener, name, spec(&listener));
    let all = [mapping("static"), listener("static")];
    let changes = all.map(|(kind, name, value)| {
        Change::Replace(Source::Api, kind, vec![object(kind, name, "1", value)])
    });
    let mut world = World::with(changes.into());
    let mut snapshots = world.snapshots.subscribe();
    let clusters = |snapshot: &Snapshot| -> Vec<String> {
        let all = versions(snapshot).into_keys();
        let all = all.filter(|(kind, _)| *kind == ResourceType::Cluster);
        all.map(|(_, name)| name.to_string()).collect()
    };
    let first = timeout(Duration::from_secs(10), snapshots.wait_for(Option::is_some)).await;
    let first = first.unwrap().unwrap().clone().unwrap();
    let first = clusters(&first);
    assert!(
        first.iter().any(|name| name.contains("static")),
        "{first:?}"
    );
    world.list(&[mapping("listed"), listener("listed")]).await;
    for _ in 0..2 {
        world.next().await;
    }
    let now = clusters(&world.snapshots.snapshot().unwrap());
    assert!(now.iter().any(|name| name.contains("listed")), "{now:?}");
    assert!(!now.iter().any(|name| name.contains("static")), "{now:?}");
}

#[tokio::test]
async fn deletions_and_consul_are_causes_and_the_same_again_is_none() {
    let mut world = World::new();
    world.list(&base()).await;
    world.next().await;
    let service = ConsulService {
        resolver: Some(nuncio_core::reconcile::Name {
            namespace: "default".into(),
            name: "dc".into(),
        }),
        datacenter: "dc1".into(),
        name: "consul".into(),
    };
    let state = ConsulState {
        addresses: vec!["10.244.0.7:80".parse().unwrap()],
        problem: None,
    };
    let known = Change::Consul(service.clone(), Some(state));
    let received = Instant::now();
    world.send(received, "", known.clone()).await;
    let entry = world.next().await.publication;
    assert_eq!(entry.causes.listed[0].subject, Subject::Consul(service));
    // neither of these differs
    world.send(received, "", known).await;
    world.list(&base()).await;
    let plain = ObjectRef::new(Kind::Mapping, "default", "plain");
    world
        .send(received, "77", Change::Delete(Source::Api, plain.clone()))
        .await;
    let entry = world.next().await.publication;
    assert_eq!(entry.causes.total, 1, "{:?}", entry.causes);
    let cause = &entry.causes.listed[0];
    assert_eq!(cause.subject, Subject::Object(plain));
    assert_eq!(cause.version, ResourceVersion::Number(77));
    assert!(cause.is_gone);
    let mut encoded = String::new();
    prometheus_client::encoding::EncodeMetric::metric_type(&world.metrics.change_published);
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("x", "x", world.metrics.change_published.clone());
    prometheus_client::encoding::text::encode(&mut encoded, &registry).unwrap();
    assert!(encoded.contains("x_count 2\n"), "{encoded}");
}

/// The gateway for a reader, once this holds.
async fn shown(
    reader: &mut watch::Receiver<Option<Arc<Gateway>>>,
    holds: impl Fn(&Gateway) -> bool,
) -> Arc<Gateway> {
    let wait = reader.wait_for(|gateway| gateway.as_deref().is_some_and(&holds));
    let found = timeout(Duration::from_secs(10), wait).await;
    let found = found.expect("it is shown").expect("the loop runs");
    found.clone().expect("it holds")
}

#[tokio::test]
async fn readers_get_the_gateway_of_each_round_and_keep_what_they_have() {
    let mut world = World::new();
    let mut early = world.gateways.subscribe();
    world.list(&base()).await;
    world.next().await;
    let first = shown(&mut early, |_| true).await;
    assert_eq!((first.seq, first.ir.listeners.len()), (1, 1));
    drop(early);
    let count = first.reports.len();
    // nobody reads this round
    let spec = spec(&json!({"port": 9000, "service": "10.0.0.1:80"}));
    let tcp = object(Kind::TcpMapping, "tcp", "2", spec);
    let subject = tcp.object.clone();
    let apply = |found: Reconciled| Change::Apply(Source::Api, found.into());
    world.send(Instant::now(), "", apply(tcp)).await;
    world.next().await;
    let mut late = world.gateways.subscribe();
    let second = shown(&mut late, |gateway| gateway.seq == 2).await;
    assert!(second.reports.contains_key(&subject));
    assert_eq!(second.ir.listeners.len(), 2);
    assert_eq!((first.ir.listeners.len(), first.reports.len()), (1, count));
    // a report that differs without a snapshot is shown as well
    let useless = object(
        Kind::Mapping,
        "useless",
        "3",
        json!({"spec": {"prefix": 7}}),
    );
    let subject = useless.object.clone();
    world.send(Instant::now(), "", apply(useless)).await;
    let has_it = |gateway: &Gateway| gateway.reports.contains_key(&subject);
    assert_eq!(shown(&mut late, has_it).await.seq, 2);
    // nothing is kept for readers that are gone
    let kept = Arc::downgrade(&shown(&mut late, |_| true).await);
    drop(late);
    let gone = Change::Delete(Source::Api, subject);
    world.send(Instant::now(), "4", gone).await;
    let other = object(
        Kind::TcpMapping,
        "other",
        "5",
        json!({"spec": {"port": 9001, "service": "10.0.0.1:80"}}),
    );
    world.send(Instant::now(), "", apply(other)).await;
    world.next().await;
    assert!(kept.upgrade().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever batches: what differs between the first snapshot and the last is what the entries say, and
    /// each version follows the one before it.
    #[test]
    fn every_change_of_a_version_is_in_exactly_one_entry(
        steps in prop::collection::vec((0usize..40, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follows(steps));
    }
}

async fn follows(steps: Vec<(usize, bool, bool)>) {
    let mut world = World::new();
    world.list(&base()).await;
    world.next().await;
    let before = world.snapshots.snapshot().unwrap();
    let all: Vec<_> = base()
        .into_iter()
        .chain(edge_services())
        .chain(edits())
        .collect();
    for (at, is_deleted, waits) in steps {
        let (kind, name, value) = all[at % all.len()].clone();
        let found = object(kind, name, "5", value);
        let change = if is_deleted {
            Change::Delete(Source::Api, found.object)
        } else {
            Change::Apply(Source::Api, found.into())
        };
        world.send(Instant::now(), "6", change).await;
        if waits {
            sleep(Duration::from_millis(1)).await;
        }
    }
    // the loop has handled all before this one
    let last = object(
        Kind::Listener,
        "last",
        "9",
        spec(
            &json!({"port": 7000, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}}),
        ),
    );
    let subject = Subject::Object(last.object.clone());
    world
        .send(Instant::now(), "", Change::Apply(Source::Api, last.into()))
        .await;
    let mut versions = versions(&before);
    let mut seq = before.seq;
    loop {
        let entry = world.next().await.publication;
        assert_eq!(entry.seq, seq + 1);
        seq = entry.seq;
        assert_eq!(entry.difference.changes.len(), entry.difference.total);
        for change in &entry.difference.changes {
            let key = (change.kind, change.name.clone());
            let was = match change.now {
                Some(now) => versions.insert(key, now),
                None => versions.remove(&key),
            };
            assert_eq!(was, change.before);
            assert_ne!(change.before, change.now);
        }
        if entry
            .causes
            .listed
            .iter()
            .any(|cause| cause.subject == subject)
        {
            break;
        }
    }
    let now = world.snapshots.snapshot().unwrap();
    assert_eq!(now.seq, seq);
    assert_eq!(versions, self::versions(&now));
}

fn versions(snapshot: &Snapshot) -> BTreeMap<Ref, nuncio_xds::Version> {
    let kinds = ResourceType::ALL.into_iter();
    let entries = kinds.flat_map(|kind| snapshot.of(kind).iter().map(move |entry| (kind, entry)));
    entries
        .map(|(kind, entry)| ((kind, entry.name.clone()), entry.version))
        .collect()
}
