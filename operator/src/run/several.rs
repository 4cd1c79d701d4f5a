//! Two fleets in one process, with the watches of an apiserver that answers as a test says.

use std::sync::Mutex;

use clap::Parser as _;
use nuncio_core::{change::ResourceVersion, object::ObjectRef, reconcile::reconcile_each};
use nuncio_xds::{
    ResourceType,
    snapshot::{Entry, Snapshot},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::{
    args::{Arguments, Command},
    client::testing::Apiserver,
};

/// A process and its apiserver.
struct World {
    plane: ControlPlane,
    /// Paths of requests.
    paths: Arc<Mutex<Vec<String>>>,
    fleets: Fleets,
    _tasks: Tasks,
    _apiserver: Apiserver,
}

impl World {
    /// The fleets of these IDs in a cluster with these objects.
    async fn start(ids: &str, objects: &[Value]) -> Self {
        let paths: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, all) = (paths.clone(), objects.to_vec());
        let apiserver = Apiserver::start(move |path, answer| {
            seen.lock().unwrap().push(path.to_owned());
            if path.contains("watch=true") {
                return answer.begin("");
            }
            let path = path.split('?').next().unwrap_or_default();
            let last = path.rsplit('/').next().unwrap_or_default();
            let secret = all
                .iter()
                .find(|object| object["kind"] == "Secret" && object["metadata"]["name"] == last);
            if let Some(secret) = secret {
                return answer.complete(200, &secret.to_string());
            }
            let is_listed = |object: &&Value| plural(object) == last;
            let items: Vec<&Value> = all.iter().filter(is_listed).collect();
            let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
            answer.complete(200, &list.to_string());
        })
        .await;
        let fleets = Fleets::split(Settings {
            ambassador_id: ids.to_owned(),
            in_cluster: true,
            reads_secrets_on_demand: true,
            ..Settings::default()
        })
        .unwrap();
        let line = "nuncio operator --xds-address 127.0.0.1:0 --health-address 127.0.0.1:0";
        let Command::Operator { servers, .. } = Arguments::parse_from(line.split(' ')).command
        else {
            panic!("another command")
        };
        let mut tasks = Tasks::new();
        let plane = start(
            &mut tasks,
            &servers,
            &fleets,
            (None, Peers::Any),
            &Directories::default(),
        )
        .await
        .unwrap();
        let watching = kube_watch::Context {
            client: apiserver.client(Limits::default()),
            fleets: fleets.clone(),
            changes: plane.changes.clone(),
            questions: plane.questions.clone(),
            book: plane.book.clone(),
            progress: plane.progress.clone(),
            metrics: plane.metrics.clone(),
            definitions: watch::channel(Definitions::default()).1,
        };
        let wanted = plane.fleets.iter();
        let wanted = wanted.map(|fleet| fleet.wanted_secrets.clone()).collect();
        watch_all(&mut tasks, &watching, wanted).await.unwrap();
        Self {
            plane,
            paths,
            fleets,
            _tasks: tasks,
            _apiserver: apiserver,
        }
    }

    /// The first snapshot of a fleet.
    async fn snapshot(&self, fleet: usize) -> Arc<Snapshot> {
        for _ in 0..1000 {
            if let Some(snapshot) = self.current(fleet) {
                return snapshot;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("no snapshot: {}", self.plane.progress.describe());
    }

    fn current(&self, fleet: usize) -> Option<Arc<Snapshot>> {
        self.plane.fleets[fleet].snapshots.snapshot()
    }

    /// How often a path that ends so was requested, other than to watch it.
    fn requests(&self, end: &str) -> usize {
        let paths = self.paths.lock().unwrap();
        let paths = paths.iter().filter(|path| !path.contains("watch=true"));
        let paths = paths.map(|path| path.split('?').next());
        paths
            .filter(|path| path.is_some_and(|path| path.ends_with(end)))
            .count()
    }

    /// Applies an object as a watch does.
    async fn apply(&self, object: &Value) {
        let kind = kind(object);
        let name = object["metadata"]["name"].as_str().unwrap();
        let found = reconcile_each(kind, object.clone(), &self.fleets);
        let change = |found| match found {
            Some(found) => Some(Change::Apply(Source::Api, Box::new(found))),
            None => Some(Change::Delete(
                Source::Api,
                ObjectRef::new(kind, "default", name),
            )),
        };
        let changes = found.into_iter().map(change);
        let changes = changes.map(Vec::from_iter).collect();
        let sent = self
            .plane
            .changes
            .send_each(Instant::now(), ResourceVersion::Unknown, changes);
        sent.await.unwrap();
    }
}

fn kind(object: &Value) -> Kind {
    let mut kinds = Kind::WATCHED.into_iter();
    kinds.find(|kind| object["kind"] == kind.name()).unwrap()
}

fn plural(object: &Value) -> &'static str {
    kind(object).plural()
}

fn object(kind: &str, name: &str, ids: &[&str], mut spec: Value) -> Value {
    spec["ambassador_id"] = json!(ids);
    json!({
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "generation": 1},
        "spec": spec,
    })
}

