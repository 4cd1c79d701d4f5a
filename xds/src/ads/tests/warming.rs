//! Make before break: routes wait for new clusters that warm, and nothing is removed that the client still uses.

use super::{stress::GRACE, *};

const CLUSTER: ResourceType = ResourceType::Cluster;
const TABLE: ResourceType = ResourceType::RouteTable;

fn cluster(name: &str, warms: bool) -> Resource {
    resource(CLUSTER, name, b"1").with_warming(warms)
}

fn table(name: &str, body: u8, clusters: &[&str]) -> Resource {
    let refs = clusters.iter().map(|name| (CLUSTER, Arc::from(*name)));
    resource(TABLE, name, &[body]).with_refs(refs)
}

/// A client that subscribes to all clusters and listeners, and to tables `a` and `b`, which use cluster `old`.
fn world() -> World {
    let mut world = World::new(Protocol::Delta);
    world.connection = Connection::new(Protocol::Delta, GRACE);
    let first = [
        cluster("old", false),
        table("a", 1, &["old"]),
        table("b", 1, &["old"]),
    ];
    world.snapshot = Arc::new(world.snapshot.next(&first, &[]).unwrap());
    world.subscribe(TABLE, "a");
    world.subscribe(TABLE, "b");
    world.settle();
    world
}

impl World {
    /// All responses that can be made now: type, names, and names that are removed.
    pub(super) fn due(&mut self) -> Vec<(ResourceType, Vec<String>, Vec<String>)> {
        let before = self.responses.len();
        while self.poll() {}
        let responses = self.responses.iter().skip(before);
        responses
            .map(|response| {
                let (received, removed, ..) = self.decode(response);
                let names = received.into_iter().map(|found| found.name).collect();
                (response.kind, names, removed)
            })
            .collect()
    }

    /// Types and names in all responses that can be made now.
    fn sent(&mut self) -> Vec<(ResourceType, Vec<String>)> {
        let due = self.due().into_iter();
        due.map(|(kind, names, _)| (kind, names)).collect()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn table_waits_for_a_new_cluster_that_warms_and_others_do_not() {
    let mut world = world();
    world.update(
        &[
            cluster("fast", false),
            cluster("slow", true),
            table("a", 2, &["old", "slow"]),
            table("b", 2, &["old", "fast"]),
        ],
        &[],
    );
    assert_eq!(
        world.sent(),
        [
            (CLUSTER, names(&["fast"])),
            (CLUSTER, names(&["slow"])),
            (TABLE, names(&["b"])),
        ]
    );
    assert!(world.connection.acked() < world.snapshot.seq);
    // the client acknowledges `fast`, and `b`, but not yet `slow`
    let slow = world.responses.remove(1).unwrap();
    while world.receive() {}
    while world.request() {}
    assert!(world.sent().is_empty(), "the table is still held back");
    world.responses.push_front(slow);
    world.receive();
    world.request();
    assert_eq!(world.sent(), [(TABLE, names(&["a"]))]);
    world.settle();
    assert_eq!(world.connection.acked(), world.snapshot.seq);
}

#[test]
fn table_waits_five_seconds_at_most() {
    let mut world = world();
    world.update(&[cluster("slow", true), table("a", 2, &["slow"])], &[]);
    assert_eq!(world.sent(), [(CLUSTER, names(&["slow"]))]);
    let deadline = world.connection.deadline(world.now).unwrap();
    assert_eq!(deadline - world.now, Duration::from_secs(5));
    world.now = deadline;
    assert_eq!(world.sent(), [(TABLE, names(&["a"]))]);
}

#[test]
fn table_does_not_wait_for_a_cluster_that_the_client_uses_already() {
    let mut world = world();
    let changed = resource(CLUSTER, "old", b"2").with_warming(true);
    world.update(&[changed, table("a", 2, &["old"])], &[]);
    assert_eq!(
        world.sent(),
        [(CLUSTER, names(&["old"])), (TABLE, names(&["a"]))]
    );
}

#[test]
fn table_does_not_wait_for_a_cluster_that_was_rejected() {
    let mut world = world();
    let bad = resource(CLUSTER, "bad", &[BAD]).with_warming(true);
    world.update(&[bad, table("a", 2, &["old", "bad"])], &[]);
    assert_eq!(world.sent(), [(CLUSTER, names(&["bad"]))]);
    world.settle();
    assert_eq!(world.types[TABLE.index()].held["a"].1[..], [2]);
}

#[test]
fn listener_waits_for_a_new_cluster_that_warms() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = World::new(protocol);
        world.settle();
        let proxy = Resource::new(ResourceType::Listener, "a", Bytes::from_static(b"\x01a"))
            .with_refs([(CLUSTER, "c".into())]);
        let slow = Resource::new(CLUSTER, "c", Bytes::from_static(b"\x01c")).with_warming(true);
        world.update(&[slow, proxy], &[]);
        assert_eq!(world.sent(), [(CLUSTER, names(&["c"]))], "{protocol:?}");
        world.settle();
        assert!(world.holds(ResourceType::Listener, "a"), "{protocol:?}");
    }
}

