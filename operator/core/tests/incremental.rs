//! The licence for being incremental: after any sequence of changes, published in any portions, the resources and the
//! reports are those of one build from the final objects, byte for byte, in whatever order these arrive. Beside the objects
//! there are the time, what is remembered of Secrets that have become unusable, and what is known of services of Consul.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use nuncio_core::{
    change::{Change, Origin, Owned, Reconciled, Source},
    consul::{ConsulService, ConsulState},
    last_usable::LastUsable,
    object::{Kind, ObjectRef},
    reconcile::{Name, reconcile},
    report::Report,
    settings::Settings,
    store::Store,
};
use nuncio_xds::{Resource, ResourceType, ir::EnvoyVersion, render, render_all};
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

use incremental::origin::{disputed, origins};

mod incremental {
    pub(crate) mod origin;
}

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
    /// What is known of a service of Consul.
    Consul(ConsulService, Option<ConsulState>),
    /// All objects that this owner yields.
    Own(usize, Vec<(Kind, Value)>),
    Time(i64),
    /// The minor version of the oldest connected Envoy.
    OldestEnvoy(u32),
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
            "consul-endpoint",
            "nobody",
            "o0",
            "o0.other",
            "o1",
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
        {"add_request_headers": {"x-a": {"value": "%LISTENER_NAME%"}, "x-b": {"value": "%SPAN_ID%", "append": false}}},
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
        {"auth_service": "o0"},
        {"auth_service": "o1.other", "auth_context_extensions": {"a": "1"}},
        {"bypass_auth": true, "auth_service": "o0"},
        {"error_response_overrides": [{"on_status_code": 404, "body": {"json_format": {"b": "1", "a": "2"}}}]},
        {"case_sensitive": false},
        {"labels": {"ambassador": [{"g": [{"generic_key": {"value": "a"}}]}]}},
        {"labels": {"ambassador": [], "shop": [{"g": [{"generic_key": {"value": "b"}}, {}]}]}},
    ]);
    let settings = settings.as_array().unwrap().clone();
    vec(select(settings), 0..3).prop_map(|found| {
        found
            .into_iter()
            .flat_map(|settings| settings.as_object().unwrap().clone())
            .collect()
    })
}

