use std::collections::BTreeSet;

use nuncio_ir::PathMatch;
use serde_json::{Value, json};

use super::*;
use crate::{change::Change, object::Kind, settings::Settings};

struct World {
    store: Store,
}

impl World {
    fn new() -> Self {
        let mut store = Store::new(Settings::default());
        let listener = json!({
            "metadata": {"name": "http", "namespace": "default"},
            "spec": {"port": 8080, "protocol": "HTTP", "securityModel": "INSECURE", "hostBinding": {"namespace": {"from": "ALL"}}}
        });
        let found = reconcile(Kind::Listener, listener, &Settings::default());
        store.apply(Change::Apply(Source::Api, found.into()));
        Self { store }
    }

    fn apply(&mut self, kind: Kind, name: &str, annotations: &Value, spec: &Value) {
        let value = json!({
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": spec
        });
        let found = reconcile(kind, value, &Settings::default());
        self.store.apply(Change::Apply(Source::Api, found.into()));
        self.store.link();
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        let namespace = if kind == Kind::IngressClass {
            ""
        } else {
            "default"
        };
        let object = ObjectRef::new(kind, namespace, name);
        self.store.apply(Change::Delete(Source::Api, object));
        self.store.link();
    }

    /// What there is of Hosts and Mappings, and whether each is served.
    fn generated(&self) -> Vec<String> {
        let reports = self.store.reports().iter();
        let of_kind =
            reports.filter(|(object, _)| matches!(object.kind, Kind::Host | Kind::Mapping));
        let shown = of_kind.map(|(object, report)| {
            let service = if report.in_service {
                ""
            } else {
                ", not served"
            };
            format!("{} {}{service}", object.kind, object.name)
        });
        shown.collect()
    }

