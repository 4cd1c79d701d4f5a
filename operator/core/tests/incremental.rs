//! The licence for being incremental: after any sequence of changes, published in any portions, the resources and the
//! reports are those of one build from the final objects, byte for byte, in whatever order these arrive. Beside the objects
//! there are the time and what is remembered of Secrets that have become unusable.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use nuncio_core::{
    change::{Change, Origin, Reconciled, Source},
    last_usable::LastUsable,
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    report::Report,
    settings::Settings,
    store::Store,
};
use nuncio_xds::{Resource, ResourceType, render, render_all};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::{Just, Strategy, any},
    prop_oneof, proptest,
    sample::select,
    test_runner::Config,
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

type Resources = BTreeMap<(ResourceType, Arc<str>), Resource>;
type Reports = BTreeMap<ObjectRef, Arc<Report>>;

const NAMESPACES: [&str; 2] = ["default", "other"];
const HOSTNAMES: [&str; 8] = [
    "*",
    "a.example",
    "b.example",
    "*.example",
    "a.example:8500",
    "A.Example",
    "a.*",
    "no host",
];

/// Certificates with their keys, made once. They expire at the end of these years.
static CERTIFICATES: LazyLock<[(String, String); 2]> = LazyLock::new(|| {
    [2026, 2027].map(|year| {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    })
});

/// Days around these, in seconds since the epoch: 2026-12-01, 2026-12-25, 2027-06-01, 2028-06-01.
const TIMES: [i64; 4] = [1_796_083_200, 1_798_156_800, 1_811_808_000, 1_843_430_400];

#[derive(Clone, Debug)]
enum Step {
    Apply(Source, Kind, Value),
    Delete(Source, Kind, &'static str, String),
    /// The API lists everything anew.
    Relist(Kind),
    /// All objects that this owner yields.
    Own(usize, Vec<(Kind, Value)>),
    Time(i64),
    /// What would be lost without this kind.
    Ask(Kind),
    Publish,
}

impl Step {
    /// The same step in another source.
    fn of(self, other: Source) -> Self {
        match self {
            Self::Apply(_, kind, value) => Self::Apply(other, kind, value),
            Self::Delete(_, kind, namespace, name) => Self::Delete(other, kind, namespace, name),
            step => step,
        }
    }
}

/// What every source has: the objects of the final state.
type Objects = BTreeMap<(Origin, Kind, String), Value>;

fn object(
    kind: Kind,
    body: impl Strategy<Value = Value>,
    names: usize,
) -> impl Strategy<Value = Step> {
    (body, select(&NAMESPACES[..]), 0..names, labels()).prop_map(
        move |(mut value, namespace, number, labels)| {
            value["metadata"] =
                json!({"name": format!("o{number}"), "namespace": namespace, "labels": labels});
            Step::Apply(Source::Api, kind, value)
        },
    )
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(
        select(vec!["x".to_owned(), "y".to_owned()]),
        select(vec!["1".to_owned(), "2".to_owned()]),
        0..3,
    )
}

fn listener() -> impl Strategy<Value = Step> {
    let spec = (
        select(vec![8080, 8443, 0]),
        select(vec!["HTTP", "HTTPS", "HTTPSPROXY", "TCP", "UDP"]),
        select(vec!["XFP", "SECURE", "INSECURE"]),
        select(vec![
            json!({"namespace": {"from": "ALL"}}),
            json!({"namespace": {"from": "SELF"}}),
            json!({"selector": {"matchLabels": {"x": "1"}}}),
            json!({}),
        ]),
        0..2,
    );
    let body = spec.prop_map(|(port, protocol, model, binding, depth)| {
        json!({"spec": {"port": port, "protocol": protocol, "securityModel": model, "hostBinding": binding, "l7Depth": depth}})
    });
    // some have no creation time, as from files
    let created = option::of(select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]));
    (object(Kind::Listener, body, 3), created).prop_map(|(step, created)| match step {
        Step::Apply(source, kind, mut value) => {
            value["metadata"]["creationTimestamp"] = json!(created);
            Step::Apply(source, kind, value)
        }
        other => other,
    })
}