#[test]
fn listener_waits_for_a_cluster_that_returns_while_its_removal_is_in_flight() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = World::new(protocol);
        let new = |kind, name: &str, body: u8| {
            Resource::new(kind, name, [&[body], name.as_bytes()].concat().into())
        };
        let uses = |body| {
            let listener = new(ResourceType::Listener, "a", body);
            listener.with_refs([(CLUSTER, "c".into())])
        };
        world.update(&[new(CLUSTER, "c", 1), uses(1)], &[]);
        world.settle();
        world.update(&[new(ResourceType::Listener, "a", 2)], &[(CLUSTER, "c")]);
        let listener = (ResourceType::Listener, names(&["a"]));
        assert_eq!(world.sent(), std::slice::from_ref(&listener));
        world.receive();
        world.request();
        assert_eq!(world.sent(), [(CLUSTER, names(&[]))], "the removal");

        let returned = new(CLUSTER, "c", 1).with_warming(true);
        world.update(&[returned, uses(3)], &[]);
        let cluster = (CLUSTER, names(&["c"]));
        let sent = match protocol {
            Protocol::Delta => vec![cluster.clone()],
            // the state is full, so that a response waits for the one before
            Protocol::Sotw => Vec::new(),
        };
        assert_eq!(world.sent(), sent, "{protocol:?}");
        world.receive();
        world.request();
        if protocol == Protocol::Sotw {
            assert_eq!(world.sent(), [cluster]);
        }
        assert!(world.sent().is_empty(), "{protocol:?}: it is warming");
        world.receive();
        world.request();
        assert_eq!(world.sent(), [listener], "{protocol:?}");
        world.settle();
    }
}

#[test]
fn secrets_and_endpoints_follow_their_cluster() {
    let mut world = world();
    let secret = resource(ResourceType::Secret, "s", b"1");
    world.update(&[secret, resource(ResourceType::Endpoints, "e", b"1")], &[]);
    world.subscribe(ResourceType::Secret, "s");
    world.subscribe(ResourceType::Endpoints, "e");
    world.settle();
    let refs = [
        (ResourceType::Endpoints, "e".into()),
        (ResourceType::Secret, "s".into()),
    ];
    let tls = cluster("tls", true).with_refs(refs);
    world.update(&[tls, table("a", 2, &["tls"])], &[]);
    assert_eq!(
        world.sent(),
        [
            (CLUSTER, names(&["tls"])),
            (ResourceType::Endpoints, names(&["e"])),
            (ResourceType::Secret, names(&["s"])),
        ]
    );
}

#[test]
fn endpoints_whose_removal_is_deferred_are_not_removed_with_a_cluster() {
    let mut world = world();
    let refs = || [(ResourceType::Endpoints, "e".into())];
    let endpoints = resource(ResourceType::Endpoints, "e", b"1");
    world.update(&[cluster("c", false).with_refs(refs()), endpoints], &[]);
    world.subscribe(ResourceType::Endpoints, "e");
    world.settle();
    let changed = resource(CLUSTER, "c", b"2").with_refs(refs());
    world.update(&[changed], &[(ResourceType::Endpoints, "e")]);
    world.settle();
    assert!(world.holds(ResourceType::Endpoints, "e"));
}