    fn problems(&self, name: &str) -> Vec<String> {
        let object = ObjectRef::new(Kind::Ingress, "default", name);
        let report = self.store.reports().get(&object);
        let problems = report.into_iter().flat_map(|report| &report.problems);
        problems
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    /// The paths of all routes.
    fn paths(&self) -> BTreeSet<String> {
        let tables = self.store.ir().route_tables.values();
        let hosts = tables.flat_map(|table| table.virtual_hosts.iter());
        let routes = hosts.flat_map(|host| host.routes.iter());
        let shown = |path: &PathMatch| format!("{path:?}");
        routes.map(|route| shown(&route.path)).collect()
    }
}

fn own() -> Value {
    json!({"kubernetes.io/ingress.class": "Ambassador"})
}

fn path(path: &str, kind: &str, port: &Value) -> Value {
    json!({"path": path, "pathType": kind, "backend": {"service": {"name": "web", "port": port}}})
}

fn rule(host: &str, paths: &[Value]) -> Value {
    json!({"host": host, "http": {"paths": paths}})
}

fn web(world: &mut World, port: i32, name: &str) {
    let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": port, "name": name}]});
    world.apply(Kind::Service, "web", &json!({}), &spec);
}

#[test]
fn an_ingress_is_ours_by_annotation_or_class() {
    let mut world = World::new();
    let paths = [path("/", "Prefix", &json!({"number": 80}))];
    let spec = json!({"ingressClassName": "edge", "rules": [rule("a.example", &paths)]});
    world.apply(Kind::Ingress, "a", &json!({}), &spec);
    assert_eq!(world.generated(), [""; 0], "nobody serves this class yet");
    let class = json!({"controller": "getambassador.io/Ingress-Controller"});
    world.apply(Kind::IngressClass, "edge", &json!({}), &class);
    assert_eq!(world.generated(), ["Mapping a-0-0"]);
    world.delete(Kind::IngressClass, "edge");
    assert_eq!(world.generated(), [""; 0]);
    world.apply(
        Kind::IngressClass,
        "edge",
        &json!({}),
        &json!({"controller": "other"}),
    );
    assert_eq!(world.generated(), [""; 0]);
    world.apply(Kind::Ingress, "a", &own(), &spec);
    assert_eq!(world.generated(), ["Mapping a-0-0"]);
    let other = json!({
        "kubernetes.io/ingress.class": "ambassador",
        "getambassador.io/ambassador-id": "other"
    });
    world.apply(Kind::Ingress, "a", &other, &spec);
    assert_eq!(world.generated(), [""; 0], "it is for another instance");
    world.apply(Kind::Ingress, "a", &own(), &spec);
    world.delete(Kind::Ingress, "a");
    assert_eq!(world.generated(), [""; 0]);
}

#[test]
fn named_ports_are_those_of_the_service() {
    let mut world = World::new();
    let paths = [path("/", "Prefix", &json!({"name": "http"}))];
    let spec = json!({
        "rules": [rule("a.example", &paths)],
        "defaultBackend": {"service": {"name": "web", "port": {"name": "http"}}}
    });
    world.apply(Kind::Ingress, "a", &own(), &spec);
    let missing = "spec.rules[0].http.paths[0].backend.service.port.name: Service default/web has no TCP port \"http\"; its requests get 503";
    assert!(
        world.problems("a").contains(&missing.to_owned()),
        "{:?}",
        world.problems("a")
    );
    web(&mut world, 8080, "http");
    assert_eq!(world.problems("a"), [""; 0]);
    let has = |world: &World, port: u16| {
        let clusters = world.store.ir().clusters.values();
        let names: Vec<_> = clusters
            .map(|cluster| format!("{:?}", cluster.discovery))
            .collect();
        names
            .iter()
            .any(|name| name.contains(&format!(":{port}")) || name.contains(&port.to_string()))
    };
    assert!(has(&world, 8080), "{:?}", world.store.ir().clusters);
    web(&mut world, 9090, "http");
    assert!(
        has(&world, 9090) && !has(&world, 8080),
        "{:?}",
        world.store.ir().clusters
    );
    web(&mut world, 9090, "other");
    assert!(world.problems("a").contains(&missing.to_owned()));
}

#[test]
fn paths_mean_what_the_annotation_says() {
    let paths = [
        path("/a", "Prefix", &json!({"number": 80})),
        path("/b", "Exact", &json!({"number": 80})),
        path("/c", "ImplementationSpecific", &json!({"number": 80})),
    ];
    let spec = json!({"rules": [rule("a.example", &paths)]});
    let mut world = World::new();
    world.apply(Kind::Ingress, "a", &own(), &spec);
    let names = ["Mapping a-0-0", "Mapping a-0-1", "Mapping a-0-2"];
    assert_eq!(world.generated(), names);
    let found = world.paths();
    assert!(found.contains(r#"Prefix("/a")"#), "{found:?}");
    assert!(found.contains(r#"Exact("/b")"#), "{found:?}");

    let mut annotations = own();
    annotations["getambassador.io/ingress-paths"] = "kubernetes".into();
    world.apply(Kind::Ingress, "a", &annotations, &spec);
    assert_eq!(
        world.generated(),
        [
            "Mapping a-0-0-exact",
            "Mapping a-0-0",
            "Mapping a-0-1",
            "Mapping a-0-2"
        ]
    );
    let found = world.paths();
    assert!(
        found.contains(r#"Prefix("/a/")"#) && found.contains(r#"Exact("/a")"#),
        "{found:?}"
    );
    assert!(!found.contains(r#"Prefix("/a")"#), "{found:?}");
    annotations["getambassador.io/ingress-paths"] = "other".into();
    world.apply(Kind::Ingress, "a", &annotations, &spec);
    assert_eq!(world.generated(), names);
    assert!(
        world.problems("a")[0].starts_with("metadata.annotations[getambassador.io/ingress-paths]")
    );
}

#[test]
fn nothing_is_said_about_an_ingress_of_another_controller() {
    let mut world = World::new();
    let paths = [path("/", "Prefix", &json!({"number": 0}))];
    let spec = json!({"ingressClassName": "edge", "rules": [rule("a.example", &paths)]});
    world.apply(Kind::Ingress, "a", &json!({}), &spec);
    assert_eq!(world.problems("a"), [""; 0]);
    let class = json!({"controller": "getambassador.io/ingress-controller"});
    world.apply(Kind::IngressClass, "edge", &json!({}), &class);
    assert_eq!(world.problems("a").len(), 1, "{:?}", world.problems("a"));
    world.delete(Kind::IngressClass, "edge");
    assert_eq!(world.problems("a"), [""; 0]);
}

#[test]
fn what_a_user_writes_comes_before_what_an_ingress_stands_for() {
    let mut world = World::new();
    let paths = [path("/", "Prefix", &json!({"number": 80}))];
    let spec = json!({"rules": [rule("a.example", &paths)]});
    world.apply(Kind::Ingress, "a", &own(), &spec);
    let written = json!({"hostname": "b.example", "prefix": "/b/", "service": "web"});
    world.apply(Kind::Mapping, "a-0-0", &json!({}), &written);
    let mapping = ObjectRef::new(Kind::Mapping, "default", "a-0-0");
    let report = world.store.reports()[&mapping].clone();
    assert_eq!(report.owner, None);
    assert!(
        report.problems[0]
            .message
            .contains("also defined by Ingress default/a"),
        "{report:?}"
    );
    world.delete(Kind::Mapping, "a-0-0");
    let report = world.store.reports()[&mapping].clone();
    let ingress = ObjectRef::new(Kind::Ingress, "default", "a");
    assert_eq!(report.owner.as_deref(), Some(&ingress));
}

#[test]
fn an_ingress_with_tls_has_hosts_of_its_own() {
    let mut world = World::new();
    let paths = [path("/", "Prefix", &json!({"number": 80}))];
    let spec = json!({
        "tls": [{"hosts": ["a.example", "b.example"], "secretName": "cert"}, {"secretName": "cert"}, {}],
        "rules": [rule("*.c.example", &paths), {"http": {"paths": paths}}]
    });
    world.apply(Kind::Ingress, "a", &own(), &spec);
    let found = world.generated();
    for name in [
        "Host a-0-0",
        "Host a-0-1",
        "Host a-1-0",
        "Mapping a-0-0",
        "Mapping a-1-0",
    ] {
        assert!(
            found.iter().any(|found| found.starts_with(name)),
            "{name} in {found:?}"
        );
    }
    assert_eq!(found.len(), 5);
}
