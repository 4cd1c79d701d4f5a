//! Listeners whose addresses the client cannot bind.

use super::*;
use crate::ads::subscription::Nack;

const TAKEN: &str = "a: cannot bind '127.0.0.1:80': Address already in use";

/// A client of listeners that has acknowledged nothing yet.
fn world(protocol: Protocol, bodies: &[(&str, &'static [u8])]) -> World {
    let mut world = World::new(protocol);
    put(&mut world, bodies);
    while world.request() {}
    world
}

fn put(world: &mut World, bodies: &[(&str, &'static [u8])]) {
    let listeners = bodies
        .iter()
        .map(|(name, body)| resource(ResourceType::Listener, name, body));
    let listeners: Vec<Resource> = listeners.collect();
    world.snapshot = Arc::new(world.snapshot.next(&listeners, &[]).unwrap());
}

/// Names of the listeners in the next response of that type, which the client rejects with this text, or accepts.
fn answer(world: &mut World, error: Option<&str>) -> Option<(Vec<String>, RequestKind)> {
    let response = loop {
        let response = world.connection.poll(&world.snapshot, world.now)?;
        if response.kind == ResourceType::Listener {
            break response;
        }
        respond(world, &response, None);
    };
    let (received, ..) = world.decode(&response);
    let names = received.into_iter().map(|found| found.name);
    let names = names.collect();
    Some((names, respond(world, &response, error)))
}

fn respond(world: &mut World, response: &Response, error: Option<&str>) -> RequestKind {
    let type_url = response.kind.type_url().to_owned();
    let (.., response_nonce, _) = world.decode(response);
    let error_detail = error.map(|message| rpc::Status {
        message: message.to_owned(),
        ..Default::default()
    });
    let (_, kind) = match world.protocol {
        Protocol::Delta => world.connection.on_delta(DeltaDiscoveryRequest {
            type_url,
            response_nonce,
            error_detail,
            ..Default::default()
        }),
        Protocol::Sotw => world.connection.on_sotw(DiscoveryRequest {
            type_url,
            response_nonce,
            error_detail,
            ..Default::default()
        }),
    };
    kind
}

/// Changes of what the client rejects: names, and whether they are rejected now.
fn changes(world: &mut World) -> Vec<(String, bool)> {
    let changes = world.connection.take_rejection_changes();
    changes
        .map(|(_, change)| (change.name.to_string(), change.rejected.is_some()))
        .collect()
}

/// Passes the time until the server wants to send something.
fn sleep(world: &mut World) -> Duration {
    let deadline = world.connection.deadline(world.now).expect("a deadline");
    let slept = deadline - world.now;
    world.now = deadline;
    slept
}

#[test]
fn listener_that_cannot_be_bound_is_sent_again_with_growing_pauses() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = world(protocol, &[("a", b"1a")]);
        let (names, kind) = answer(&mut world, Some(TAKEN)).unwrap();
        assert_eq!(names, ["a"]);
        assert_eq!(kind, RequestKind::Nack(Nack::New));
        while answer(&mut world, None).is_some() {}
        assert_eq!(changes(&mut world), [("a".to_owned(), true)]);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(sleep(&mut world).as_secs());
            let acked = world.connection.acked();
            let (names, kind) = answer(&mut world, Some(TAKEN)).unwrap();
            assert_eq!(names, ["a"]);
            assert_eq!(kind, RequestKind::Nack(Nack::Again), "it is no news");
            while answer(&mut world, None).is_some() {}
            assert_eq!(world.connection.acked(), acked);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(changes(&mut world), [], "{protocol:?}");

        // the address is free
        sleep(&mut world);
        let (names, kind) = answer(&mut world, None).unwrap();
        assert_eq!(names, ["a"]);
        assert!(matches!(kind, RequestKind::Ack { .. }), "{kind:?}");
        assert_eq!(changes(&mut world), [("a".to_owned(), false)]);
        assert!(answer(&mut world, None).is_none());
        assert_eq!(world.connection.deadline(world.now), None);
    }
}

#[test]
fn only_the_listener_that_cannot_be_bound_is_sent_again() {
    let mut world = world(Protocol::Delta, &[("a", b"1"), ("b", b"1")]);
    answer(&mut world, Some(TAKEN)).unwrap();
    // the error names it, so it is tried alone
    let (names, _) = answer(&mut world, Some(TAKEN)).unwrap();
    assert_eq!(names, ["a"]);
    let (names, _) = answer(&mut world, None).unwrap();
    assert_eq!(names, ["b"]);
    // a change of another listener is not held back, and does not send this one
    put(&mut world, &[("b", b"2")]);
    let (names, _) = answer(&mut world, None).unwrap();
    assert_eq!(names, ["b"]);
    sleep(&mut world);
    let (names, _) = answer(&mut world, Some(TAKEN)).unwrap();
    assert_eq!(names, ["a"]);
    assert!(answer(&mut world, None).is_none());
}

#[test]
fn other_rejections_are_not_sent_again() {
    let mut world = world(Protocol::Delta, &[("a", b"1")]);
    answer(&mut world, Some("a: unknown filter")).unwrap();
    assert!(answer(&mut world, None).is_none());
    assert_eq!(world.connection.deadline(world.now), None);

    // one that could not be bound before, either
    put(&mut world, &[("a", b"2")]);
    answer(&mut world, Some(TAKEN)).unwrap();
    sleep(&mut world);
    answer(&mut world, Some("a: unknown filter")).unwrap();
    assert_eq!(world.connection.deadline(world.now), None);
    let changes = changes(&mut world);
    let rejected = changes.iter().filter(|(_, rejected)| *rejected).count();
    assert_eq!(
        rejected * 2,
        changes.len() + 1,
        "each has an end: {changes:?}"
    );
}

#[test]
fn version_that_returns_is_sent_at_once() {
    let mut world = world(Protocol::Delta, &[("a", b"1")]);
    answer(&mut world, Some(TAKEN)).unwrap();
    put(&mut world, &[("a", b"2")]);
    answer(&mut world, Some(TAKEN)).unwrap();
    put(&mut world, &[("a", b"1")]);
    let (names, _) = answer(&mut world, None).unwrap();
    assert_eq!(names, ["a"]);
    assert_eq!(world.connection.deadline(world.now), None);
}