fn auth_service() -> impl Strategy<Value = Step> {
    let service = select(vec![
        "o0",
        "o1:8080",
        "o0.other",
        "10.0.0.1",
        "https://o1",
        "a:b:c",
        "",
    ]);
    let settings = json!([
        {},
        {"default": false},
        {"proto": "grpc", "protocol_version": "v3"},
        {"proto": "grpc"},
        {"tls": "o0"},
        {"timeout_ms": 5, "failure_mode_allow": true, "status_on_error": {"code": 503}},
        {"timeout_ms": "soon"},
        {"path_prefix": "a", "allowed_request_headers": ["x"], "add_linkerd_headers": true},
        {"include_body": {"max_bytes": 1, "allow_partial": true}, "stats_name": "s"},
    ]);
    let settings = vec(select(settings.as_array().unwrap().clone()), 0..3);
    let body = (service, settings).prop_map(|(service, settings)| {
        let mut spec = json!({"auth_service": service});
        for found in settings {
            let found = found.as_object().unwrap().clone();
            spec.as_object_mut().unwrap().extend(found);
        }
        json!({"spec": spec})
    });
    object(Kind::AuthService, body, 2)
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
        option::of(select(vec!["endpoint", "consul", "o0", "o1.default"])),
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

/// Services that the whole gateway calls.
fn edge_service() -> impl Strategy<Value = Step> {
    let limits = json!([
        {"protocol_version": "v3"},
        {"protocol_version": "v3", "domain": "shop", "failure_mode_deny": true},
        {"protocol_version": "v3", "tls": "o0", "stats_name": "s"},
        {"protocol_version": "v2"},
    ]);
    let logs = json!([
        {"protocol_version": "v3", "driver": "http", "driver_config": {"additional_log_headers": [{"header_name": "x"}]}},
        {"protocol_version": "v3", "driver": "tcp", "flush_interval_time": 0},
        {"driver": "tcp"},
    ]);
    let traces = json!([
        {"driver": "zipkin", "sampling": {"random": 5}},
        {"driver": "opentelemetry", "custom_tags": [{"tag": "a", "literal": {"value": "b"}}, {"tag": "c"}]},
        {"driver": "datadog", "tag_headers": ["x"]},
        {"driver": "lightstep"},
    ]);
    let kinds = prop_oneof![
        (
            Just(Kind::RateLimitService),
            select(limits.as_array().unwrap().clone())
        ),
        (
            Just(Kind::LogService),
            select(logs.as_array().unwrap().clone())
        ),
        (
            Just(Kind::TracingService),
            select(traces.as_array().unwrap().clone())
        ),
    ];
    let service = select(vec![
        "o0",
        "o1:8080",
        "https://o1",
        "10.0.0.1",
        "o0.other",
        "a:b:c",
    ]);
    (kinds, service).prop_flat_map(|((kind, mut spec), service)| {
        spec["service"] = json!(service);
        object(kind, Just(json!({"spec": spec})), 2)
    })
}

/// The Module, or one in another namespace, with some keys; or it is gone.
fn module() -> impl Strategy<Value = Step> {
    let keys = json!([
        {"server_name": "a"},
        {"cluster_request_timeout_ms": 5},
        {"cluster_idle_timeout_ms": 5, "enable_ipv6": true},
        {"load_balancer": {"policy": "maglev", "source_ip": true}},
        {"resolver": "o0"},
        {"resolver": "endpoint", "circuit_breakers": [{"max_requests": 1}]},
        {"use_ambassador_namespace_for_service_resolution": true, "add_linkerd_headers": true},
        {"cors": {"origins": ["*"]}, "retry_policy": {"retry_on": "5xx"}},
        {"error_response_overrides": [{"on_status_code": 404, "body": {"text_format": "a"}}]},
        {"defaults": {"add_request_headers": {"x-a": "b"}, "stats_name": "all"}},
        {"defaults": {"tls_secret_namespacing": false}},
        {"default_label_domain": "shop", "default_labels": {"shop": {"defaults": ["remote_address"]}}},
        {"gzip": {}, "lua_scripts": "-- a", "ip_deny": [{"peer": "10.0.0.1"}]},
        {"lua_scripts": "x ="},
        {"regex_max_size": 4},
        {"regex_max_size": 5, "server_name": "b"},
        {"lua_scripts": "-- b"},
        {"ip_allow": [], "enable_grpc_web": true, "buffer": {"max_request_bytes": 1}},
        {"envoy_log_type": "json", "merge_slashes": "x"},
        {"readiness_probe": {"enabled": true, "service": "o0"}, "liveness_probe": {"enabled": false}},
        {"diagnostics": {"enabled": true, "service": "https://o1.other", "tls": "o0"}},
    ]);
    let config = vec(select(keys.as_array().unwrap().clone()), 0..5).prop_map(|keys| {
        let keys = keys.iter().filter_map(Value::as_object).flatten();
        let config: serde_json::Map<String, Value> = keys
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        json!({"spec": {"config": config}})
    });
    let tls = vec(select(tls_blocks()), 0..3).prop_map(|blocks| {
        let config: serde_json::Map<String, Value> = blocks.into_iter().collect();
        json!({"spec": {"config": config}})
    });
    let named = prop_oneof![
        4 => object(Kind::Module, config, 1).prop_map(|step| ("ambassador", step)),
        1 => object(Kind::Module, tls, 1).prop_map(|step| ("tls", step)),
    ];
    let is_deleted = select(vec![false, false, false, true]);
    (named, is_deleted).prop_map(|((name, step), is_deleted)| match step {
        Step::Apply(source, kind, mut value) => {
            value["metadata"]["name"] = json!(name);
            let is_own = value["metadata"]["namespace"] == NAMESPACES[0];
            if is_deleted {
                let namespace = NAMESPACES[usize::from(!is_own)];
                return Step::Delete(source, kind, namespace, name.to_owned());
            }
            Step::Apply(source, kind, value)
        }
        other => other,
    })
}

/// Blocks of the Module `tls`; some have the name of a TLSContext.
fn tls_blocks() -> Vec<(String, Value)> {
    let blocks = [
        ("server", json!({"secret": "o1"})),
        ("client", json!({"secret": "o0", "cert_required": true})),
        ("o0", json!({"secret": "o1.other", "alpn_protocols": "h2"})),
        ("o1", json!({})),
        ("o1", json!({"cert_chain_file": "/a"})),
    ];
    let blocks = blocks.into_iter();
    blocks
        .map(|(name, fields)| (name.to_owned(), fields))
        .collect()
}

fn resolver() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(Kind::KubernetesServiceResolver),
        Just(Kind::KubernetesEndpointResolver),
    ];
    let kubernetes = kind.prop_flat_map(|kind| object(kind, Just(json!({"spec": {}})), 2));
    let consul = (
        option::of(select(vec!["dc1", "dc2"])),
        option::of(select(vec!["consul:8500", "$CONSUL", "no address"])),
        option::of(select(vec!["o0", "o1"])),
        option::of(select(vec!["o0", "o1"])),
    );
    let consul = consul.prop_map(|(datacenter, address, token, trusted)| {
        json!({"spec": {"datacenter": datacenter, "address": address, "token_secret": token, "ca_secret": trusted}})
    });
    let resolver = prop_oneof![kubernetes, object(Kind::ConsulResolver, consul, 2)];
    // some have the name of a built-in one
    let name = option::of(select(vec!["endpoint", "consul", "kubernetes-service"]));
    (resolver, name).prop_map(|(step, name)| match step {
        Step::Apply(source, kind, mut value) => {
            if let Some(name) = name {
                value["metadata"]["name"] = json!(name);
            }
            Step::Apply(source, kind, value)
        }
        other => other,
    })
}

