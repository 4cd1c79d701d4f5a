use std::collections::BTreeSet;

use nuncio_ir::{FilterSettings, HttpFilter, Unit};
use serde_json::{Value, json};

use crate::{
    change::{Change, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    settings::Settings,
    store::Store,
};

const DEFAULT: HttpFilter = HttpFilter::Authorization(None);

fn apply(store: &mut Store, kind: Kind, name: &str, spec: &Value) {
    let value = json!({"metadata": {"name": name}, "spec": spec});
    let reconciled = reconcile(kind, value, &Settings::default());
    store.apply(Change::Apply(Source::Api, Box::new(reconciled)));
}

fn delete(store: &mut Store, kind: Kind, name: &str) {
    let object = ObjectRef::new(kind, "default", name);
    store.apply(Change::Delete(Source::Api, object));
}

/// A gateway with a Mapping for each of these Hosts.
fn gateway(hosts: usize) -> Store {
    gateway_with(hosts, Settings::default())
}

fn gateway_with(hosts: usize, settings: Settings) -> Store {
    let mut store = Store::new(settings);
    let listener = json!({"port": 8080, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}});
    apply(&mut store, Kind::Listener, "http", &listener);
    for number in 0..hosts {
        let hostname = format!("h{number}.example");
        let (name, host) = (
            format!("h{number}"),
            json!({"hostname": hostname, "requestPolicy": {"insecure": {"action": "Route"}}}),
        );
        apply(&mut store, Kind::Host, &name, &host);
        let mapping = json!({"hostname": hostname, "prefix": "/", "service": "10.0.0.1"});
        apply(&mut store, Kind::Mapping, &name, &mapping);
    }
    store.link();
    store
}

fn units(store: &mut Store) -> BTreeSet<Unit> {
    store.link().units
}

fn cluster(name: &str) -> Unit {
    Unit::Cluster(name.into())
}

#[test]
fn a_change_of_settings_is_one_resource_at_1000_hosts() {
    // on chains with one table, as those of TLS
    let mut store = gateway_with(
        1000,
        Settings {
            least_tables_by_host: usize::MAX,
            ..Settings::default()
        },
    );
    let filter = Unit::Filter(DEFAULT);
    let mut spec = json!({"auth_service": "10.0.0.2"});
    apply(&mut store, Kind::AuthService, "auth", &spec);
    let added = BTreeSet::from([cluster("10.0.0.2:80"), filter.clone()]);
    assert_eq!(units(&mut store), added, "adding it");
    for (field, value) in [
        ("timeout_ms", json!(1)),
        ("failure_mode_allow", json!(true)),
        ("path_prefix", json!("/check")),
        ("add_linkerd_headers", json!(true)),
        ("timeout_ms", json!("soon")),
        ("timeout_ms", json!(2)),
    ] {
        spec[field] = value;
        apply(&mut store, Kind::AuthService, "auth", &spec);
        let mut changed = units(&mut store);
        changed.remove(&cluster("10.0.0.2:80"));
        assert_eq!(changed, BTreeSet::from([filter.clone()]), "{spec}");
    }
    delete(&mut store, Kind::AuthService, "auth");
    assert_eq!(units(&mut store), added, "removing it");
    assert_eq!(*store.ir().filters[&DEFAULT], FilterSettings::Off);
}

#[test]
fn the_first_one_moves_cleartext_hosts_into_one_table_and_its_changes_are_one_resource() {
    let mut store = gateway(1000);
    let mut spec = json!({"auth_service": "10.0.0.2"});
    apply(&mut store, Kind::AuthService, "auth", &spec);
    let moved = units(&mut store);
    assert!(moved.contains(&Unit::Filter(DEFAULT)));
    assert_eq!(store.ir().route_tables.len(), 1);
    spec["timeout_ms"] = json!(1);
    apply(&mut store, Kind::AuthService, "auth", &spec);
    let mut changed = units(&mut store);
    changed.remove(&cluster("10.0.0.2:80"));
    assert_eq!(changed, BTreeSet::from([Unit::Filter(DEFAULT)]));
    delete(&mut store, Kind::AuthService, "auth");
    assert_eq!(units(&mut store), moved, "and back");
    assert_eq!(store.ir().route_tables.len(), 1001);
}