fn host() -> impl Strategy<Value = Step> {
    let spec = (
        option::of(select(&HOSTNAMES[..])),
        select(vec![
            Value::Null,
            json!({"matchLabels": {"x": "1"}}),
            json!({"matchLabels": {"x": "1", "y": "2"}}),
            json!({"matchExpressions": [{"key": "y", "operator": "Exists"}]}),
        ]),
        select(vec![
            Value::Null,
            json!({"insecure": {"action": "Route"}}),
            json!({"insecure": {"action": "Reject"}}),
        ]),
        select(vec![
            Value::Null,
            json!({"name": "o0"}),
            json!({"name": "o1"}),
            json!({"name": "o0", "namespace": "other"}),
        ]),
        select(vec![
            Value::Null,
            json!({"alpn_protocols": "h2,http/1.1"}),
            json!({"cert_required": true}),
            json!({"ca_secret": "o0", "cert_required": true}),
            json!({"ca_secret": "o1.other"}),
            json!({"min_tls_version": "v9"}),
        ]),
        select(vec![
            Value::Null,
            Value::Null,
            Value::Null,
            json!({"name": "o0"}),
            json!({"name": "o1"}),
        ]),
    );
    let body = spec.prop_map(|(hostname, selector, policy, secret, tls, context)| {
        let mut spec = json!({"hostname": hostname, "mappingSelector": selector, "requestPolicy": policy, "tlsSecret": secret, "tls": tls, "tlsContext": context});
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        json!({"spec": spec})
    });
    object(Kind::Host, body, 4)
}

fn mapping() -> impl Strategy<Value = Step> {
    let matcher = (
        option::of(select(&HOSTNAMES[..])),
        select(vec![
            "/",
            "/a/",
            "/b/",
            "/a/b/c",
            "",
            "(",
            "/.well-known/acme-challenge/",
        ]),
        option::of(select(vec!["prefix_exact", "prefix_regex", "host_regex"])),
        option::of(select(vec!["GET", "PUT"])),
        select(vec![
            Value::Null,
            json!({"x": "y"}),
            json!({":authority": "b.example"}),
        ]),
        option::of(-1..2),
    );
    let target = (
        select(vec![
            "o0",
            "o1:8080",
            "o0.other",
            "https://o1",
            "10.0.0.1",
            "www.example.com",
            "a:b:c",
            "o0.default.svc.cluster.local",
        ]),
        option::of(select(vec![
            "endpoint",
            "kubernetes-service",
            "consul",
            "o0",
        ])),
        option::of(select(vec![0, 10, 60, 100, 150])),
        option::of(select(vec!["/x/", ""])),
        option::of(select(vec![0, 500])),
    );
    let body = (matcher, target, mapping_settings()).prop_map(|((hostname, prefix, flag, method, headers, precedence), (service, resolver, weight, rewrite, timeout), settings)| {
        let mut spec = json!({"hostname": hostname, "prefix": prefix, "method": method, "headers": headers, "precedence": precedence,
            "service": service, "resolver": resolver, "weight": weight, "rewrite": rewrite, "timeout_ms": timeout, "connect_timeout_ms": timeout});
        if let Some(flag) = flag {
            spec[flag] = json!(true);
            if flag == "host_regex" {
                spec["host"] = spec["hostname"].take();
            }
        }
        spec.as_object_mut().unwrap().extend(settings);
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        json!({"spec": spec})
    });
    object(Kind::Mapping, body, 8)
}

/// Some of what else a Mapping says, alone and of its group.
fn mapping_settings() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let settings = json!([
        {"shadow": true},
        {"host_redirect": true},
        {"host_redirect": true, "path_redirect": "/p", "redirect_response_code": 308},
        {"retry_policy": {"retry_on": "5xx"}},
        {"retry_policy": {"retry_on": "gateway-error", "num_retries": 3}},
        {"cors": {"origins": ["http://a.example"]}},
        {"add_request_headers": {"x-a": {"value": "1"}}},
        {"add_request_headers": {"x-a": {"value": "2", "append": false}, "x-b": {"value": "%NOTHING%"}}},
        {"remove_response_headers": ["server"]},
        {"add_response_headers": {"x-a": {"value": "1"}, "X-A": {"value": "2"}, "x-b": {"value": "%NOTHING%", "append": false}}},
        {"regex_rewrite": {"pattern": "/(.*)", "substitution": "/\\1"}},
        {"tls": "o0"},
        {"tls": "o1"},
        {"grpc": true},
        {"load_balancer": {"policy": "ring_hash", "header": "x-a"}},
        {"circuit_breakers": [{"max_connections": 5}]},
        {"allow_upgrade": ["websocket"]},
        {"priority": "high"},
        {"auth_context_extensions": {"b": "1", "a": "2", "c": "3"}},
        {"error_response_overrides": [{"on_status_code": 404, "body": {"json_format": {"b": "1", "a": "2"}}}]},
        {"case_sensitive": false},
    ]);
    let settings = settings.as_array().unwrap().clone();
    vec(select(settings), 0..3).prop_map(|found| {
        found
            .into_iter()
            .flat_map(|settings| settings.as_object().unwrap().clone())
            .collect()
    })
}