/// What is known of one of the services that Mappings may name.
fn consul() -> impl Strategy<Value = Step> {
    let name = |namespace: &str, name: &str| Name {
        namespace: namespace.into(),
        name: name.into(),
    };
    let service = (
        option::of(select(vec![
            name("default", "o0"),
            name("default", "o1"),
            name("other", "o0"),
            name("other", "o1"),
            name("default", "consul"),
            name("other", "consul"),
        ])),
        select(vec!["dc1", "dc2"]),
        select(vec!["o0", "o1"]),
    );
    let addresses = vec(
        select(vec!["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]),
        0..3,
    );
    let state = (addresses, option::of(Just("no answer".to_owned())));
    let state = state.prop_map(|(addresses, problem)| {
        let addresses = addresses.into_iter().map(|text| text.parse().unwrap());
        let addresses: BTreeSet<SocketAddr> = addresses.collect();
        ConsulState {
            addresses: addresses.into_iter().collect(),
            problem,
        }
    });
    (service, option::weighted(0.8, state)).prop_map(|((resolver, datacenter, name), state)| {
        let service = ConsulService {
            resolver,
            datacenter: datacenter.into(),
            name: name.into(),
        };
        Step::Consul(service, state)
    })
}

fn service() -> impl Strategy<Value = Step> {
    let body = select(vec![
        json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        json!({"spec": {"clusterIP": "10.96.0.2", "ports": [{"name": "http", "port": 80}, {"name": "alt", "port": 8080}]}}),
        json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
        json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}], "trafficDistribution": "PreferClose"}}),
        json!({"spec": {"type": "ExternalName", "externalName": "www.example.com"}}),
    ]);
    object(Kind::Service, body, 2)
}

/// Ingresses of our annotation or of a class, with TLS, named ports and a default backend.
fn ingress() -> impl Strategy<Value = Step> {
    let backend = || {
        let ports = vec![
            json!({"number": 80}),
            json!({"name": "http"}),
            json!({"name": "alt"}),
            json!({"number": 0}),
        ];
        (select(vec!["o0", "o1"]), select(ports))
            .prop_map(|(name, port)| json!({"service": {"name": name, "port": port}}))
    };
    let path = (
        select(vec!["/", "/a", "/a/"]),
        select(vec!["Prefix", "Exact", "ImplementationSpecific"]),
        backend(),
    )
        .prop_map(
            |(path, kind, backend)| json!({"path": path, "pathType": kind, "backend": backend}),
        );
    let hosts = vec![json!(null), json!("a.example.com"), json!("*.example.com")];
    let rule = (select(hosts), vec(path, 0..3))
        .prop_map(|(host, paths)| json!({"host": host, "http": {"paths": paths}}));
    let tls = select(vec![
        json!(null),
        json!([{"secretName": "o0", "hosts": ["a.example.com"]}]),
        json!([{"secretName": "o1"}, {}]),
    ]);
    let class = select(vec![json!(null), json!("o0"), json!("o1")]);
    let annotations = select(vec![
        json!({}),
        json!({"kubernetes.io/ingress.class": "ambassador"}),
        json!({"kubernetes.io/ingress.class": "ambassador", "getambassador.io/ingress-paths": "kubernetes"}),
        json!({"kubernetes.io/ingress.class": "ambassador", "getambassador.io/ambassador-id": "other"}),
    ]);
    let spec = (vec(rule, 0..3), tls, class, option::of(backend()));
    let spec = spec.prop_map(|(rules, tls, class, default)| {
        json!({"spec": {"rules": rules, "tls": tls, "ingressClassName": class, "defaultBackend": default}})
    });
    (object(Kind::Ingress, spec, 2), annotations).prop_map(|(step, annotations)| match step {
        Step::Apply(source, kind, mut value) => {
            value["metadata"]["annotations"] = annotations;
            Step::Apply(source, kind, value)
        }
        step => step,
    })
}

