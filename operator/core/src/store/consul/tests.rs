use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::{
    change::{Change, Source},
    reconcile::reconcile,
    settings::Settings,
};

fn store(settings: Settings) -> Store {
    Store::new(Settings {
        queries_consul: true,
        ..settings
    })
}

fn apply(store: &mut Store, kind: Kind, name: &str, spec: &Value) {
    let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let found = reconcile(kind, value, &store.settings);
    store.apply(Change::Apply(Source::Api, found.into()));
    store.link();
}

fn mapping(store: &mut Store, service: &str, resolver: &str) {
    let spec = json!({"hostname": "*", "prefix": "/", "service": service, "resolver": resolver});
    apply(store, Kind::Mapping, "m", &spec);
}

fn secret(store: &mut Store, name: &str, data: &Value) {
    let value = json!({"metadata": {"name": name, "namespace": "default"}, "stringData": data});
    let found = reconcile(Kind::Secret, value, &store.settings);
    store.apply(Change::Apply(Source::Api, found.into()));
    store.link();
}

fn delete(store: &mut Store, kind: Kind, name: &str) {
    let object = ObjectRef::new(kind, "default", name);
    store.apply(Change::Delete(Source::Api, object));
    store.link();
}

fn service(datacenter: &str, name: &str) -> ConsulService {
    ConsulService {
        resolver: None,
        datacenter: datacenter.into(),
        name: name.into(),
    }
}

/// What is known of a service; returns the units that this changed.
fn answer(
    store: &mut Store,
    service: &ConsulService,
    addresses: &[&str],
    problem: Option<&str>,
) -> Vec<String> {
    let addresses = addresses.iter();
    let state = ConsulState {
        addresses: addresses
            .map(|text| text.parse::<SocketAddr>().unwrap())
            .collect(),
        problem: problem.map(str::to_owned),
    };
    store.apply(Change::Consul(service.clone(), Some(state)));
    let outcome = store.link();
    let units = outcome.units.iter();
    units
        .map(|unit| format!("{} {}", unit.kind(), unit.name()))
        .collect()
}

/// The wanted services; those whose agent must not be queried are in brackets.
fn wanted(store: &Store) -> Vec<String> {
    let wanted = store.wanted_consul().into_iter();
    let name = |(service, agent): (ConsulService, Option<Arc<Agent>>)| match agent {
        Some(_) => service.to_string(),
        None => format!("[{service}]"),
    };
    wanted.map(name).collect()
}

/// The clusters, and the addresses of endpoints.
fn served(store: &Store) -> (Vec<&str>, Vec<String>) {
    let ir = store.ir();
    let endpoints = ir.endpoints.values();
    let addresses = endpoints.flat_map(|endpoints| &endpoints.addresses);
    (
        ir.clusters.keys().map(|name| &**name).collect(),
        addresses.map(ToString::to_string).collect(),
    )
}

fn problems(store: &Store, kind: Kind, name: &str) -> Vec<String> {
    let report = &store.reports()[&ObjectRef::new(kind, "default", name)];
    let problems = report.problems.iter();
    problems
        .map(|problem| problem.message.clone())
        .filter(|message| !message.contains("Listener"))
        .collect()
}

#[test]
fn what_is_new_is_served_with_the_first_answer() {
    let mut store = store(Settings::default());
    let web = service("dc1", "Web");
    mapping(&mut store, "Web:80", "consul");
    assert_eq!(served(&store), (vec![], vec![]));
    assert!(store.waits_for_consul());
    assert_eq!(wanted(&store), ["consul/dc1/Web"]);
    assert_eq!(
        problems(&store, Kind::Mapping, "m"),
        ["waiting for the first answer of Consul about \"Web\""]
    );
    answer(&mut store, &web, &["10.0.0.1:8080"], None);
    let clusters = vec!["consul/dc1/Web"];
    assert_eq!(
        served(&store),
        (clusters.clone(), vec!["10.0.0.1:8080".to_owned()])
    );
    assert!(!store.waits_for_consul());
    // only the endpoints differ
    let units = answer(&mut store, &web, &["10.0.0.2:8080", "10.0.0.3:1"], None);
    assert_eq!(units, ["endpoints consul/dc1/Web"]);
    // the last addresses stay while the agent is away, and the Mapping has nothing to say of it
    let before = problems(&store, Kind::Mapping, "m");
    let units = answer(
        &mut store,
        &web,
        &["10.0.0.2:8080", "10.0.0.3:1"],
        Some("no answer"),
    );
    assert!(units.is_empty(), "{units:?}");
    assert_eq!(problems(&store, Kind::Mapping, "m"), before);
    // no instance is left
    let units = answer(&mut store, &web, &[], None);
    assert_eq!(units, ["endpoints consul/dc1/Web"]);
    assert_eq!(served(&store), (clusters, vec![]));
    let problems = problems(&store, Kind::Mapping, "m");
    assert!(
        problems.contains(
            &"Consul service \"Web\" has no passing instance in datacenter dc1; requests get 503"
                .to_owned()
        ),
        "{problems:?}"
    );
    delete(&mut store, Kind::Mapping, "m");
    assert!(wanted(&store).is_empty());
}