#[test]
fn listeners_have_the_filters_of_named_services_only() {
    let mut store = gateway(1);
    let named = json!({"auth_service": "10.0.0.3", "default": false});
    apply(&mut store, Kind::AuthService, "some", &named);
    assert_eq!(units(&mut store), BTreeSet::from([cluster("10.0.0.3:80")]));
    let mapping = json!({"hostname": "h0.example", "prefix": "/a/", "service": "10.0.0.1", "auth_service": "some"});
    apply(&mut store, Kind::Mapping, "named", &mapping);
    store.link();
    let filter = HttpFilter::Authorization(Some("default/some".into()));
    let listener = store.ir().listeners.values().next().unwrap().clone();
    assert!(listener.filters.contains(&filter));
    delete(&mut store, Kind::AuthService, "some");
    store.link();
    assert!(matches!(
        &*store.ir().filters[&filter],
        FilterSettings::AuthorizationError(_)
    ));
    delete(&mut store, Kind::Mapping, "named");
    store.link();
    assert!(!store.ir().filters.contains_key(&filter));
    let listener = store.ir().listeners.values().next().unwrap().clone();
    assert!(!listener.filters.contains(&filter));
}

#[test]
fn services_without_the_tls_that_they_need_are_not_called() {
    let mut store = gateway(1);
    let spec = json!({"auth_service": "10.0.0.2", "tls": "context", "failure_mode_allow": true});
    apply(&mut store, Kind::AuthService, "auth", &spec);
    store.link();
    let is_closed = |store: &Store| {
        matches!(
            &*store.ir().filters[&DEFAULT],
            FilterSettings::AuthorizationError(_)
        )
    };
    assert!(is_closed(&store));
    apply(
        &mut store,
        Kind::TlsContext,
        "context",
        &json!({"sni": "a.example"}),
    );
    store.link();
    assert!(!is_closed(&store));
    delete(&mut store, Kind::TlsContext, "context");
    store.link();
    assert!(is_closed(&store));
}

#[test]
fn an_own_endpoint_is_not_an_authorization_service() {
    let settings = Settings {
        own_ports: [8005].into(),
        ..Settings::default()
    };
    let mut store = Store::new(settings);
    let spec = json!({"auth_service": "127.0.0.1:8005", "failure_mode_allow": true});
    apply(&mut store, Kind::AuthService, "auth", &spec);
    store.link();
    assert!(matches!(
        &*store.ir().filters[&DEFAULT],
        FilterSettings::AuthorizationError(_)
    ));
}

#[test]
fn clusters_of_several_services_are_released() {
    let mut store = gateway(0);
    for (name, service) in [("a", "10.0.0.2"), ("b", "10.0.0.3")] {
        apply(
            &mut store,
            Kind::AuthService,
            name,
            &json!({"auth_service": service}),
        );
    }
    store.link();
    assert_eq!(store.ir().clusters.len(), 3);
    delete(&mut store, Kind::AuthService, "b");
    store.link();
    assert_eq!(store.ir().clusters.len(), 1);
    delete(&mut store, Kind::AuthService, "a");
    store.link();
    assert_eq!(store.ir().clusters.len(), 0);
}

#[test]
fn many_headers_are_united_once() {
    let mut store = gateway(0);
    let names: Vec<String> = (0..10_000)
        .map(|number| format!("x-{}", number % 5000))
        .collect();
    let spec = json!({"auth_service": "10.0.0.2", "allowed_request_headers": names});
    apply(&mut store, Kind::AuthService, "auth", &spec);
    store.link();
    let FilterSettings::Authorization(service) = &*store.ir().filters[&DEFAULT] else {
        panic!("not called");
    };
    let nuncio_ir::AuthorizationCall::Http(http) = &service.call else {
        panic!("not http");
    };
    assert_eq!(http.request_headers.len(), 5000 + 8);
}
