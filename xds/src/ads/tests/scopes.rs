//! Scopes wait for the tables that they select, and listeners for scopes and tables that the client has from other chains.

use super::*;

const LISTENER: ResourceType = ResourceType::Listener;
const SCOPE: ResourceType = ResourceType::Scope;
const TABLE: ResourceType = ResourceType::RouteTable;

const OTHERS: &str = "tcp-80/cleartext/*";
const HOST: &str = "tcp-80/cleartext/a.example";
const LOADING: &str = "loading/tcp-80/cleartext/a.example";

fn selection(name: &str) -> Resource {
    resource(SCOPE, name, b"s").with_refs([(TABLE, name.into())])
}

/// A Host with its table.
fn host() -> [Resource; 3] {
    [
        resource(SCOPE, LOADING, b"l"),
        selection(HOST),
        resource(TABLE, HOST, b"1"),
    ]
}

fn listener(body: u8, of: ResourceType, name: &str) -> Resource {
    resource(LISTENER, "tcp-80", &[body]).with_refs([(of, name.into())])
}

/// A client with a chain whose tables are selected by host name, and none for a name.
fn world() -> World {
    let mut world = World::new(Protocol::Delta);
    let first = [
        listener(1, SCOPE, OTHERS),
        selection(OTHERS),
        resource(TABLE, OTHERS, b"1"),
    ];
    world.update(&first, &[]);
    world.asks_for(OTHERS);
    world.settle();
    world
}

impl World {
    /// Types and names, also of what is removed, in all responses that can be made now.
    fn next(&mut self) -> Vec<(ResourceType, Vec<String>)> {
        let due = self.due().into_iter();
        due.map(|(kind, names, removed)| (kind, [names, removed].concat()))
            .collect()
    }

    fn asks_for(&mut self, table: &str) {
        self.subscribe(TABLE, table);
        while self.request() {}
    }

    fn acknowledge(&mut self) {
        while self.receive() {}
        while self.request() {}
    }
}

fn one(kind: ResourceType, name: &str) -> Vec<(ResourceType, Vec<String>)> {
    vec![(kind, vec![name.to_owned()])]
}

#[test]
fn a_table_is_selected_when_the_client_has_it() {
    let mut world = world();
    world.update(&host(), &[]);
    assert_eq!(world.next(), one(SCOPE, LOADING));
    world.acknowledge();
    assert_eq!(world.next(), []);
    world.asks_for(HOST);
    assert_eq!(world.next(), one(TABLE, HOST));
    assert!(world.connection.acked() < world.snapshot.seq);
    world.acknowledge();
    assert_eq!(world.next(), one(SCOPE, HOST));
    world.settle();
    assert_eq!(world.connection.acked(), world.snapshot.seq);
}

#[test]
fn a_new_client_gets_all_at_once() {
    let mut world = world();
    world.update(&host(), &[]);
    world.connection = Connection::new(Protocol::Delta, Duration::ZERO);
    world.responses.clear();
    world.types[SCOPE.index()] = TypeState::default();
    world.known = Known::default();
    world.send_subscription(SCOPE, Vec::new());
    while world.request() {}
    let names = [LOADING, OTHERS, HOST].map(str::to_owned).to_vec();
    assert_eq!(world.next(), [(SCOPE, names)]);
}

#[test]
fn a_scope_waits_five_seconds_at_most() {
    let mut world = world();
    world.update(&host(), &[]);
    assert_eq!(world.next(), one(SCOPE, LOADING));
    world.acknowledge();
    assert_eq!(world.next(), []);
    let deadline = world.connection.deadline(world.now).unwrap();
    assert_eq!(deadline - world.now, Duration::from_secs(5));
    world.now = deadline;
    assert_eq!(world.next(), one(SCOPE, HOST));
}

#[test]
fn a_host_that_goes_is_not_selected_any_more() {
    let mut world = world();
    world.update(&host(), &[]);
    world.asks_for(HOST);
    world.settle();
    world.update(&[], &[(SCOPE, LOADING), (SCOPE, HOST), (TABLE, HOST)]);
    let names = vec![LOADING.to_owned(), HOST.to_owned()];
    assert_eq!(world.next(), [(SCOPE, names)]);
}

#[test]
fn scopes_stay_until_the_client_has_a_listener_without_them() {
    let mut world = world();
    let gone = [(SCOPE, OTHERS), (TABLE, OTHERS)];
    let table = resource(TABLE, "tcp-80/cleartext", b"1");
    world.update(&[listener(2, TABLE, "tcp-80/cleartext"), table], &gone);
    assert_eq!(world.next(), one(LISTENER, "tcp-80"));
    world.acknowledge();
    assert_eq!(
        world.next(),
        [one(SCOPE, OTHERS), one(TABLE, OTHERS)].concat()
    );
}