#[test]
fn an_upstream_is_as_before_until_the_first_answer() {
    let mut store = store(Settings::default());
    mapping(&mut store, "10.0.0.9", "");
    let before = vec!["10.0.0.9:80"];
    mapping(&mut store, "web", "consul");
    assert_eq!(served(&store).0, before);
    mapping(&mut store, "other", "consul");
    assert_eq!(wanted(&store), ["consul/dc1/other"]);
    answer(&mut store, &service("dc1", "web"), &["10.0.0.1:80"], None);
    assert_eq!(served(&store).0, before);
    // an agent without an answer is an answer
    let other = service("dc1", "other");
    answer(&mut store, &other, &[], Some("no answer"));
    assert_eq!(served(&store), (vec!["consul/dc1/other"], vec![]));
    let problems = problems(&store, Kind::Mapping, "m");
    assert!(
        problems.contains(&"no answer; requests get 503".to_owned()),
        "{problems:?}"
    );
    // another datacenter has other instances
    let east = json!({"datacenter": "east"});
    apply(&mut store, Kind::ConsulResolver, "consul", &east);
    assert_eq!(served(&store).0, vec!["consul/dc1/other"]);
    assert_eq!(
        wanted(&store),
        ["consul/dc1/other", "consul/east/other/default/consul"]
    );
    let east = ConsulService {
        resolver: Some(Name {
            namespace: "default".into(),
            name: "consul".into(),
        }),
        ..service("east", "other")
    };
    answer(&mut store, &east, &["10.0.0.2:80"], None);
    assert_eq!(
        served(&store),
        (
            vec!["consul/east/other/default/consul"],
            vec!["10.0.0.2:80".to_owned()]
        )
    );
    assert_eq!(wanted(&store), ["consul/east/other/default/consul"]);
    // one that waits and is deleted wants nothing
    mapping(&mut store, "third", "consul");
    delete(&mut store, Kind::Mapping, "m");
    assert!(wanted(&store).is_empty() && !store.waits_for_consul());
    assert_eq!(served(&store), (vec![], vec![]));
}

#[test]
fn the_default_resolver_can_be_one_for_consul() {
    let mut store = store(Settings::default());
    store.defaults.resolver = "consul-endpoint".into();
    mapping(&mut store, "web", "");
    let spec = json!({"port": 5432, "service": "db"});
    apply(&mut store, Kind::TcpMapping, "t", &spec);
    assert_eq!(wanted(&store), ["consul/dc1/db", "consul/dc1/web"]);
    // whoever has the default resolver follows it
    let east = json!({"datacenter": "east"});
    apply(&mut store, Kind::ConsulResolver, "consul", &east);
    assert_eq!(
        wanted(&store),
        [
            "consul/east/db/default/consul",
            "consul/east/web/default/consul"
        ]
    );
}

