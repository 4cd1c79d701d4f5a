//! Secrets that become unusable while they are used, and certificates that expire.

use nuncio_ir::{ListenerKey, SecretContent};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod,
    KeyPair, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    change::{Change, Source},
    last_usable::LastUsable,
    object::Kind,
    reconcile::reconcile,
    report::ConditionType,
    settings::Settings,
};

/// 2026-12-01
const NOW: i64 = 1_796_083_200;
const DAY: i64 = 24 * 60 * 60;

/// A certificate that expires at the end of this year, and its key.
fn pair(year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn revocation_list() -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(4096, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().pem().unwrap()
}

/// A replica.
struct World {
    store: Store,
    memory: LastUsable,
}

impl World {
    /// With a Listener, and a Host that has these TLS settings and the certificate of Secret `one`.
    fn new(tls: &Value) -> Self {
        let mut world = Self {
            store: Store::new(Settings::default()),
            memory: LastUsable::default(),
        };
        let binding = json!({"namespace": {"from": "ALL"}});
        let spec = json!({"port": 8443, "protocol": "HTTPS", "securityModel": "SECURE", "hostBinding": binding});
        world.apply(Kind::Listener, "https", json!({"spec": spec}));
        let mut spec = json!({"hostname": "a.example", "tlsSecret": {"name": "one"}});
        spec.as_object_mut()
            .unwrap()
            .extend(tls.as_object().unwrap().clone());
        world.apply(Kind::Host, "a", json!({"spec": spec}));
        world
    }

    fn apply(&mut self, kind: Kind, name: &str, mut value: Value) {
        value["metadata"] = json!({"name": name, "namespace": "default"});
        let found = reconcile(kind, value, &self.store.settings);
        self.change(Change::Apply(Source::Api, found.into()));
    }

    fn change(&mut self, change: Change) {
        self.store.apply(self.memory.complete(change));
        self.store.link();
    }

    fn secret(&mut self, name: &str, data: &Value) {
        self.apply(Kind::Secret, name, json!({"stringData": data}));
    }

    fn certificate(&mut self, (chain, key): (&str, &str)) {
        self.secret("one", &json!({"tls.crt": chain, "tls.key": key}));
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        self.change(Change::Delete(
            Source::Api,
            ObjectRef::new(kind, "default", name),
        ));
    }

    /// The certificate with which the Host terminates TLS; `None`: TLS is closed.
    fn shown(&self) -> Option<String> {
        let key = ListenerKey {
            port: 8443,
            transport: nuncio_ir::Transport::Tcp,
            address: None,
        };
        let listener = self.store.ir().listeners.get(&key)?;
        let tls = listener.chains.first()?.tls.as_ref()?;
        match &self.store.ir().secrets[&tls.secret].content {
            SecretContent::Certificate { chain, .. } => Some(chain.to_string()),
            SecretContent::Validation { .. } => None,
        }
    }

    /// Whom the Host trusts, and the list of whom it does not.
    fn trusted(&self) -> Option<(String, Option<String>)> {
        let secrets = self.store.ir().secrets.values();
        let mut found = secrets.filter_map(|secret| match &secret.content {
            SecretContent::Certificate { .. } => None,
            SecretContent::Validation { trusted, revoked } => Some((
                trusted.to_string(),
                revoked.as_ref().map(|it| it.to_string()),
            )),
        });
        found.next()
    }

    /// The problems of an object, as a condition shows them.
    fn problems(&self, kind: Kind, name: &str, condition: ConditionType) -> Vec<String> {
        let object = ObjectRef::new(kind, "default", name);
        let problems = self.store.reports()[&object].problems.iter();
        let problems = problems.filter(|problem| problem.condition == condition);
        problems
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    fn unresolved(&self) -> Vec<String> {
        self.problems(Kind::Host, "a", ConditionType::ResolvedRefs)
    }

    fn accepted(&self) -> Vec<String> {
        self.problems(Kind::Host, "a", ConditionType::Accepted)
    }
}

#[test]
fn the_last_usable_certificate_is_served_until_it_is_repaired_or_deleted() {
    let mut world = World::new(&json!({}));
    let (first, second) = (pair(2027), pair(2028));
    world.certificate((&first.0, &second.1));
    assert_eq!(world.shown(), None, "there never was one");
    world.certificate((&first.0, &first.1));
    assert_eq!(world.shown().as_ref(), Some(&first.0));
    assert!(world.unresolved().is_empty());
    world.certificate((&second.0, &first.1));
    assert_eq!(world.shown().as_ref(), Some(&first.0));
    assert_eq!(
        world.unresolved(),
        [
            "spec.tlsSecret: Secret default/one is invalid: tls.key is not the private key of the first certificate in \
             tls.crt; using the last valid certificate, which expires on 2027-12-31"
        ]
    );
    world.certificate((&second.0, &second.1));
    assert_eq!(world.shown().as_ref(), Some(&second.0));
    assert!(world.unresolved().is_empty());
    world.certificate(("garbage", &first.1));
    assert_eq!(world.shown().as_ref(), Some(&second.0), "the last one");
    world.delete(Kind::Secret, "one");
    assert_eq!(world.shown(), None);
    world.certificate(("garbage", &first.1));
    assert_eq!(world.shown(), None, "what is deleted is forgotten");
}

#[test]
fn authorities_that_become_unusable_let_nobody_else_in() {
    let (own, authority, other) = (pair(2027), pair(2027), pair(2027));
    let list = revocation_list();
    let tls = json!({"ca_secret": "ca", "crl_secret": "crl", "cert_required": true});
    for (is_context, tls) in [
        (false, json!({"tls": tls})),
        (true, json!({"tlsContext": {"name": "context"}})),
    ] {
        let mut world = World::new(&tls);
        let spec = json!({"ca_secret": "ca", "crl_secret": "crl", "cert_required": true});
        world.apply(Kind::TlsContext, "context", json!({"spec": spec}));
        world.certificate((&own.0, &own.1));
        world.secret("ca", &json!({"ca.crt": "garbage"}));
        world.secret("crl", &json!({"crl.pem": list}));
        assert_eq!(world.shown(), None, "closed");
        world.secret("ca", &json!({"ca.crt": authority.0}));
        let terms = Some((authority.0.clone(), Some(list.clone())));
        assert_eq!(world.trusted(), terms);
        world.secret("ca", &json!({"ca.crt": "garbage"}));
        world.secret("crl", &json!({}));
        assert_eq!(world.trusted(), terms);
        assert_eq!(world.shown().as_ref(), Some(&own.0));
        let text = world.unresolved().join("; ");
        let mut facts = vec![
            "Secret default/ca is invalid: ca.crt contains no certificate in PEM form; using the last valid CA certificates",
            "Secret default/crl is invalid: crl.pem is missing; using the last valid certificate revocation list",
        ];
        if is_context {
            facts.push("spec.tlsContext: TLSContext \"context\": Secret default/ca");
            let of_context =
                world.problems(Kind::TlsContext, "context", ConditionType::ResolvedRefs);
            assert_eq!(of_context.len(), 2, "{of_context:?}");
        }
        for fact in facts {
            assert!(text.contains(fact), "{text}");
        }
        world.secret("ca", &json!({"ca.crt": other.0}));
        assert_eq!(world.trusted().unwrap().0, other.0);
        world.delete(Kind::Secret, "crl");
        assert_eq!(world.shown(), None, "closed");
    }
}

/// A certificate is not served with the authorities of another version of its Secret, nor without any.
#[test]
fn authorities_beside_a_certificate_are_kept_with_it() {
    let mut world = World::new(&json!({"tls": {"cert_required": true}}));
    let (own, next, authority) = (pair(2027), pair(2027), pair(2027));
    let data = json!({"tls.crt": own.0, "tls.key": own.1, "root-cert.pem": authority.0});
    world.secret("one", &data);
    let terms = Some((authority.0.clone(), None));
    assert_eq!(world.trusted(), terms);
    for broken in [
        json!({}),
        json!({"tls.crt": next.0, "tls.key": next.1, "root-cert.pem": "garbage"}),
        json!({"tls.crt": next.0, "tls.key": own.1}),
    ] {
        world.secret("one", &broken);
        assert_eq!(world.shown().as_ref(), Some(&own.0));
        assert_eq!(world.trusted(), terms);
        assert_eq!(world.unresolved().len(), 1);
    }
}

#[test]
fn a_tls_context_keeps_its_certificate_too() {
    let mut world = World::new(&json!({}));
    let own = pair(2027);
    let spec = json!({"secret": "one"});
    world.apply(Kind::TlsContext, "context", json!({"spec": spec}));
    world.certificate((&own.0, &own.1));
    world.certificate((&own.0, "garbage"));
    let problems = world.problems(Kind::TlsContext, "context", ConditionType::ResolvedRefs);
    assert_eq!(
        problems,
        [
            "spec.secret: Secret default/one is invalid: tls.key contains no private key in PEM form (PKCS#8, PKCS#1 or \
             SEC1); using the last valid certificate, which expires on 2027-12-31"
        ]
    );
    assert_eq!(world.unresolved().len(), 1, "once, though both name it");
}

#[test]
fn an_expired_certificate_is_a_warning_and_so_is_one_that_expires_soon() {
    let mut world = World::new(&json!({}));
    let own = pair(2026);
    world.certificate((&own.0, &own.1));
    assert!(world.accepted().is_empty(), "the time is unknown");
    let expected = [
        (NOW, None),
        (NOW + 20 * DAY, Some("expires on 2026-12-31")),
        (
            NOW + 40 * DAY,
            Some("expired on 2026-12-31; clients reject it"),
        ),
        (NOW, None),
    ];
    for (time, message) in expected {
        world.store.set_time(time);
        world.store.link();
        let message = message
            .map(|text| format!("spec.tlsSecret: the certificate in Secret default/one {text}"));
        assert_eq!(world.accepted(), Vec::from_iter(message));
        assert_eq!(world.shown().as_ref(), Some(&own.0));
    }
    world.store.set_time(NOW + DAY);
    assert!(world.store.link().certificates.is_empty());
    world.store.set_time(NOW + 40 * DAY);
    let name: Arc<str> = "default/one".into();
    assert_eq!(world.store.link().certificates, [name].into());
    let next = pair(2027);
    world.certificate((&next.0, &next.1));
    assert!(world.accepted().is_empty());
}
