//! A batch: objects written at random, and around them what they may refer to.

use std::collections::BTreeSet;

use anyhow::Result;
use nuncio_core::object::Kind;
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use serde_json::{Value, json};

use super::{hostile, random::Random, schema::Schemas, spoil::spoil, value::Author};
use crate::certificate::Authority;

/// An object and its kind, as a source delivers it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) value: Value,
}

/// How many objects of a kind are written at random: of each that can be invalid, which are those with a status.
fn number(kind: Kind) -> usize {
    match kind {
        Kind::Mapping => 34,
        Kind::TcpMapping => 6,
        Kind::Listener | Kind::Module | Kind::AuthService => 2,
        Kind::DevPortal => 1,
        _ if kind.has_status() => 4,
        _ => 0,
    }
}

/// What is the same in all batches.
pub(super) struct World {
    schemas: Schemas,
    surroundings: Vec<Object>,
}

impl World {
    pub(super) fn new() -> Result<Self> {
        let surroundings = [services(), secrets()?, gateway()].concat();
        Ok(Self {
            schemas: Schemas::load()?,
            surroundings,
        })
    }

    /// The batch of a seed.
    pub(super) fn batch(&self, seed: u64) -> Vec<Object> {
        let mut random = Random::new(seed);
        let mut objects = self.surroundings.clone();
        for kind in Kind::ALL {
            for index in 0..number(kind) {
                objects.push(self.object(kind, index, &mut random));
            }
        }
        // of two objects with the same name the source has one
        let mut known = BTreeSet::new();
        objects.retain(|object| known.insert((object.kind, object.value["metadata"].to_string())));
        objects
    }

    fn object(&self, kind: Kind, index: usize, random: &mut Random) -> Object {
        let metadata = metadata(kind, index, random);
        let mut author = Author::any(kind, random);
        let mut spec = author.value(self.schemas.of(kind));
        if author.random.percent(8) {
            spoil(&mut spec, &mut author);
        }
        let value = json!({"apiVersion": api_version(kind), "kind": kind.name(), "metadata": metadata, "spec": spec});
        Object { kind, value }
    }
}

fn metadata(kind: Kind, index: usize, random: &mut Random) -> Value {
    let letter = kind.name()[..1].to_ascii_lowercase();
    let mut name = format!("{letter}{index}");
    if kind == Kind::TlsContext {
        name = format!("c{index}");
    }
    if kind == Kind::Module && random.percent(80) {
        "ambassador".clone_into(&mut name);
    } else if random.percent(2) {
        name = format!("{}{index}", hostile::text(random));
    }
    let namespace = if random.percent(90) {
        "default"
    } else {
        "other"
    };
    let mut metadata = json!({"name": name, "namespace": namespace});
    for label in ["x", "y"] {
        if random.percent(40) {
            metadata["labels"][label] = random.pick(&["1", "2"]).into();
        }
    }
    metadata
}

fn api_version(kind: Kind) -> String {
    format!("{}/{}", kind.group(), kind.version())
        .trim_start_matches('/')
        .to_owned()
}

fn object(kind: Kind, namespace: &str, name: &str, mut value: Value) -> Object {
    value["apiVersion"] = api_version(kind).into();
    value["kind"] = kind.name().into();
    value["metadata"] = json!({"name": name, "namespace": namespace});
    Object { kind, value }
}

/// Services with ports and addresses, one that is elsewhere, and resolvers.
fn services() -> Vec<Object> {
    let ports = json!([{"name": "http", "port": 80}, {"name": "alt", "port": 8080}, {"name": "tls", "port": 443}]);
    let web = json!({"spec": {"clusterIP": "10.96.0.1", "ports": ports}});
    let outside = json!({"spec": {"type": "ExternalName", "externalName": "outside.invalid"}});
    let mut slice = object(
        Kind::EndpointSlice,
        "default",
        "web-1",
        json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 9}, {"name": "alt", "port": 10}],
            "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": ["127.0.0.2"]}]}),
    );
    slice.value["metadata"]["labels"] = json!({"kubernetes.io/service-name": "web"});
    vec![
        object(Kind::Service, "default", "web", web.clone()),
        object(Kind::Service, "other", "web", web),
        object(Kind::Service, "default", "outside", outside),
        slice,
        object(
            Kind::KubernetesEndpointResolver,
            "default",
            "slices",
            json!({"spec": {}}),
        ),
        object(
            Kind::KubernetesEndpointResolver,
            "default",
            "endpoint",
            json!({"spec": {}}),
        ),
    ]
}

/// Certificates, an authority with a list of what it revoked, and nonsense.
fn secrets() -> Result<Vec<Object>> {
    let authority = Authority::new()?;
    let secret = |name: &str, data: Value| {
        object(
            Kind::Secret,
            "default",
            name,
            json!({"type": "Opaque", "stringData": data}),
        )
    };
    let mut secrets = vec![
        secret("authority", json!({"tls.crt": authority.pem()})),
        secret("revoked", json!({"crl.pem": revoked()?})),
        secret("broken", json!({"tls.crt": "-----BEGIN", "tls.key": ""})),
        secret("token", json!({"token": "5ec7e7"})),
    ];
    for (name, hosts) in [
        ("cert", ["a.example", "*.example"]),
        ("cert2", ["b.example", "localhost"]),
    ] {
        let made = authority.issue(&hosts)?;
        secrets.push(secret(
            name,
            json!({"tls.crt": made.chain, "tls.key": made.key}),
        ));
    }
    Ok(secrets)
}

/// A list of revoked certificates, of an authority of its own.
fn revoked() -> Result<String> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate()?)?;
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2126, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(2),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(&issuer)?.pem()?)
}

/// Listeners and Hosts that take what is written.
fn gateway() -> Vec<Object> {
    let listener = |name: &str, port: u16, protocol: &str| {
        let spec = json!({"port": port, "protocol": protocol, "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}});
        object(Kind::Listener, "default", name, json!({"spec": spec}))
    };
    let host = |name: &str, hostname: &str, secret: &str| {
        let spec = json!({"hostname": hostname, "tlsSecret": {"name": secret}, "requestPolicy": {"insecure": {"action": "Route"}}});
        object(Kind::Host, "default", name, json!({"spec": spec}))
    };
    vec![
        listener("http", 8080, "HTTP"),
        listener("https", 8443, "HTTPS"),
        host("any", "*", "cert"),
        host("a", "a.example", "cert"),
        host("b", "*.b.example", "cert2"),
    ]
}
