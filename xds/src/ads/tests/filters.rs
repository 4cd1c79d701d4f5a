//! Filters: they wait for the clusters that they call, and are never taken from a client that has them.

use super::{stress::GRACE, *};

const CLUSTER: ResourceType = ResourceType::Cluster;
const FILTER: ResourceType = ResourceType::Filter;

fn cluster(name: &str, warms: bool) -> Resource {
    resource(CLUSTER, name, b"1").with_warming(warms)
}

fn filter(body: u8, cluster: &str) -> Resource {
    resource(FILTER, "a", &[body]).with_refs([(CLUSTER, Arc::from(cluster))])
}

/// A client that has the filter `a`, which calls the cluster `old`.
fn world() -> World {
    let mut world = World::new(Protocol::Delta);
    world.connection = Connection::new(Protocol::Delta, GRACE);
    let first = [cluster("old", false), filter(1, "old")];
    world.snapshot = Arc::new(world.snapshot.next(&first, &[]).unwrap());
    world.subscribe(FILTER, "a");
    world.settle();
    world
}

impl World {
    /// Types of the responses that can be made now, with the number of their resources.
    fn responses_now(&mut self) -> Vec<(ResourceType, usize)> {
        let before = self.responses.len();
        while self.poll() {}
        let responses = self.responses.iter().skip(before);
        responses
            .map(|response| (response.kind, response.resources))
            .collect()
    }
}

#[test]
fn filter_waits_for_a_cluster_that_warms_and_keeps_the_old_one() {
    let mut world = world();
    let old = [(CLUSTER, "old")];
    world.update(&[cluster("new", true), filter(2, "new")], &old);
    assert_eq!(world.responses_now(), [(CLUSTER, 1)]);
    while world.receive() {}
    while world.request() {}
    assert_eq!(world.responses_now(), [(FILTER, 1)], "`new` is warm");
    while world.receive() {}
    while world.request() {}
    assert_eq!(world.responses_now(), [], "the grace period has begun");
    world.now += GRACE * 2;
    assert_eq!(world.responses_now(), [(CLUSTER, 1)], "`old` is removed");
}

#[test]
fn filter_that_is_gone_stays_with_a_client_that_has_it() {
    let mut world = world();
    world.update(&[], &[(FILTER, "a")]);
    assert_eq!(world.responses_now(), []);
    assert_eq!(world.connection.acked(), world.snapshot.seq);
    // one that does not have it must learn that there is none, or it waits
    world.subscribe(FILTER, "b");
    while world.request() {}
    assert_eq!(world.responses_now(), [(FILTER, 1)]);
}