#[test]
fn a_listener_waits_for_scopes_and_for_a_table_in_an_old_version() {
    let mut world = world();
    // another chain, of a client that has scopes already
    let others = "tcp-81/cleartext/*";
    let of_other = [
        resource(LISTENER, "tcp-81", b"1").with_refs([(SCOPE, others.into())]),
        resource(SCOPE, &format!("loading/{others}"), b"l"),
        selection(others),
        resource(TABLE, others, b"1"),
    ];
    world.update(&of_other, &[]);
    assert_eq!(world.next(), one(SCOPE, &format!("loading/{others}")));
    world.acknowledge();
    world.asks_for(others);
    assert_eq!(world.next(), one(TABLE, others));
    world.acknowledge();
    assert_eq!(world.next(), one(SCOPE, others));
    world.acknowledge();
    assert_eq!(world.next(), one(LISTENER, "tcp-81"));
    world.settle();
    // a chain with one table, which the client still has for a chain that it drains
    let table = "tcp-80/cleartext";
    world.asks_for(table);
    world.settle();
    let changed = [listener(2, TABLE, table), resource(TABLE, table, b"2")];
    world.update(&changed, &[]);
    assert_eq!(world.next(), one(TABLE, table));
    world.acknowledge();
    assert_eq!(world.next(), one(LISTENER, "tcp-80"));
}

#[test]
fn a_host_is_served_until_the_table_for_others_has_it() {
    let mut world = world();
    world.update(&host(), &[]);
    world.asks_for(HOST);
    world.settle();
    let others = [resource(TABLE, OTHERS, b"2")];
    world.update(&others, &[(SCOPE, LOADING), (SCOPE, HOST), (TABLE, HOST)]);
    assert_eq!(world.next(), one(TABLE, OTHERS));
    world.acknowledge();
    let names = vec![LOADING.to_owned(), HOST.to_owned()];
    assert_eq!(world.next()[0], (SCOPE, names));
}

/// It has subscribed to scopes since it started, and its listeners did not use any.
#[test]
fn a_listener_waits_for_scopes_and_their_tables_after_another_connect() {
    let mut world = World::new(Protocol::Delta);
    let table = "tcp-80/cleartext";
    let first = [listener(1, TABLE, table), resource(TABLE, table, b"1")];
    world.update(&first, &[]);
    world.asks_for(table);
    world.settle();
    let next = [
        listener(2, SCOPE, OTHERS),
        selection(OTHERS),
        resource(TABLE, OTHERS, b"1"),
    ];
    world.update(&next, &[]);
    world.connect();
    while world.request() {}
    let first = world.next();
    assert!(first.contains(&one(SCOPE, OTHERS)[0]), "{first:?}");
    let is_early =
        |(kind, names): &(ResourceType, Vec<String>)| *kind == LISTENER && !names.is_empty();
    assert!(!first.iter().any(is_early), "{first:?}");
    world.acknowledge();
    assert_eq!(world.next(), []);
    world.asks_for(OTHERS);
    assert_eq!(world.next(), one(TABLE, OTHERS));
    world.acknowledge();
    assert_eq!(world.next(), one(LISTENER, "tcp-80"));
}

/// Envoy subscribes to scopes once for all listeners, and only the first of them waits for the answer.
#[test]
fn of_listeners_that_begin_to_use_scopes_one_is_first() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut world = World::new(protocol);
        let is_scope = |request: &Request| match request {
            Request::Delta(request) => request.type_url == SCOPE.type_url(),
            Request::Sotw(request) => request.type_url == SCOPE.type_url(),
        };
        world.requests.retain(|request| !is_scope(request));
        world.types[SCOPE.index()].started = false;
        // in SotW a body has the name
        let listener = |name: &str, kind: ResourceType, of: &str| {
            let body = [of.as_bytes(), name.as_bytes()].concat();
            resource(LISTENER, name, &body).with_refs([(kind, of.into())])
        };
        world.settle();
        let of = |name: &str| {
            let scope = format!("{name}/cleartext/*");
            let body = format!("1{scope}");
            let selection = resource(SCOPE, &scope, body.as_bytes());
            [
                listener(name, SCOPE, &scope),
                selection.with_refs([(TABLE, scope.as_str().into())]),
                resource(TABLE, &scope, body.as_bytes()),
            ]
        };
        world.update(&[of("tcp-80"), of("tcp-81")].concat(), &[]);
        let first = world.due();
        assert_eq!(first.len(), 1, "{protocol:?}");
        assert!(first[0].1[0].ends_with("tcp-80"), "{protocol:?}: {first:?}");
        world.acknowledge();
        assert_eq!(world.due(), [], "{protocol:?}");
        world.send_subscription(SCOPE, Vec::new());
        while world.request() {}
        assert_eq!(world.due()[0].0, SCOPE, "{protocol:?}");
        world.acknowledge();
        assert_eq!(world.due(), [], "{protocol:?}: the tables are missing");
        for name in ["tcp-80", "tcp-81"] {
            world.subscribe(TABLE, &format!("{name}/cleartext/*"));
        }
        while world.request() {}
        assert_eq!(world.due()[0].0, TABLE, "{protocol:?}");
        world.acknowledge();
        let second = world.due();
        assert_eq!(second[0].0, LISTENER, "{protocol:?}");
        let name = second[0].1.last().unwrap();
        assert!(name.ends_with("tcp-81"), "{protocol:?}: {second:?}");
    }
}