fn host(name: &str, ids: &[&str], secret: &str) -> Value {
    let spec = json!({"hostname": "same.example", "tlsSecret": {"name": secret}});
    object("Host", name, ids, spec)
}

fn mapping(name: &str, ids: &[&str], prefix: &str, service: &str) -> Value {
    let spec = json!({"hostname": "same.example", "prefix": prefix, "service": service});
    object("Mapping", name, ids, spec)
}

/// A Secret, and its private key.
fn secret(name: &str) -> (Value, String) {
    let made = rcgen::generate_simple_self_signed(vec!["same.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let secret = json!({
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "1"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": key},
    });
    (secret, key)
}

/// The same Host in two fleets with different certificates and backends, and a Mapping that both have.
fn cluster() -> (Vec<Value>, [String; 2]) {
    let (of_a, key_a) = secret("cert-a");
    let (of_b, key_b) = secret("cert-b");
    let (unused, _) = secret("unused");
    let listener = json!({
        "port": 8443,
        "protocol": "HTTPS",
        "securityModel": "XFP",
        "hostBinding": {"namespace": {"from": "ALL"}},
    });
    let objects = vec![
        object("Listener", "https", &["a", "b"], listener),
        host("host-a", &["a"], "cert-a"),
        host("host-b", &["b"], "cert-b"),
        mapping("only-a", &["a"], "/", "10.0.0.1:80"),
        mapping("only-b", &["b"], "/", "10.0.0.2:80"),
        mapping("both", &["a", "b"], "/both/", "10.0.0.3:80"),
        of_a,
        of_b,
        unused,
    ];
    (objects, [key_a, key_b])
}

/// Every resource of a snapshot.
fn resources(snapshot: &Snapshot) -> Vec<(ResourceType, Arc<Entry>)> {
    let all = ResourceType::ALL.into_iter();
    all.flat_map(|kind| {
        snapshot
            .of(kind)
            .iter()
            .map(move |entry| (kind, entry.clone()))
    })
    .collect()
}

/// Whether any name or content has this text.
fn mentions(snapshot: &Snapshot, text: &str) -> bool {
    let has = |bytes: &[u8]| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    let all = resources(snapshot);
    all.iter()
        .any(|(_, entry)| has(entry.name.as_bytes()) || has(&entry.delta()))
}