#[test]
fn nothing_that_the_last_good_version_needs_is_removed_after_a_nack() {
    let mut world = world();
    let refs = [
        (ResourceType::Endpoints, "e".into()),
        (ResourceType::Secret, "s".into()),
    ];
    world.update(
        &[
            resource(CLUSTER, "old", b"2").with_refs(refs),
            resource(ResourceType::Endpoints, "e", b"1"),
            resource(ResourceType::Secret, "s", b"1"),
            cluster("new", false),
        ],
        &[],
    );
    world.subscribe(ResourceType::Endpoints, "e");
    world.subscribe(ResourceType::Secret, "s");
    world.settle();
    // table `a` is rejected, so the client still serves its last version, with cluster `old`
    world.update(
        &[table("a", BAD, &["new"]), table("b", 2, &["new"])],
        &[
            (CLUSTER, "old"),
            (ResourceType::Endpoints, "e"),
            (ResourceType::Secret, "s"),
        ],
    );
    let held = [
        (CLUSTER, "old"),
        (ResourceType::Endpoints, "e"),
        (ResourceType::Secret, "s"),
    ];
    for _ in 0..3 {
        world.settle();
        for (kind, name) in held {
            assert!(world.holds(kind, name), "{kind} {name} was removed");
        }
        world.now += GRACE + Duration::from_secs(1);
    }
    assert_eq!(world.connection.acked(), world.snapshot.seq);
    // once a newer version is accepted it goes, after the grace period
    world.update(&[table("a", 3, &["new"])], &[]);
    world.settle();
    assert!(world.holds(CLUSTER, "old"), "the grace period is not over");
    world.now += GRACE + Duration::from_secs(1);
    world.settle();
    for (kind, name) in held {
        assert!(!world.holds(kind, name), "{kind} {name} is left");
    }
}

#[test]
fn nothing_is_removed_while_the_client_uses_a_version_of_an_earlier_stream() {
    let mut world = world();
    world.connect();
    world.connection = Connection::new(Protocol::Delta, GRACE);
    world.update(
        &[
            table("a", BAD, &["new"]),
            table("b", 2, &["new"]),
            cluster("new", false),
        ],
        &[(CLUSTER, "old")],
    );
    world.settle();
    world.now += GRACE + Duration::from_secs(1);
    world.settle();
    assert!(world.holds(CLUSTER, "old"));
    world.update(&[table("a", 3, &["new"])], &[]);
    world.settle();
    world.now += GRACE + Duration::from_secs(1);
    world.settle();
    assert!(!world.holds(CLUSTER, "old"));
}

#[test]
fn listener_keeps_the_tables_of_its_last_good_version() {
    let mut world = world();
    let listener = |body: u8, tables: &[&str]| {
        let refs = tables.iter().map(|name| (TABLE, Arc::from(*name)));
        resource(ResourceType::Listener, "l", &[body]).with_refs(refs)
    };
    world.update(&[listener(1, &["a", "b"])], &[]);
    world.settle();
    world.update(
        &[listener(BAD, &["b"]), table("b", 2, &[])],
        &[(TABLE, "a"), (CLUSTER, "old")],
    );
    for _ in 0..3 {
        world.settle();
        world.now += GRACE + Duration::from_secs(1);
    }
    assert!(world.holds(TABLE, "a"));
    assert!(world.holds(CLUSTER, "old"), "table a uses it");
}

const ENDPOINTS: ResourceType = ResourceType::Endpoints;

/// A resource that either variant can decode.
fn plain(kind: ResourceType, name: &str, body: u8) -> Resource {
    resource(kind, name, &[&[body], name.as_bytes()].concat())
}

/// A cluster with endpoints of the same name, and a table `a` that uses it.
fn by_endpoints(name: &str) -> [Resource; 3] {
    let refs = [(ENDPOINTS, name.into())];
    [
        plain(CLUSTER, name, 1).with_refs(refs),
        plain(ENDPOINTS, name, 1),
        plain(TABLE, "a", 2).with_refs([(CLUSTER, name.into())]),
    ]
}

/// A client that subscribes to all clusters and listeners, to table `a`, and to nothing else.
fn world_of(protocol: Protocol) -> World {
    let mut world = World::new(protocol);
    world.update(&[plain(TABLE, "a", 1)], &[]);
    world.subscribe(TABLE, "a");
    world.settle();
    world
}

impl World {
    /// Types of all responses that can be made now.
    fn sent_kinds(&mut self) -> Vec<ResourceType> {
        self.sent().into_iter().map(|(kind, _)| kind).collect()
    }