#[test]
fn the_secrets_of_a_resolver_are_read_first() {
    let mut store = store(Settings {
        reads_secrets_on_demand: true,
        ..Settings::default()
    });
    let spec = json!({"datacenter": "dc1", "token_secret": "token"});
    apply(&mut store, Kind::ConsulResolver, "r", &spec);
    mapping(&mut store, "web", "r");
    let secrets = store.wanted_secrets();
    assert!(secrets.contains(&ObjectRef::new(Kind::Secret, "default", "token")));
    assert_eq!(wanted(&store), ["[consul/dc1/web/default/r]"]);
    let generation = store.wanted_consul_generation();
    secret(&mut store, "token", &json!({"token": "t0ken"}));
    assert_ne!(store.wanted_consul_generation(), generation);
    assert_eq!(wanted(&store), ["consul/dc1/web/default/r"]);
    let agents = store.wanted_consul();
    let agent = agents.values().next().unwrap().as_ref().unwrap();
    assert_eq!(&*agent.token.as_ref().unwrap().0, "t0ken");
    assert!(!format!("{agents:?}").contains("t0ken"));
    assert!(store.ir().secrets.is_empty(), "Envoy does not get it");
    let web = agents.keys().next().unwrap().clone();
    answer(&mut store, &web, &["10.0.0.1:80"], None);
    // without the Secret the agent must not be queried, and what is known stays
    delete(&mut store, Kind::Secret, "token");
    assert_eq!(wanted(&store), ["[consul/dc1/web/default/r]"]);
    assert_eq!(served(&store).1, ["10.0.0.1:80"]);
    assert_eq!(
        problems(&store, Kind::ConsulResolver, "r"),
        [
            "Secret default/token does not exist; the agent is not queried, and known addresses are kept"
        ]
    );
    // and nobody waits for it
    mapping(&mut store, "other", "r");
    assert!(!store.waits_for_consul());
    let problems = problems(&store, Kind::Mapping, "m");
    assert!(
        problems.contains(&"Secret default/token does not exist; requests get 503".to_owned()),
        "{problems:?}"
    );
}

#[test]
fn ports_of_the_control_plane_are_never_upstreams() {
    let mut store = store(Settings {
        own_ports: [8877].into(),
        ..Settings::default()
    });
    mapping(&mut store, "web", "consul");
    let web = service("dc1", "web");
    let addresses = [
        "127.0.0.1:8877",
        "[::1]:8877",
        "127.0.0.1:80",
        "10.0.0.1:8877",
    ];
    answer(&mut store, &web, &addresses, None);
    assert_eq!(served(&store).1, ["127.0.0.1:80", "10.0.0.1:8877"]);
}

#[test]
fn a_flaw_leaves_the_name_in_statistics() {
    let mut store = store(Settings::default());
    let spec = |service: &str| json!({"hostname": "*", "prefix": "/", "service": service, "resolver": "consul", "tls": "none"});
    apply(&mut store, Kind::Mapping, "a", &spec("web:8080"));
    apply(&mut store, Kind::Mapping, "b", &spec("web:8081"));
    answer(&mut store, &service("dc1", "web"), &["10.0.0.1:80"], None);
    let clusters = store.ir().clusters.values();
    let names: Vec<_> = clusters.map(|cluster| &*cluster.stat_name).collect();
    assert_eq!(names, ["web"]);
}

#[test]
fn a_failing_agent_is_reported_on_its_resolver() {
    let mut store = store(Settings::default());
    apply(
        &mut store,
        Kind::ConsulResolver,
        "consul",
        &json!({"datacenter": "dc1"}),
    );
    mapping(&mut store, "web", "consul");
    let web = store.wanted_consul().into_keys().next().unwrap();
    answer(&mut store, &web, &["10.0.0.1:80"], None);
    assert!(problems(&store, Kind::ConsulResolver, "consul").is_empty());
    answer(&mut store, &web, &["10.0.0.1:80"], Some("no answer"));
    assert_eq!(
        problems(&store, Kind::ConsulResolver, "consul"),
        ["service web: no answer; known addresses are kept"]
    );
    answer(&mut store, &web, &["10.0.0.1:80"], None);
    assert!(problems(&store, Kind::ConsulResolver, "consul").is_empty());
}

#[test]
fn load_balancers_are_ignored_without_endpoints() {
    let mut store = Store::new(Settings {
        disable_endpoints: true,
        ..Settings::default()
    });
    let spec = json!({"hostname": "*", "prefix": "/", "service": "web", "resolver": "endpoint", "load_balancer": {"policy": "ring_hash", "header": "x"}});
    apply(&mut store, Kind::Mapping, "m", &spec);
    let clusters = store.ir().clusters.values();
    let balancers: Vec<_> = clusters.map(|cluster| cluster.balancer).collect();
    assert_eq!(balancers, [nuncio_ir::Balancer::RoundRobin]);
    let problems = problems(&store, Kind::Mapping, "m");
    assert!(
        problems.contains(
            &"AMBASSADOR_DISABLE_ENDPOINTS is set; using the default load balancer".to_owned()
        ),
        "{problems:?}"
    );
}