#[tokio::test]
async fn no_resource_of_a_fleet_has_anything_of_another() {
    let (objects, [key_a, key_b]) = cluster();
    let world = World::start("b,a", &objects).await;
    let (a, b) = (world.snapshot(0).await, world.snapshot(1).await);
    for text in [&key_a, "cert-a", "10.0.0.1", "only-a"] {
        assert!(mentions(&a, text), "{text} is not in its own fleet");
        assert!(!mentions(&b, text), "{text} of a is in b");
    }
    for text in [&key_b, "cert-b", "10.0.0.2", "only-b"] {
        assert!(mentions(&b, text), "{text} is not in its own fleet");
        assert!(!mentions(&a, text), "{text} of b is in a");
    }
    // one list of each kind for both, and each Secret once, for the fleet that wants it
    for end in ["/hosts", "/mappings", "/services", "/secrets"] {
        assert_eq!(world.requests(end), 1, "{end}");
    }
    assert_eq!(world.requests("/secrets/cert-a"), 1);
    assert_eq!(world.requests("/secrets/cert-b"), 1);
    assert_eq!(world.requests("/secrets/unused"), 0);
    for (fleet, name) in [(0, "cert-a"), (1, "cert-b")] {
        let wanted = world.plane.fleets[fleet].wanted_secrets.borrow().clone();
        let wanted = wanted.unwrap();
        let names = wanted.iter().map(|secret| &*secret.name);
        let names: Vec<&str> = names.filter(|name| name.starts_with("cert-")).collect();
        assert_eq!(names, [name]);
    }
}

#[tokio::test]
async fn fleets_hold_equal_resources_once() {
    let (objects, _) = cluster();
    let world = World::start("a,b", &objects).await;
    let (a, b) = (world.snapshot(0).await, world.snapshot(1).await);
    let (of_a, of_b) = (resources(&a), resources(&b));
    let mut shared = 0;
    for (kind, one) in &of_a {
        let is_same = |(of, entry): &&(ResourceType, Arc<Entry>)| of == kind && *entry == *one;
        if let Some((_, other)) = of_b.iter().find(is_same) {
            let (one, other) = (one.delta(), other.delta());
            assert_eq!(one, other);
            assert_eq!(one.as_ptr(), other.as_ptr(), "{kind} is there twice");
            shared += 1;
        }
    }
    assert!(shared > 0, "nothing is equal");
    assert!(shared < of_a.len(), "nothing differs");
}

#[tokio::test]
async fn a_change_of_one_fleet_is_no_snapshot_of_another() {
    let (objects, _) = cluster();
    let world = World::start("a,b", &objects).await;
    let (a, b) = (world.snapshot(0).await, world.snapshot(1).await);
    world
        .apply(&mapping("only-a", &["a"], "/", "10.0.0.9:80"))
        .await;
    // through the same queue, after it
    world
        .apply(&mapping("more-b", &["b"], "/more/", "10.0.0.8:80"))
        .await;
    let has = async |fleet: usize, text: &str| {
        for _ in 0..1000 {
            let snapshot = world.current(fleet).unwrap();
            if mentions(&snapshot, text) {
                return snapshot;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{text} is missing");
    };
    assert_eq!(has(0, "10.0.0.9").await.seq, a.seq + 1);
    assert_eq!(has(1, "10.0.0.8").await.seq, b.seq + 1);
    // an object that moves leaves its fleet
    world
        .apply(&mapping("only-a", &["b"], "/", "10.0.0.9:80"))
        .await;
    has(1, "10.0.0.9").await;
    for _ in 0..1000 {
        if !mentions(&world.current(0).unwrap(), "10.0.0.9") {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still in its old fleet");
}

#[tokio::test]
async fn a_fleet_without_an_object_is_ready_and_has_nothing() {
    let (objects, [key_a, _]) = cluster();
    let world = World::start("a,empty", &objects).await;
    let (a, empty) = (world.snapshot(0).await, world.snapshot(1).await);
    assert!(mentions(&a, &key_a));
    assert!(empty.of(ResourceType::Listener).is_empty());
    assert!(empty.of(ResourceType::Secret).is_empty());
}

#[tokio::test]
async fn an_object_with_hundreds_of_ids_is_of_each_fleet_once() {
    let (mut objects, _) = cluster();
    let ids: Vec<String> = (0..500).map(|n| format!("id {n}")).collect();
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.extend(["", " a", "a", "a", "b,a"]);
    objects.push(mapping("many", &ids, "/many/", "10.0.0.7:80"));
    let world = World::start("a,b", &objects).await;
    assert!(mentions(&*world.snapshot(0).await, "10.0.0.7"));
    assert!(!mentions(&*world.snapshot(1).await, "10.0.0.7"));
}