    /// The server handles all requests.
    fn handle_requests(&mut self) {
        while self.request() {}
    }
}

#[test]
fn table_waits_until_the_client_subscribes_to_its_first_endpoints() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = world_of(protocol);
        world.update(&by_endpoints("c"), &[]);
        assert_eq!(world.sent_kinds(), [CLUSTER], "{protocol:?}");
        assert!(world.connection.acked() < world.snapshot.seq);
        // as Envoy does, before it acknowledges the cluster
        world.subscribe(ENDPOINTS, "c");
        world.handle_requests();
        assert_eq!(world.sent_kinds(), [ENDPOINTS, TABLE], "{protocol:?}");
        world.settle();
        assert_eq!(world.connection.acked(), world.snapshot.seq);
    }
}

#[test]
fn table_waits_for_endpoints_while_others_are_in_flight() {
    for (protocol, in_flight) in [(Protocol::Delta, 4), (Protocol::Sotw, 1)] {
        let mut world = world_of(protocol);
        world.update(&[plain(ENDPOINTS, "b", 0)], &[]);
        world.subscribe(ENDPOINTS, "b");
        world.settle();
        for body in 1..=in_flight {
            world.update(&[plain(ENDPOINTS, "b", body)], &[]);
            assert_eq!(world.sent_kinds(), [ENDPOINTS], "{protocol:?}");
        }
        world.update(&by_endpoints("c"), &[]);
        assert_eq!(world.sent_kinds(), [CLUSTER], "{protocol:?}");
        // the client acknowledges the endpoints, and not yet the cluster
        for _ in 0..in_flight {
            world.receive();
        }
        world.subscribe(ENDPOINTS, "c");
        world.handle_requests();
        assert_eq!(world.sent_kinds(), [ENDPOINTS, TABLE], "{protocol:?}");
    }
}

#[test]
fn table_waits_for_endpoints_no_longer_than_for_the_cluster() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = world_of(protocol);
        world.update(&by_endpoints("c"), &[]);
        assert_eq!(world.sent_kinds(), [CLUSTER], "{protocol:?}");
        // a client that is starting, for which clusters do not warm
        world.receive();
        world.handle_requests();
        assert_eq!(world.sent_kinds(), [TABLE], "{protocol:?}");
    }
}

#[test]
fn table_waits_five_seconds_at_most_for_endpoints() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = world_of(protocol);
        world.update(&by_endpoints("c"), &[]);
        assert_eq!(world.sent_kinds(), [CLUSTER], "{protocol:?}");
        let deadline = world.connection.deadline(world.now).unwrap();
        assert_eq!(deadline - world.now, Duration::from_secs(5));
        world.now = deadline;
        assert_eq!(world.sent_kinds(), [TABLE], "{protocol:?}");
    }
}

#[test]
fn table_of_a_cluster_in_use_does_not_wait_for_endpoints() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = world_of(protocol);
        world.update(&by_endpoints("c"), &[]);
        world.settle();
        let changed = plain(CLUSTER, "c", 2).with_refs([(ENDPOINTS, "c".into())]);
        let table = plain(TABLE, "a", 3).with_refs([(CLUSTER, "c".into())]);
        world.update(&[changed, table], &[]);
        assert_eq!(world.sent_kinds(), [CLUSTER, TABLE], "{protocol:?}");
    }
}

#[test]
fn table_waits_for_the_first_secret_of_a_client() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = world_of(protocol);
        let secret = plain(ResourceType::Secret, "s", 1);
        let refs = [(ENDPOINTS, "c".into()), (ResourceType::Secret, "s".into())];
        let [cluster, endpoints, table] = by_endpoints("c");
        let cluster = cluster.with_refs(refs).with_warming(true);
        world.update(&[secret, cluster, endpoints, table], &[]);
        assert_eq!(world.sent_kinds(), [CLUSTER], "{protocol:?}");
        world.subscribe(ENDPOINTS, "c");
        world.subscribe(ResourceType::Secret, "s");
        world.handle_requests();
        let sent = [ENDPOINTS, ResourceType::Secret];
        assert_eq!(world.sent_kinds(), sent, "{protocol:?}");
        world.settle();
        assert!(world.holds(TABLE, "a"));
        assert_eq!(world.connection.acked(), world.snapshot.seq);
    }
}