/// Ingresses of Knative, with certificates, named ports, conditions, headers and hosts for clients in the cluster.
fn knative_ingress() -> impl Strategy<Value = Step> {
    let split = (
        select(vec![json!("o0"), json!("o1"), json!(null), json!("-")]),
        select(vec![json!(80), json!("http"), json!("alt"), json!(null)]),
        select(vec![json!(null), json!("other")]),
        select(vec![json!(null), json!(0), json!(20), json!(80), json!("x")]),
        select(vec![json!(null), json!({"A": "1"}), json!({"A": "2", "B": "%"})]),
    )
        .prop_map(|(service, port, namespace, percent, headers)| {
            json!({"serviceName": service, "servicePort": port, "serviceNamespace": namespace, "percent": percent, "appendHeaders": headers})
        });
    let conditions = vec![json!(null), json!({"X": {"exact": "1"}}), json!({"X": 1})];
    let path = (
        select(vec![json!(null), json!("/a")]),
        vec(split, 0..3),
        select(conditions),
    )
        .prop_map(
            |(path, splits, headers)| json!({"path": path, "splits": splits, "headers": headers}),
        );
    let hosts = select(vec!["a.example", "b.example", "A.example", "*"]);
    let visibility = select(vec![json!(null), json!("ClusterLocal")]);
    let rule = (vec(hosts, 0..3), visibility, vec(path, 0..3)).prop_map(
        |(hosts, visibility, paths)| json!({"hosts": hosts, "visibility": visibility, "http": {"paths": paths}}),
    );
    let tls = select(vec![
        json!(null),
        json!([{"secretName": "o0", "hosts": ["a.example"]}]),
        json!([{"secretName": "o1", "secretNamespace": "other"}]),
    ]);
    let http = select(vec![json!(null), json!("Redirected")]);
    let spec = (vec(rule, 0..3), tls, http).prop_map(
        |(rules, tls, http)| json!({"spec": {"rules": rules, "tls": tls, "httpOption": http}}),
    );
    let annotations = select(vec![
        json!({}),
        json!({}),
        json!({"networking.knative.dev/ingress-class": "other"}),
        json!({"getambassador.io/ambassador-id": "other"}),
    ]);
    (object(Kind::KnativeIngress, spec, 2), annotations).prop_map(
        |(step, annotations)| match step {
            Step::Apply(source, kind, mut value) => {
                value["metadata"]["annotations"] = annotations;
                Step::Apply(source, kind, value)
            }
            step => step,
        },
    )
}

/// Hosts for clients in the cluster.
fn local_host() -> impl Strategy<Value = Step> {
    let hostname = select(vec!["*", "a.example"]);
    let body = hostname.prop_map(|hostname| {
        let labels = json!({"networking.knative.dev/visibility": "cluster-local"});
        json!({"spec": {"hostname": hostname, "mappingSelector": {"matchLabels": labels}}})
    });
    object(Kind::Host, body, 8)
}

fn ingress_class() -> impl Strategy<Value = Step> {
    let controller = select(vec!["getambassador.io/ingress-controller", "other"]);
    (0..2_usize, controller).prop_map(|(number, controller)| {
        let metadata = json!({"name": format!("o{number}")});
        let value = json!({"metadata": metadata, "spec": {"controller": controller}});
        Step::Apply(Source::Api, Kind::IngressClass, value)
    })
}