/// A Module by which services are those of Consul, and an AuthService.
fn auth_service(store: &mut Store, name: &str, service: &str) {
    let config = json!({"config": {"resolver": "consul"}});
    apply(store, Kind::Module, "ambassador", &config);
    let spec = json!({"auth_service": service, "proto": "http"});
    apply(store, Kind::AuthService, name, &spec);
}

#[test]
fn an_edge_service_is_called_at_once_and_replaced_with_the_first_answer() {
    let mut store = store(Settings::default());
    auth_service(&mut store, "a", "auth");
    let cluster = |store: &Store| {
        let state = store.auth_services.first();
        state.unwrap().1.cluster.as_deref().unwrap().to_owned()
    };
    assert_eq!(cluster(&store), "consul/dc1/auth");
    assert_eq!(wanted(&store), ["consul/dc1/auth"]);
    assert!(store.waits_for_consul(), "the first snapshot waits");
    answer(&mut store, &service("dc1", "auth"), &["10.0.0.1:80"], None);
    assert!(!store.waits_for_consul());
    assert_eq!(served(&store).1, ["10.0.0.1:80"]);
    auth_service(&mut store, "a", "other");
    assert_eq!(cluster(&store), "consul/dc1/auth");
    assert_eq!(wanted(&store), ["consul/dc1/auth", "consul/dc1/other"]);
    answer(&mut store, &service("dc1", "other"), &["10.0.0.2:80"], None);
    assert_eq!(cluster(&store), "consul/dc1/other");
    assert_eq!(served(&store).1, ["10.0.0.2:80"]);
}

#[test]
fn several_auth_services_are_called_at_all_their_instances() {
    let mut store = store(Settings::default());
    auth_service(&mut store, "a", "one");
    auth_service(&mut store, "b", "two");
    let targets = |store: &Store| -> Vec<String> {
        let clusters = store.ir().clusters.values();
        let several = clusters.filter_map(|cluster| match &cluster.discovery {
            nuncio_ir::Discovery::Several { targets, .. } => Some(targets.clone()),
            _ => None,
        });
        let all = several.flatten();
        all.map(|(host, port)| format!("{host}:{port}")).collect()
    };
    let (one, two) = (service("dc1", "one"), service("dc1", "two"));
    answer(&mut store, &one, &["10.0.0.1:81", "10.0.0.2:82"], None);
    answer(&mut store, &two, &["10.0.0.3:83"], None);
    let all = ["10.0.0.1:81", "10.0.0.2:82", "10.0.0.3:83"];
    assert_eq!(targets(&store), all);
    answer(&mut store, &two, &["10.0.0.4:84"], None);
    let all = ["10.0.0.1:81", "10.0.0.2:82", "10.0.0.4:84"];
    assert_eq!(targets(&store), all);
    answer(&mut store, &two, &[], None);
    assert!(targets(&store).is_empty(), "the first is called alone");
}

#[test]
fn another_default_resolver_moves_what_has_none_of_its_own() {
    let mut store = store(Settings::default());
    let spec = json!({"hostname": "*", "prefix": "/", "service": "web"});
    apply(&mut store, Kind::Mapping, "m", &spec);
    let spec =
        json!({"hostname": "*", "prefix": "/own/", "service": "own", "resolver": "endpoint"});
    apply(&mut store, Kind::Mapping, "own", &spec);
    let clusters = |store: &Store| -> Vec<String> {
        store
            .ir()
            .clusters
            .keys()
            .map(ToString::to_string)
            .collect()
    };
    let before = ["own.default:80/endpoints", "web:80"];
    assert_eq!(clusters(&store), before);
    let config = json!({"config": {"resolver": "consul"}});
    apply(&mut store, Kind::Module, "ambassador", &config);
    assert_eq!(clusters(&store), before, "until there is an answer");
    answer(&mut store, &service("dc1", "web"), &["10.0.0.1:80"], None);
    let after = ["consul/dc1/web", "own.default:80/endpoints"];
    assert_eq!(clusters(&store), after);
    // an object that takes the name of the default
    let spec = json!({"datacenter": "east"});
    apply(&mut store, Kind::ConsulResolver, "consul", &spec);
    let east = ConsulService {
        resolver: Some(Name {
            namespace: "default".into(),
            name: "consul".into(),
        }),
        ..service("east", "web")
    };
    answer(&mut store, &east, &["10.0.0.2:80"], None);
    assert_eq!(served(&store).1, ["10.0.0.2:80"]);
    delete(&mut store, Kind::Module, "ambassador");
    assert_eq!(clusters(&store), before);
}