fn tcp_mapping() -> impl Strategy<Value = Step> {
    let spec = (
        select(vec![8080, 8443, 5432]),
        option::of(select(vec!["a.example", "*", "*.example", "a.*"])),
        option::of(select(vec!["127.0.0.1", "0.0.0.0", "nowhere"])),
        select(vec!["o0", "o1:8080", "https://o1"]),
        option::of(select(vec![0, 10, 60, 100, 150])),
        option::of(select(vec!["o0", "o1"])),
        option::of(select(vec!["1000", "soon"])),
        option::of(select(vec!["endpoint", "o0"])),
    );
    let body = spec.prop_map(
        |(port, host, address, service, weight, tls, idle, resolver)| {
            let mut spec = json!({"port": port, "host": host, "address": address, "service": service,
                "weight": weight, "tls": tls, "idle_timeout_ms": idle, "resolver": resolver});
            spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            json!({"spec": spec})
        },
    );
    object(Kind::TcpMapping, body, 4)
}

fn tls_context() -> impl Strategy<Value = Step> {
    let spec = (
        select(vec![json!({}), json!({"hosts": ["a.example"]})]),
        option::of(select(vec!["o0", "o1.other"])),
        option::of(select(vec!["o0", "o1"])),
        select(vec![
            json!({}),
            json!({"cert_required": true, "sni": "b.example"}),
            json!({"min_tls_version": "v1.3", "max_tls_version": "v1.2"}),
            json!({"alpn_protocols": "h2"}),
        ]),
    );
    let body = spec.prop_map(|(hosts, secret, trusted, more)| {
        let mut spec = json!({"secret": secret, "ca_secret": trusted});
        for fields in [hosts, more] {
            spec.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
        }
        spec.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        json!({"spec": spec})
    });
    // `o0-context` is what Host o0 uses unasked
    let named = prop_oneof![2 => Just(false), 1 => Just(true)];
    (object(Kind::TlsContext, body, 2), named).prop_map(|(step, is_implicit)| match step {
        Step::Apply(source, kind, mut value) if is_implicit => {
            value["metadata"]["name"] = json!("o0-context");
            Step::Apply(source, kind, value)
        }
        other => other,
    })
}

fn resolver() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(Kind::KubernetesServiceResolver),
        Just(Kind::KubernetesEndpointResolver),
    ];
    kind.prop_flat_map(|kind| object(kind, Just(json!({"spec": {}})), 2))
}

fn service() -> impl Strategy<Value = Step> {
    let body = select(vec![
        json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        json!({"spec": {"clusterIP": "10.96.0.2", "ports": [{"name": "http", "port": 80}, {"name": "alt", "port": 8080}]}}),
        json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
        json!({"spec": {"type": "ExternalName", "externalName": "www.example.com"}}),
    ]);
    object(Kind::Service, body, 2)
}