fn endpoint_slice() -> impl Strategy<Value = Step> {
    let spec = (
        select(vec!["o0", "o1"]),
        vec(
            (
                select(vec!["10.244.0.1", "10.244.0.2", "10.244.0.3"]),
                any::<bool>(),
                option::weighted(0.8, select(vec!["a", "b"])),
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
            .map(|(address, ready, zone)| {
                let zones: Vec<Value> = zone.iter().map(|zone| json!({"name": zone})).collect();
                json!({"addresses": [address], "hints": {"forZones": zones},
                    "conditions": {"ready": ready, "serving": true, "terminating": !ready}})
            })
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
        json!({"token": "t"}),
        json!({"tls.crt": null, "tls.key": null, "token": "a b"}),
    ]);
    let body = (0..2_usize, 0..2_usize, more).prop_map(|(certificate, key, more)| {
        let mut data =
            json!({"tls.crt": CERTIFICATES[certificate].0, "tls.key": CERTIFICATES[key].1});
        let data = data.as_object_mut().unwrap();
        data.extend(more.as_object().unwrap().clone());
        data.retain(|_, value| !value.is_null());
        let kind = if data.contains_key("token") {
            "Opaque"
        } else {
            "kubernetes.io/tls"
        };
        json!({"type": kind, "stringData": data})
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
        2 => (elsewhere, select(&[Source::InitConfig, Source::Istio][..]))
            .prop_map(|(step, source)| step.of(source)),
        1 => own,
        2 => listener(),
        3 => host(),
        6 => mapping(),
        2 => tcp_mapping(),
        2 => tls_context(),
        2 => auth_service(),
        2 => resolver(),
        3 => consul(),
        3 => edge_service(),
        3 => module(),
        2 => service(),
        2 => ingress(),
        2 => knative_ingress(),
        1 => local_host(),
        1 => ingress_class(),
        2 => endpoint_slice(),
        2 => secret(),
        3 => delete,
        1 => select(&Kind::WATCHED[..]).prop_map(Step::Relist),
        1 => select(&TIMES[..]).prop_map(Step::Time),
        1 => (36..41_u32).prop_map(Step::OldestEnvoy),
        1 => select(&Kind::WATCHED[..]).prop_map(Step::Ask),
        4 => Just(Step::Publish),
    ]
}

/// A Store, with what has been published of it.
struct Gateway {
    store: Store,
    memory: LastUsable,
    time: Option<i64>,
    oldest: EnvoyVersion,
    consul: BTreeMap<ConsulService, ConsulState>,
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
            oldest: EnvoyVersion::NEWEST,
            consul: BTreeMap::new(),
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

    /// A change, with what is remembered of Secrets and scripts.
    fn change(&mut self, change: Change) {
        self.store.apply(self.memory.complete(change));
    }

    fn set_time(&mut self, time: i64) {
        self.time = Some(time);
        self.store.set_time(time);
    }

    fn set_oldest_envoy(&mut self, oldest: EnvoyVersion) {
        self.oldest = oldest;
        self.change(Change::OldestEnvoy(oldest));
    }

    fn set_consul(&mut self, service: ConsulService, state: Option<ConsulState>) {
        match state.clone() {
            Some(state) => self.consul.insert(service.clone(), state),
            None => self.consul.remove(&service),
        };
        self.change(Change::Consul(service, state));
    }

    /// Every wanted service of Consul gets a state, sooner or later.
    fn answer_consul(&mut self) {
        if !self.settings.queries_consul {
            return;
        }
        // what waits may want others once it is linked
        self.publish();
        for service in self.store.wanted_consul().into_keys() {
            if !self.consul.contains_key(&service) {
                self.set_consul(service, Some(ConsulState::default()));
            }
        }
        self.publish();
        assert!(!self.store.waits_for_consul());
    }

    /// Applies what an owner yields.
    fn own(&mut self, origin: &Origin, all: Vec<Reconciled>) {
        let owner = origin.owner.clone().unwrap();
        let owned = Owned {
            owner,
            documents: all.iter().map(|found| document(&found.object)).collect(),
            objects: all,
        };
        self.change(Change::ReplaceOwned(origin.source, owned));
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

/// The number of the document that an object is in, whatever else is in the annotation.
fn document(object: &ObjectRef) -> u32 {
    object.name.bytes().map(u32::from).sum()
}

/// The origin of what this owner yields.
fn owner(number: usize) -> Origin {
    let object = ObjectRef::new(Kind::Service, "default", &format!("o{number}"));
    Origin::owned(Source::Annotation, object)
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
        Step::Consul(service, state) => gateway.set_consul(service, state),
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
        Step::OldestEnvoy(minor) => gateway.set_oldest_envoy(EnvoyVersion::minor(minor)),
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
        // every Secret that something refers to is read, sooner or later; a Module can change which ones those are
        gateway.publish();
        gateway.change(secrets());
    }
    gateway.publish();
    gateway.answer_consul();

    let mut scratch = Gateway::new(settings);
    scratch.memory = gateway.memory.clone();
    if let Some(time) = gateway.time {
        scratch.set_time(time);
    }
    for (service, state) in gateway.consul.clone() {
        scratch.set_consul(service, Some(state));
    }
    let mut all: Vec<_> = objects.iter().collect();
    if reverse {
        scratch.set_oldest_envoy(gateway.oldest);
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
        scratch.publish();
        scratch.change(secrets());
    }
    scratch.set_oldest_envoy(gateway.oldest);
    scratch.publish();
    assert_eq!(gateway.reports, scratch.reports);
    let kept = gateway.store.reports().clone();
    assert_eq!(gateway.reports, kept.into_iter().collect());
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
    let facts = origins(gateway.store.ir());
    assert_eq!(facts, origins(scratch.store.ir()));
    assert_eq!(disputed(&gateway.store, &facts), []);
}

/// The service that counts the labels of a Mapping is the first at the end of a batch, not when the Mapping came.
#[test]
fn a_service_counts_labels_that_came_while_another_one_was_first() {
    let service = |name: &str| {
        json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"service": "limits"},
        })
    };
    let labels = json!({"ambassador": [{"group": [{"generic_key": {"value": "x"}}]}]});
    let mapping = json!({
        "metadata": {"name": "m", "namespace": "default"},
        "spec": {"hostname": "*", "prefix": "/", "service": "web", "labels": labels},
    });
    let limits = Kind::RateLimitService;
    let steps = vec![
        Step::Apply(Source::Api, limits, service("b")),
        Step::Publish,
        Step::Apply(Source::Api, limits, service("a")),
        Step::Apply(Source::Api, Kind::Mapping, mapping),
        Step::Delete(Source::Api, limits, "default", "a".to_owned()),
        Step::Publish,
    ];
    run(steps, &Settings::default(), false);
}

