use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::runtime::{reflector, watcher::Event};
use serde_json::{Value, json};

use super::*;
use crate::{
    apiext::definition::tests::definition,
    identity::testing::{Apiserver, TestClock},
};

const PATH: &str = "/api/v1/namespaces/ns/secrets/emissary-ingress-webhook-ca";

struct Replica {
    keeper: Keeper,
    writer: reflector::store::Writer<Definition>,
    leading: watch::Sender<bool>,
    certificates: watch::Receiver<Option<Arc<Certificates>>>,
    progress: Progress,
    clock: TestClock,
    now: Instant,
}

impl Replica {
    fn new(apiserver: &Apiserver, manages: bool) -> Self {
        let (definitions, writer) = reflector::store();
        let (leading_sender, leading) = watch::channel(true);
        let (sender, certificates) = watch::channel(None);
        let (progress, clock) = (Progress::default(), TestClock::new());
        hold(&progress);
        let keeper = Keeper {
            secrets: Api::namespaced(apiserver.client(), "ns"),
            service: Reference::new("ns", "apiext"),
            clock: clock.clock(),
            definitions,
            manages_definitions: true,
            manages,
            leading,
            authorities: watch::channel(None).0,
            certificates: sender,
            progress: progress.clone(),
            metrics: Metrics::new().0,
            state: KeeperState::default(),
        };
        Self {
            keeper,
            writer,
            leading: leading_sender,
            certificates,
            progress,
            clock,
            now: Instant::now(),
        }
    }

    /// Reads the Secret, and does what is due after this time.
    async fn after(&mut self, seconds: u64) -> Result<(), String> {
        self.now += Duration::from_secs(seconds);
        let result = self.keeper.read().await;
        let text = result.as_ref().copied().map_err(ToString::to_string);
        self.keeper.report(result);
        self.keeper.certify(self.clock.now(), self.now).unwrap();
        text
    }

    /// The definition is seen with this bundle, and this in its spec.
    fn see(&mut self, bundle: &str, more: Value) {
        let mut value = json!({"spec": {"conversion": {"webhook": {"clientConfig": {
            "caBundle": STANDARD.encode(bundle),
        }}}}});
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        for event in [
            Event::Init,
            Event::InitApply(definition(&value)),
            Event::InitDone,
        ] {
            self.writer.apply_watcher_event(&event);
        }
    }

    fn wanted(&self) -> Arc<Authorities> {
        self.keeper.authorities.borrow().clone().unwrap()
    }

    /// The authority whose certificate is served.
    fn serving(&self) -> String {
        let served = self.keeper.state.served.as_ref().unwrap();
        assert!(self.certificates.borrow().is_some());
        served.by().pem()
    }

