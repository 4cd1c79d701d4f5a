//! Changes of objects at random: what users write, right and wrong, in a namespace of its own. None of them concerns the Host
//! whose requests are counted.

use std::fmt;

use fastrand::Rng;
use kube::api::ApiResource;
use serde_json::{Value, json};

/// Where the objects are.
pub(super) const NAMESPACE: &str = "chaos";
/// Certificates that Secrets can have, by number.
pub(super) const CERTIFICATES: usize = 3;
/// Number of Secrets.
const SECRETS: usize = 4;
/// Ports of Listeners that nobody counts requests on.
const PORTS: [u16; 3] = [9001, 9002, 70];

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// What the object is from now on, without metadata; `None`: it is deleted.
    pub(super) content: Option<Value>,
}

/// Kinds that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Mapping,
    TcpMapping,
    TlsContext,
    Listener,
    LogService,
    Module,
    Secret,
    Service,
    EndpointSlice,
}

impl Kind {
    /// As the apiserver names it.
    pub(super) fn resource(self) -> ApiResource {
        let ours = |kind: &str, plural: &str| ApiResource {
            group: "getambassador.io".to_owned(),
            version: "v3alpha1".to_owned(),
            api_version: "getambassador.io/v3alpha1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        match self {
            Self::Host => ours("Host", "hosts"),
            Self::Mapping => ours("Mapping", "mappings"),
            Self::TcpMapping => ours("TCPMapping", "tcpmappings"),
            Self::TlsContext => ours("TLSContext", "tlscontexts"),
            Self::Listener => ours("Listener", "listeners"),
            Self::LogService => ours("LogService", "logservices"),
            Self::Module => ours("Module", "modules"),
            Self::Secret => ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
            Self::Service => ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&()),
            Self::EndpointSlice => {
                ApiResource::erase::<k8s_openapi::api::discovery::v1::EndpointSlice>(&())
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = (self.kind, &self.name);
        match &self.content {
            Some(content) if kind != Kind::Secret => write!(f, "{kind:?} {name}: {content}"),
            Some(_) => write!(f, "{kind:?} {name} has other content"),
            None => write!(f, "{kind:?} {name} is deleted"),
        }
    }
}

impl Change {
    /// Usable content for all objects of which replicas remember what was usable last.
    pub(super) fn usable() -> Vec<Self> {
        let secrets = (0..SECRETS).map(|number| {
            let certificate = number % CERTIFICATES;
            Self {
                kind: Kind::Secret,
                name: format!("o{number}"),
                content: Some(json!({"certificate": certificate, "key": certificate})),
            }
        });
        let module = Self {
            kind: Kind::Module,
            name: "ambassador".to_owned(),
            content: Some(json!({"spec": {"config": {"server_name": "envoy"}}})),
        };
        secrets.chain([module]).collect()
    }