/// Two AuthServices have one cluster, until one of them has to wait for Consul and the other one has no service.
#[test]
fn an_auth_service_that_leaves_others_goes_on_to_wait_for_consul() {
    let named = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let service = |name: &str, at: &str| {
        let value = named(name, json!({"auth_service": at}));
        Step::Apply(Source::Api, Kind::AuthService, value)
    };
    // all upstreams are in Consul then
    let resolver = named("kubernetes-service", json!({"datacenter": "dc1"}));
    let steps = vec![
        service("o0", "o0.other"),
        service("o1", "o0"),
        Step::Publish,
        Step::Apply(Source::Api, Kind::ConsulResolver, resolver),
    ];
    let settings = Settings {
        queries_consul: true,
        ..Settings::default()
    };
    run(steps, &settings, false);
}

/// A member without requests changes nothing that is served, and its settings can apply to the others.
#[test]
fn a_route_tells_of_a_member_that_has_no_requests() {
    let mapping = |name: &str, more: Value| {
        let mut spec = json!({"hostname": "*", "prefix": "/", "service": name});
        let fields = spec.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    let listener = json!({
        "metadata": {"name": "http", "namespace": "default"},
        "spec": {
            "port": 8080, "protocol": "HTTP", "securityModel": "XFP",
            "hostBinding": {"namespace": {"from": "ALL"}},
        },
    });
    let steps = vec![
        Step::Apply(Source::Api, Kind::Listener, listener),
        Step::Apply(Source::Api, Kind::Mapping, mapping("a", json!({}))),
        Step::Publish,
        Step::Apply(
            Source::Api,
            Kind::Mapping,
            mapping("b", json!({"weight": 0})),
        ),
        Step::Publish,
    ];
    run(steps, &Settings::default(), false);
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
        queries_consul in any::<bool>(),
        reverse in any::<bool>(),
        tables_by_host in any::<bool>(),
        shared_redirects in any::<bool>(),
    ) {
        let least_tables_by_host = if tables_by_host { 1 } else { 8 };
        let most_tables_of_redirects = if shared_redirects { 1 } else { 256 };
        let settings = Settings { least_tables_by_host, most_tables_of_redirects, in_cluster, reads_secrets_on_demand, loose_label_selectors, queries_consul, knative_local_hosts: !loose_label_selectors, ..Settings::default() };
        run(steps, &settings, reverse);
    }
}