    fn held(&self) -> String {
        self.progress.held().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_replica_is_ready_once_definitions_have_trusted_its_authority_for_a_while() {
    let apiserver = Apiserver::default();
    let mut replica = Replica::new(&apiserver, true);
    replica.after(0).await.unwrap();
    assert!(replica.held().contains("listing"));
    replica.see("", json!({}));
    replica.after(60).await.unwrap();
    let held = replica.held();
    assert!(
        held.contains("caBundle does not have the authority that signs: mappings.getambassador.io"),
        "{held}"
    );
    let bundle = replica.wanted().bundle();
    replica.see(&bundle, json!({}));
    replica.after(1).await.unwrap();
    assert!(replica.held().contains("every apiserver must learn"));
    replica.after(4).await.unwrap();
    assert!(replica.progress.held().is_some());
    replica.after(1).await.unwrap();
    assert_eq!(replica.progress.held(), None);
    // what happens later is a warning: another replica could not do better
    replica.see("", json!({}));
    replica.after(1).await.unwrap();
    assert_eq!(replica.progress.held(), None);
    assert!(replica.progress.warnings().contains("caBundle"));
}

#[tokio::test]
async fn a_certificate_of_another_authority_waits_until_it_is_trusted() {
    let apiserver = Apiserver::default();
    let mut replica = Replica::new(&apiserver, true);
    replica.after(0).await.unwrap();
    let old = replica.wanted().bundle();
    replica.see(&old, json!({}));
    replica.after(60).await.unwrap();
    apiserver.delete(PATH);
    replica.after(1).await.unwrap();
    let new = replica.wanted().bundle();
    assert_ne!(new, old);
    replica.after(600).await.unwrap();
    assert_eq!(replica.serving(), old);
    // it is renewed by the one before for as long as it takes
    let certificate = replica.certificates.borrow().clone();
    replica.clock.advance(SignedDuration::from_hours(25));
    replica.after(1).await.unwrap();
    assert_eq!(replica.serving(), old);
    assert_ne!(*replica.certificates.borrow(), certificate);

    replica.see(&format!("{new}{old}"), json!({}));
    replica.after(1).await.unwrap();
    // not trusted in between
    replica.see(&old, json!({}));
    replica.after(4).await.unwrap();
    replica.see(&format!("{new}{old}"), json!({}));
    replica.after(1).await.unwrap();
    replica.after(4).await.unwrap();
    assert_eq!(replica.serving(), old);
    replica.after(1).await.unwrap();
    assert_eq!(replica.serving(), new);
}

#[tokio::test]
async fn nothing_is_waited_for_when_the_old_one_is_not_trusted_any_more() {
    let apiserver = Apiserver::default();
    let mut replica = Replica::new(&apiserver, true);
    replica.after(0).await.unwrap();
    let old = replica.wanted().bundle();
    replica.see(&old, json!({}));
    replica.after(60).await.unwrap();
    apiserver.delete(PATH);
    replica.after(1).await.unwrap();
    let new = replica.wanted().bundle();
    replica.see(&new, json!({}));
    replica.after(1).await.unwrap();
    assert_eq!(replica.serving(), new);
}

#[tokio::test]
async fn only_the_leader_writes_and_only_what_is_its_own() {
    let apiserver = Apiserver::default();
    let mut replica = Replica::new(&apiserver, true);
    replica.leading.send_replace(false);
    let error = replica.after(0).await.unwrap_err();
    assert!(error.contains("waiting for the leader"), "{error}");
    assert_eq!(apiserver.object(PATH), None);
    replica.leading.send_replace(true);
    replica.after(0).await.unwrap();
    let secret = apiserver.object(PATH).unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");

    let mut other = Replica::new(&apiserver, false);
    other.after(0).await.unwrap();
    apiserver.delete(PATH);
    let error = other.after(0).await.unwrap_err();
    assert!(error.contains("DISABLE_CA_MANAGEMENT is set"), "{error}");
    let mut garbage = secret.clone();
    garbage["data"]["tls.key"] = json!(STANDARD.encode("garbage"));
    apiserver.put(PATH, garbage);
    let error = other.after(0).await.unwrap_err();
    assert!(error.contains("tls.key is not a private key"), "{error}");
    // of a clock that was ahead
    let mut ahead = Replica::new(&Apiserver::default(), true);
    ahead.clock.advance(SignedDuration::from_hours(48));
    ahead.after(0).await.unwrap();
    let mut early = secret.clone();
    let data = ahead.wanted().data();
    early["data"] = serde_json::to_value(data).unwrap();
    apiserver.put(PATH, early);
    let error = other.after(0).await.unwrap_err();
    assert!(error.contains("not valid yet"), "{error}");
    // one that is ours is replaced
    replica.after(0).await.unwrap();
    assert_ne!(apiserver.object(PATH).unwrap()["data"], secret["data"]);
}

#[tokio::test]
async fn what_calls_another_service_keeps_it_from_being_ready() {
    let apiserver = Apiserver::default();
    let mut replica = Replica::new(&apiserver, true);
    replica.after(0).await.unwrap();
    let bundle = replica.wanted().bundle();
    let other = json!({"spec": {"conversion": {"webhook": {"clientConfig": {
        "caBundle": STANDARD.encode(bundle), "service": {"name": "emissary-apiext"},
    }}}}});
    replica.see("", other);
    replica.after(60).await.unwrap();
    let held = replica.held();
    let text = "conversion does not call Service ns/apiext: mappings.getambassador.io";
    assert!(held.contains(text), "{held}");
}

#[tokio::test]
async fn the_authority_is_renewed_before_it_expires_and_trusted_before_it_signs() {
    let apiserver = Apiserver::default();
    let mut replica = Replica::new(&apiserver, true);
    replica.after(0).await.unwrap();
    let first = replica.wanted();
    let bundle = first.bundle();
    replica.see(&bundle, json!({}));
    replica.after(60).await.unwrap();
    replica.clock.advance(SignedDuration::from_hours(24 * 306));
    replica.after(60).await.unwrap();
    let both = replica.wanted();
    assert_eq!(both.signing().certificate(), first.signing().certificate());
    assert_eq!(both.trusted().count(), 2);
    replica.see(&both.bundle(), json!({}));
    replica.clock.advance(SignedDuration::from_hours(24 * 8));
    replica.after(1).await.unwrap();
    replica.after(5).await.unwrap();
    let next = replica.wanted();
    assert_ne!(next.signing().certificate(), first.signing().certificate());
    assert_eq!(replica.serving(), next.signing().certificate().pem());
    assert_eq!(next.trusted().count(), 2);
}
