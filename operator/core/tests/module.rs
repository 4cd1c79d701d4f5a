//! A change of one key of the Module touches what depends on it, and nothing else: which resources may differ, and how many.
use std::collections::BTreeMap;

use nuncio_core::{
    change::{Change, Source},
    object::Kind,
    reconcile::{module::keys, reconcile},
    settings::Settings,
    store::Store,
};
use nuncio_ir::Discovery;
use nuncio_xds::{ResourceType, Unit, render};
use serde_json::{Value, json};

const MAPPINGS: usize = 20;

fn object(kind: Kind, name: &str, spec: &Value) -> Change {
    let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let reconciled = reconcile(kind, value, &Settings::default());
    Change::Apply(Source::Api, reconciled.into())
}

fn module(config: &Value) -> Change {
    object(Kind::Module, "ambassador", &json!({"config": config}))
}

/// A Store with as many Hosts with a Mapping each, and with this Module.
fn store(config: &Value, hosts: usize) -> Store {
    let mut store = Store::new(Settings::default());
    let all = json!({"namespace": {"from": "ALL"}});
    let listener =
        json!({"port": 8080, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": all});
    store.apply(object(Kind::Listener, "http", &listener));
    for number in 0..hosts {
        let host = format!("h{number}.example");
        store.apply(object(
            Kind::Host,
            &host,
            &json!({
            "hostname": host, "requestPolicy": {"insecure": {"action": "Route"}}}),
        ));
        let service = format!("s{number}.example");
        let spec = json!({"hostname": host, "prefix": "/", "service": service});
        store.apply(object(Kind::Mapping, &host, &spec));
    }
    store.apply(module(config));
    store.link();
    store
}

/// Resources that differ after the Module was changed, by type, and how many were looked at.
fn changed(before: &Value, after: &Value) -> (BTreeMap<ResourceType, usize>, usize) {
    let mut store = store(before, MAPPINGS);
    let old = store.ir().clone();
    store.apply(module(after));
    let units = store.link().units;
    let differs = |unit: &&Unit| render(unit, &old) != render(unit, store.ir());
    let mut counts = BTreeMap::new();
    for unit in units.iter().filter(differs) {
        *counts.entry(unit.kind()).or_default() += 1;
    }
    (counts, units.len())
}

#[test]
fn a_key_changes_only_what_depends_on_it() {
    use ResourceType::{Cluster, Filter, Listener, RouteTable};
    let cases: [(Value, &[(ResourceType, usize)]); 14] = [
        (json!({"server_name": "a"}), &[(Listener, 1)]),
        (json!({"merge_slashes": true}), &[(Listener, 1)]),
        (json!({"buffer_limit_bytes": 5000}), &[(Listener, 1)]),
        (json!({"envoy_log_type": "json"}), &[(Listener, 1)]),
        (json!({"lua_scripts": "-- b"}), &[(Filter, 1)]),
        (
            json!({"lua_scripts": "-- a", "gzip": {}}),
            &[(Filter, 1), (Listener, 1)],
        ),
        (
            json!({"ip_deny": [{"peer": "10.0.0.1"}]}),
            &[(Filter, 1), (Listener, 1)],
        ),
        (json!({"cluster_request_timeout_ms": 5}), &[(RouteTable, 1)]),
        (
            json!({"cors": {"origins": ["*"]}}),
            &[(RouteTable, 1), (Listener, 0)],
        ),
        (
            json!({"diagnostics": {"enabled": true}}),
            &[(RouteTable, 1), (Cluster, 1)],
        ),
        (json!({"regex_max_size": 100}), &[]),
        (json!({"debug_mode": true, "unknown": 1}), &[]),
        (json!({"diagnostics": {"allow_non_local": true}}), &[]),
        (
            json!({"liveness_probe": {"enabled": false}}),
            &[(RouteTable, 1)],
        ),
    ];
    for (mut after, expected) in cases {
        let before = json!({"lua_scripts": "-- a"});
        if after.get("lua_scripts").is_none() {
            after["lua_scripts"] = before["lua_scripts"].clone();
        }
        let (found, looked_at) = changed(&before, &after);
        let expected: BTreeMap<_, usize> = expected
            .iter()
            .copied()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(found, expected, "{after}");
        assert_eq!(
            looked_at,
            expected.values().sum::<usize>(),
            "{after}: looked at more than that"
        );
    }
}

#[test]
fn a_key_for_clusters_changes_clusters_and_no_listener() {
    let (found, _) = changed(&json!({}), &json!({"cluster_idle_timeout_ms": 5}));
    assert!(!found.contains_key(&ResourceType::Listener), "{found:?}");
    // the name of a cluster has its settings, so that one comes and one goes
    assert_eq!(found[&ResourceType::Cluster], 2 * MAPPINGS);
}

#[test]
fn without_the_module_everything_is_as_before() {
    let mut store = store(&json!({}), MAPPINGS);
    let plain = store.ir().clone();
    let config = json!({
        "server_name": "a", "gzip": {}, "lua_scripts": "-- a", "ip_allow": [{"peer": "10.0.0.1"}],
        "enable_grpc_web": true, "cluster_request_timeout_ms": 5, "load_balancer": {"policy": "least_request"},
        "resolver": "endpoint", "diagnostics": {"enabled": true}, "envoy_log_path": "/dev/null",
        "defaults": {"add_response_headers": {"x-a": "b"}, "stats_name": "a"},
    });
    store.apply(module(&config));
    store.link();
    let name = nuncio_core::object::ObjectRef::new(Kind::Module, "default", "ambassador");
    store.apply(Change::Delete(Source::Api, name));
    let units = store.link().units;
    assert!(!units.is_empty());
    for unit in plain.units().chain(units) {
        let name = unit.name();
        assert_eq!(render(&unit, &plain), render(&unit, store.ir()), "{name}");
    }
}

#[test]
fn any_value_of_any_key_leaves_the_other_keys_alone() {
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\n%"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([null, 1, "a", [], {}]),
        json!({}),
        json!({"a": {"b": [1]}}),
        Value::from(vec![json!({"peer": "10.0.0.1"}); 10_000]),
        Value::from(vec!["a"; 10_000]),
    ];
    let keys = keys();
    assert!(keys.len() > 60, "{keys:?}");
    for key in &keys {
        for value in &values {
            let mut config = json!({key: value});
            let probe = if key == "server_name" {
                "merge_slashes"
            } else {
                "server_name"
            };
            config[probe] = json!("true");
            let store = store(&config, 1);
            let (_, listener) = store.ir().listeners.iter().next().unwrap();
            let http = &listener.http;
            assert!(
                http.server_name == "true" || http.merge_slashes,
                "{key}: {value}"
            );
        }
    }
}

#[test]
fn only_diagnostics_may_be_a_port_of_the_control_plane() {
    let diagnostics = module(&json!({"diagnostics": {"enabled": true}}));
    let spec = json!({
        "hostname": "*",
        "prefix": "/admin/",
        "service": "127.0.0.1:8877",
        "cluster_tag": "diagnostics",
    });
    let mapping = object(Kind::Mapping, "tenant", &spec);
    let discovery = |changes: [&Change; 2]| {
        let settings = Settings {
            own_ports: [8877].into(),
            ..Settings::default()
        };
        let mut store = Store::new(settings);
        for change in changes {
            store.apply(change.clone());
            store.link();
        }
        let clusters = store.ir().clusters.iter();
        let found = clusters.map(|(name, cluster)| (name.clone(), cluster.discovery.clone()));
        found.collect::<BTreeMap<_, _>>()
    };
    let found = discovery([&diagnostics, &mapping]);
    assert_eq!(found, discovery([&mapping, &diagnostics]));
    let reachable = found
        .iter()
        .filter(|(_, found)| **found != Discovery::Empty);
    let reachable: Vec<&str> = reachable.map(|(name, _)| &**name).collect();
    assert_eq!(reachable, ["127.0.0.1:8877/own"]);
    assert_eq!(found.len(), 2);
}