fn endpoint_slice() -> impl Strategy<Value = Step> {
    let spec = (
        select(vec!["o0", "o1"]),
        vec(
            (
                select(vec!["10.244.0.1", "10.244.0.2", "10.244.0.3"]),
                any::<bool>(),
            ),
            0..3,
        ),
        select(vec![
            json!([{"name": "", "port": 8000}]),
            json!([{"name": "http", "port": 80}, {"name": "alt", "port": 9000}]),
        ]),
    );
    let slice = (spec, select(&NAMESPACES[..]), 0..3_usize);
    slice.prop_map(|((service, addresses, ports), namespace, number)| {
        let endpoints: Vec<Value> = addresses
            .into_iter()
            .map(|(address, ready)| json!({"addresses": [address], "conditions": {"ready": ready, "serving": true, "terminating": !ready}}))
            .collect();
        Step::Apply(
            Source::Api,
            Kind::EndpointSlice,
            json!({"metadata": {"name": format!("o{number}"), "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4", "endpoints": endpoints, "ports": ports}),
        )
    })
}

fn secret() -> impl Strategy<Value = Step> {
    let more = select(vec![
        json!({}),
        json!({"tls.key": null}),
        json!({"root-cert.pem": CERTIFICATES[0].0}),
        json!({"root-cert.pem": "garbage"}),
        json!({"tls.crt": "garbage"}),
        json!({"tls.crt": null, "ca.crt": CERTIFICATES[1].0}),
        json!({"tls.crt": null, "ca.crt": "garbage"}),
    ]);
    let body = (0..2_usize, 0..2_usize, more).prop_map(|(certificate, key, more)| {
        let mut data =
            json!({"tls.crt": CERTIFICATES[certificate].0, "tls.key": CERTIFICATES[key].1});
        let data = data.as_object_mut().unwrap();
        data.extend(more.as_object().unwrap().clone());
        data.retain(|_, value| !value.is_null());
        json!({"type": "kubernetes.io/tls", "stringData": data})
    });
    object(Kind::Secret, body, 2)
}

fn step() -> impl Strategy<Value = Step> {
    let delete = (
        select(&Kind::WATCHED[..]),
        select(&NAMESPACES[..]),
        0..8_usize,
    )
        .prop_map(|(kind, namespace, number)| {
            Step::Delete(Source::Api, kind, namespace, format!("o{number}"))
        });
    let owned = prop_oneof![host(), mapping(), secret()].prop_map(|step| match step {
        Step::Apply(_, kind, value) => (kind, value),
        step => unreachable!("{step:?}"),
    });
    let own = (0..2_usize, vec(owned, 0..3)).prop_map(|(owner, all)| Step::Own(owner, all));
    // some objects are in another source, too
    let removal = (
        select(&[Kind::Secret, Kind::Mapping, Kind::Host][..]),
        select(&NAMESPACES[..]),
        0..2_usize,
    )
        .prop_map(|(kind, namespace, number)| {
            Step::Delete(Source::Istio, kind, namespace, format!("o{number}"))
        });
    let elsewhere = prop_oneof![secret(), mapping(), host(), removal];
    prop_oneof![
        2 => elsewhere.prop_map(|step| step.of(Source::Istio)),
        1 => own,
        2 => listener(),
        3 => host(),
        6 => mapping(),
        2 => tcp_mapping(),
        2 => tls_context(),
        1 => resolver(),
        2 => service(),
        2 => endpoint_slice(),
        2 => secret(),
        3 => delete,
        1 => select(&Kind::WATCHED[..]).prop_map(Step::Relist),
        1 => select(&TIMES[..]).prop_map(Step::Time),
        1 => select(&Kind::WATCHED[..]).prop_map(Step::Ask),
        4 => Just(Step::Publish),
    ]
}

/// A Store, with what has been published of it.
struct Gateway {
    store: Store,
    memory: LastUsable,
    time: Option<i64>,
    settings: Settings,
    resources: Resources,
    reports: Reports,
}

impl Gateway {
    fn new(settings: &Settings) -> Self {
        Self {
            store: Store::new(settings.clone()),
            memory: LastUsable::default(),
            time: None,
            settings: settings.clone(),
            resources: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    fn apply(&mut self, origin: &Origin, kind: Kind, value: &Value) {
        let reconciled = Box::new(reconcile(kind, value.clone(), &self.settings));
        assert!(origin.owner.is_none(), "owned objects come together");
        self.change(Change::Apply(origin.source, reconciled));
    }

    /// A change, with what is remembered of Secrets.
    fn change(&mut self, change: Change) {
        self.store.apply(self.memory.complete(change));
    }

    fn set_time(&mut self, time: i64) {
        self.time = Some(time);
        self.store.set_time(time);
    }

    /// Applies what an owner yields.
    fn own(&mut self, origin: &Origin, all: Vec<Reconciled>) {
        let owner = origin.owner.clone().unwrap();
        self.change(Change::ReplaceOwned(origin.source, owner, all));
    }

    fn publish(&mut self) {
        let outcome = self.store.link();
        for unit in &outcome.units {
            let key = (unit.kind(), unit.name());
            match render(unit, self.store.ir()) {
                Some(resource) => self.resources.insert(key, resource),
                None => self.resources.remove(&key),
            };
        }
        for (object, report) in outcome.reports {
            match report {
                Some(report) => self.reports.insert(object, report),
                None => self.reports.remove(&object),
            };
        }
    }
}

/// Namespace and name of a manifest.
fn identity(value: &Value) -> String {
    let metadata = &value["metadata"];
    format!("{}/{}", metadata["namespace"], metadata["name"])
}

/// The origin of what this owner yields.
fn owner(number: usize) -> Origin {
    let object = ObjectRef::new(Kind::Service, "default", &format!("owner{number}"));
    Origin {
        source: Source::Api,
        owner: Some(Arc::new(object)),
    }
}

/// The objects of an origin, reconciled.
fn of_origin(
    objects: &Objects,
    origin: &Origin,
    only: Option<Kind>,
    settings: &Settings,
) -> Vec<Reconciled> {
    objects
        .iter()
        .filter(|((of, kind, _), _)| of == origin && only.is_none_or(|only| only == *kind))
        .map(|((_, kind, _), value)| reconcile(*kind, value.clone(), settings))
        .collect()
}

fn take(step: Step, gateway: &mut Gateway, objects: &mut Objects) {
    let settings = gateway.settings.clone();
    match step {
        Step::Apply(source, kind, value) => {
            let origin = Origin::of(source);
            gateway.apply(&origin, kind, &value);
            objects.insert((origin, kind, identity(&value)), value);
        }
        Step::Delete(source, kind, namespace, name) => {
            let object = ObjectRef::new(kind, namespace, &name);
            gateway.change(Change::Delete(source, object));
            let name = format!("{namespace:?}/{name:?}");
            objects.remove(&(Origin::of(source), kind, name));
        }
        Step::Relist(kind) => {
            let all = of_origin(objects, &Origin::of(Source::Api), Some(kind), &settings);
            gateway.change(Change::Replace(Source::Api, kind, all));
        }
        Step::Own(number, all) => {
            let origin = owner(number);
            objects.retain(|(of, _, _), _| *of != origin);
            for (kind, value) in all {
                objects.insert((origin.clone(), kind, identity(&value)), value);
            }
            let all = of_origin(objects, &origin, None, &settings);
            gateway.own(&origin, all);
        }
        Step::Time(time) => gateway.set_time(time),
        Step::Ask(kind) => {
            let _ = gateway.store.loss(Source::Api, kind, &BTreeSet::new());
        }
        Step::Publish => gateway.publish(),
    }
}

fn run(steps: Vec<Step>, settings: &Settings, reverse: bool) {
    let mut gateway = Gateway::new(settings);
    let mut objects = Objects::new();
    for step in steps {
        take(step, &mut gateway, &mut objects);
    }
    let api = Origin::of(Source::Api);
    let secrets = || {
        let all = of_origin(&objects, &api, Some(Kind::Secret), settings);
        Change::Replace(Source::Api, Kind::Secret, all)
    };
    if settings.reads_secrets_on_demand {
        // every Secret that something refers to is read, sooner or later
        gateway.change(secrets());
    }
    gateway.publish();

    let mut scratch = Gateway::new(settings);
    scratch.memory = gateway.memory.clone();
    if let Some(time) = gateway.time {
        scratch.set_time(time);
    }
    let mut all: Vec<_> = objects.iter().collect();
    if reverse {
        all.reverse();
    }
    for ((origin, kind, _), value) in all {
        if origin.owner.is_none() {
            scratch.apply(origin, *kind, value);
        }
    }
    for number in 0..2 {
        let origin = owner(number);
        scratch.own(&origin, of_origin(&objects, &origin, None, settings));
    }
    if settings.reads_secrets_on_demand {
        scratch.change(secrets());
    }
    scratch.publish();
    assert_eq!(gateway.reports, scratch.reports);
    assert_eq!(&gateway.reports, gateway.store.reports());
    assert_eq!(
        gateway.resources.keys().collect::<BTreeSet<_>>(),
        scratch.resources.keys().collect()
    );
    for (key, resource) in &scratch.resources {
        assert_eq!(gateway.resources[key].body, resource.body, "{key:?}");
    }
    let whole: Resources = render_all(gateway.store.ir())
        .map(|resource| ((resource.kind, resource.name.clone()), resource))
        .collect();
    assert_eq!(whole, gateway.resources);
}

proptest! {
    // PROPTEST_CASES runs more
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_sequence_of_changes_ends_as_one_build_from_the_final_objects(
        steps in vec(step(), 1..40),
        in_cluster in any::<bool>(),
        reads_secrets_on_demand in any::<bool>(),
        loose_label_selectors in any::<bool>(),
        reverse in any::<bool>(),
    ) {
        let settings = Settings { in_cluster, reads_secrets_on_demand, loose_label_selectors, ..Settings::default() };
        run(steps, &settings, reverse);
    }
}
