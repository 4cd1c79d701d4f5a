//! Findings under stress, each as a schedule of its own: streams that must not spin, rejections that must end, and ACKs that
//! come later than changes.

use std::time::Duration;

use super::*;

pub(super) const GRACE: Duration = Duration::from_secs(10);

/// A client that subscribes to all clusters and listeners and to this table.
fn world(first: &[Resource]) -> World {
    let mut world = World::new(Protocol::Delta);
    world.connection = Connection::new(Protocol::Delta, GRACE);
    world.snapshot = Arc::new(world.snapshot.next(first, &[]).unwrap());
    world.subscribe(ResourceType::RouteTable, "b");
    world.settle();
    world
}

impl World {
    pub(super) fn update(&mut self, upserts: &[Resource], removals: &[(ResourceType, &str)]) {
        let removals: Vec<(ResourceType, Arc<str>)> = removals
            .iter()
            .map(|(kind, name)| (*kind, Arc::from(*name)))
            .collect();
        self.snapshot = Arc::new(self.snapshot.next(upserts, &removals).unwrap());
    }

    pub(super) fn holds(&self, kind: ResourceType, name: &str) -> bool {
        self.types[kind.index()].held.contains_key(name)
    }

    /// The last response, decoded, answered with a NACK.
    fn reject_next(&mut self, message: &str) -> Option<(Vec<Received>, Vec<String>)> {
        let response = self.connection.poll(&self.snapshot, self.now)?;
        let (received, removed, nonce, _) = self.decode(&response);
        self.connection.on_delta(DeltaDiscoveryRequest {
            type_url: response.kind.type_url().to_owned(),
            response_nonce: nonce,
            error_detail: Some(rpc::Status {
                message: message.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        });
        Some((received, removed))
    }
}

#[test]
fn stream_sleeps_while_a_removal_waits_for_a_table() {
    let mut world = World::new(Protocol::Delta);
    world.connection = Connection::new(Protocol::Delta, GRACE);
    let first = [
        resource(ResourceType::Cluster, "a", b"1"),
        resource(ResourceType::RouteTable, "b", b"1"),
    ];
    world.snapshot = Arc::new(world.snapshot.next(&first, &[]).unwrap());
    world.settle();
    world.update(&[], &[(ResourceType::Cluster, "a")]);
    world.settle();
    // in the grace period the client subscribes to its first table, and is slow to acknowledge it
    world.subscribe(ResourceType::RouteTable, "b");
    while world.request() {}
    while world.poll() {}
    world.now += GRACE + Duration::from_secs(1);
    while world.poll() {} // asserts that no deadline is due without a response
    assert!(world.holds(ResourceType::Cluster, "a"));
    world.settle();
    world.now += GRACE + Duration::from_secs(1);
    world.settle();
    assert!(!world.holds(ResourceType::Cluster, "a"));
}

#[test]
fn rejected_removal_is_not_sent_again() {
    let mut world = world(&[resource(ResourceType::Listener, "a", b"1")]);
    world.update(&[], &[(ResourceType::Listener, "a")]);
    let (received, removed) = world.reject_next("no").expect("the removal is sent");
    assert!(received.is_empty());
    assert_eq!(removed, ["a"]);
    assert!(
        world.reject_next("no").is_none(),
        "a rejected removal is sent again"
    );
    assert_eq!(world.connection.acked(), world.snapshot.seq);
}

/// Responses until the only culprit among many clusters is found.
fn responses_until_isolated(hint: bool) -> usize {
    let mut world = world(&[resource(ResourceType::Listener, "a", b"1")]);
    let bad = 3_141;
    let many: Vec<Resource> = (0..5_000)
        .map(|n| {
            let body = if n == bad { BAD } else { 1 };
            let name = format!("cluster-{n}");
            let body = [&[body], name.as_bytes(), &[b'-'; 150]].concat();
            resource(ResourceType::Cluster, &name, &body)
        })
        .collect();
    world.update(&many, &[]);
    let mut responses = 0;
    while let Some(response) = world.connection.poll(&world.snapshot, world.now) {
        responses += 1;
        let (received, _, nonce, _) = world.decode(&response);
        let is_bad = received.iter().any(|found| found.body[0] == BAD);
        let message = if hint {
            format!("Error adding/updating cluster(s) cluster-{bad}: no")
        } else {
            "no".to_owned()
        };
        world.connection.on_delta(DeltaDiscoveryRequest {
            type_url: response.kind.type_url().to_owned(),
            response_nonce: nonce,
            error_detail: is_bad.then(|| rpc::Status {
                message,
                ..Default::default()
            }),
            ..Default::default()
        });
    }
    assert_eq!(world.connection.acked(), world.snapshot.seq);
    responses
}

#[test]
fn culprit_among_thousands_is_found_by_bisection() {
    let responses = responses_until_isolated(false);
    assert!(responses <= 2 + 2 * 13, "{responses} responses");
}

#[test]
fn culprit_that_the_error_names_is_found_at_once() {
    let responses = responses_until_isolated(true);
    assert!(responses <= 4, "{responses} responses");
}

#[test]
fn acknowledged_sequence_advances_while_changes_come_faster_than_acks() {
    let mut world = world(&[resource(ResourceType::RouteTable, "b", b"0")]);
    let before = world.connection.acked();
    for change in 1..=20_u8 {
        // a change arrives between every response and its ACK
        world.update(&[resource(ResourceType::RouteTable, "b", &[change])], &[]);
        world.poll();
        world.update(
            &[resource(ResourceType::RouteTable, "b", &[change + 100])],
            &[],
        );
        world.receive();
        world.request();
        world.poll();
    }
    assert!(
        world.connection.acked() > before + 30,
        "only snapshot {} of {} counts as acknowledged",
        world.connection.acked(),
        world.snapshot.seq
    );
}

#[test]
fn rejected_name_gets_a_response_when_it_is_subscribed_again() {
    let mut world = world(&[resource(ResourceType::RouteTable, "b", b"1")]);
    world.update(&[resource(ResourceType::RouteTable, "b", &[BAD])], &[]);
    world.settle();
    // without leaving first: the client has forgotten what it had
    world.send_subscription(ResourceType::RouteTable, vec!["b".to_owned()]);
    while world.request() {}
    let response = world.connection.poll(&world.snapshot, world.now);
    let response = response.expect("a response");
    let (received, removed, ..) = world.decode(&response);
    assert!(removed.is_empty());
    assert_eq!(received[0].body[..], *b"1", "the last accepted version");
    // a new secret has no accepted version
    world.update(&[resource(ResourceType::Secret, "s", &[BAD])], &[]);
    world.subscribe(ResourceType::Secret, "s");
    world.settle();
    world.send_subscription(ResourceType::Secret, vec!["s".to_owned()]);
    while world.request() {}
    let response = world.connection.poll(&world.snapshot, world.now);
    let (received, removed, ..) = world.decode(&response.expect("a response"));
    assert!(received.is_empty());
    assert_eq!(removed, ["s"]);
}

#[test]
fn what_one_envoy_rejected_is_sent_alone_to_others() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = World::new(protocol);
        world.settle();
        let bad = Resource::new(ResourceType::Cluster, "b", Bytes::from_static(b"\xffb"));
        let mut suspects = Suspects::default();
        suspects.insert((ResourceType::Cluster, "b".into(), bad.version));
        world.connection.set_suspects(suspects);
        let good = |name: &'static str| {
            let body = [&[1], name.as_bytes()].concat().into();
            Resource::new(ResourceType::Cluster, name, body)
        };
        world.update(&[good("a"), bad, good("c")], &[]);
        world.poll();
        let (received, ..) = world.decode(world.responses.back().unwrap());
        let names: Vec<&str> = received.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["a", "c"], "{protocol:?}");
        world.settle();
        assert!(world.holds(ResourceType::Cluster, "c"));
        let rejected = [(ResourceType::Cluster, "b".to_owned())];
        assert_eq!(world.connection.rejected(), rejected.into());
    }
}