    /// One at random.
    pub(super) fn random(random: &mut Rng) -> Self {
        let (kind, names) = match random.u8(..30) {
            0..=11 => (Kind::Mapping, 30),
            12..=15 => (Kind::Host, 16),
            16 | 17 => (Kind::TcpMapping, 3),
            18 | 19 => (Kind::TlsContext, 3),
            20 => (Kind::Listener, 3),
            21 => (Kind::LogService, 1),
            22 => (Kind::Module, 1),
            23 | 24 => (Kind::Secret, SECRETS),
            25 | 26 => (Kind::Service, 4),
            _ => (Kind::EndpointSlice, 4),
        };
        let number = random.usize(..names);
        let is_deleted = random.u8(..5) == 0;
        let name = match kind {
            Kind::Module => "ambassador".to_owned(),
            _ => format!("o{number}"),
        };
        // drawn in any case, so that what follows does not depend on it
        let content = content(random, kind, number);
        Self {
            kind,
            name,
            content: (!is_deleted).then_some(content),
        }
    }
}

/// One of these.
fn one(random: &mut Rng, values: Value) -> Value {
    let Value::Array(mut values) = values else {
        return values;
    };
    let at = random.usize(..values.len());
    values.swap_remove(at)
}

/// Some of these fields.
fn some(random: &mut Rng, spec: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (name, values) in fields {
        let value = one(random, values);
        if random.u8(..4) == 0 {
            spec[name] = value;
        }
    }
}

fn content(random: &mut Rng, kind: Kind, number: usize) -> Value {
    let spec = match kind {
        Kind::Mapping => mapping(random),
        Kind::Host => host(random, number),
        Kind::TcpMapping => json!({
            "port": one(random, json!([9001, 9002, 9443])),
            "host": one(random, json!([null, "a.chaos", "*"])),
            "service": service_name(random),
            "weight": one(random, json!([null, 10, 100]))
        }),
        Kind::TlsContext => json!({
            "hosts": one(random, json!([[], ["o0.chaos"], ["*.chaos", "no host"]])),
            "secret": one(random, json!(["o0", "o1", "missing", "o2.nowhere"])),
            "min_tls_version": one(random, json!([null, "v1.2", "v1.3"])),
            "alpn_protocols": one(random, json!([null, "h2", "h2,http/1.1", "-"]))
        }),
        Kind::Listener => json!({
            "port": PORTS[number],
            "protocol": one(random, json!(["HTTP", "HTTPS", "TCP", "HTTPPROXY"])),
            "securityModel": one(random, json!(["XFP", "SECURE", "INSECURE"])),
            "hostBinding": one(random, json!([
                {"namespace": {"from": "SELF"}},
                {"namespace": {"from": "ALL"}},
                {"selector": {"matchLabels": {"x": "1"}}}
            ]))
        }),
        Kind::LogService => json!({
            "service": service_name(random),
            "driver": one(random, json!(["http", "tcp"])),
            "grpc": true
        }),
        Kind::Module => json!({"config": one(random, json!([
            {"buffer_limit_bytes": 200_000},
            {"server_name": "one"},
            {"server_name": "two", "buffer_limit_bytes": 100_000},
            {"xff_num_trusted_hops": 1, "strip_matching_host_port": true},
            {"cluster_idle_timeout_ms": 30_000, "server_name": 5},
            {"add_linkerd_headers": true, "nobody": {"knows": "this"}},
            {"gzip": {"memory_level": 5}},
            {"circuit_breakers": [{"max_connections": 2000}]},
            {"lua_scripts": "function envoy_on_response(handle) handle:headers():add('x-lua', '1') end"},
            {"lua_scripts": "this is no script ("}
        ]))}),
        Kind::Secret => return secret(random),
        Kind::Service => return service(random, number),
        Kind::EndpointSlice => return endpoint_slice(random, number),
    };
    json!({"spec": without_null(spec)})
}

fn without_null(mut spec: Value) -> Value {
    if let Value::Object(fields) = &mut spec {
        fields.retain(|_, value| !value.is_null());
    }
    spec
}

fn service_name(random: &mut Rng) -> Value {
    one(
        random,
        json!([
            "o0",
            "o1",
            "o2:8080",
            "o3",
            "https://o0",
            "10.96.0.9",
            "missing",
            "www.example.com",
            "a:b:c"
        ]),
    )
}

fn hostname(random: &mut Rng) -> Value {
    let number = random.usize(..16);
    let own = format!("o{number}.chaos");
    one(
        random,
        json!([
            own.clone(),
            own.clone(),
            own,
            "*.chaos",
            "O1.Chaos",
            "o2.chaos:8443"
        ]),
    )
}

fn mapping(random: &mut Rng) -> Value {
    let mut spec = json!({
        "hostname": hostname(random),
        "prefix": one(random, json!(["/a/", "/b/", "/c/d/", "/e", "/f/g/h/i"])),
        "service": service_name(random)
    });
    let fields = json!({
        "resolver": ["endpoint", "kubernetes-service", "nobody"],
        "rewrite": ["", "/x/", "/y"],
        "timeout_ms": [0, 100, 100_000],
        "weight": [0, 10, 50, 100],
        "prefix_regex": [true],
        "headers": [{"x-a": "1"}, {"x-b": true}],
        "method": ["GET", "("],
        "precedence": [1, -1],
        "tls": ["o0", "o1", "missing"],
        "retry_policy": [{"retry_on": "5xx"}, {"retry_on": "never"}],
        "regex_rewrite": [{"pattern": "/(.*)", "substitution": "/\\1"}, {"pattern": "(", "substitution": "x"}],
        "cors": [{"origins": ["http://a.example"]}],
        "add_request_headers": [{"x-c": {"value": "%REQ(x)%"}}, {"x-c": {"value": "%NOTHING%"}}, {"bad name": {"value": "1"}}],
        "circuit_breakers": [[{"max_connections": 5}]],
        "load_balancer": [{"policy": "ring_hash", "header": "x-a"}, {"policy": "round_robin"}],
        "error_response_overrides": [[{"on_status_code": 404, "body": {"text_format": "gone"}}]],
        "shadow": [true],
        "host_redirect": [true],
        "allow_upgrade": [["websocket"]],
        "stats_name": ["n", "a.b"]
    });
    some(random, &mut spec, fields);
    spec
}

fn host(random: &mut Rng, number: usize) -> Value {
    let own = format!("o{number}.chaos");
    let mut spec = json!({
        "hostname": one(random, json!([own.clone(), own.clone(), own, "*.chaos", "o1.chaos", "no host"]))
    });
    let fields = json!({
        "tlsSecret": [{"name": "o0"}, {"name": "o1"}, {"name": "missing"}],
        "requestPolicy": [{"insecure": {"action": "Route"}}, {"insecure": {"action": "Redirect"}}, {"insecure": {"action": "Reject"}}],
        "tls": [{"min_tls_version": "v1.3"}, {"ca_secret": "o2", "cert_required": true}],
        "tlsContext": [{"name": "o0"}, {"name": "o2"}],
        "mappingSelector": [{"matchLabels": {"x": "1"}}, {}]
    });
    some(random, &mut spec, fields);
    spec
}

/// Certificates stand for themselves until they are written: see `World::change`.
fn secret(random: &mut Rng) -> Value {
    let (certificate, key) = (random.usize(..CERTIFICATES), random.usize(..CERTIFICATES));
    let key = if random.u8(..4) == 0 {
        key
    } else {
        certificate
    };
    let garbage = random.u8(..6) == 0;
    let certificate = if garbage {
        json!("garbage")
    } else {
        json!(certificate)
    };
    json!({"certificate": certificate, "key": key})
}

fn service(random: &mut Rng, number: usize) -> Value {
    json!({"spec": {
        "clusterIP": format!("10.96.9.{}", number + 1),
        "ports": one(random, json!([
            [{"name": "http", "port": 80, "targetPort": 8000}],
            [{"name": "http", "port": 80, "targetPort": 8000}, {"name": "alt", "port": 8080, "targetPort": 8000}]
        ]))
    }})
}

fn endpoint_slice(random: &mut Rng, number: usize) -> Value {
    let addresses = random.usize(..4);
    let endpoints: Vec<Value> = (0..addresses)
        .map(|_| {
            let address = format!("10.244.9.{}", random.u8(1..9));
            json!({"addresses": [address], "conditions": {"ready": random.bool()}})
        })
        .collect();
    json!({
        "labels": {"kubernetes.io/service-name": format!("o{number}")},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8000}]
    })
}
