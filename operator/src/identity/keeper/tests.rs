use serde_json::json;

use super::*;
use crate::identity::testing::{Apiserver, TestClock};

const SECRET: &str = "/api/v1/namespaces/gateway/secrets/nuncio-ca";
const CONFIG_MAP: &str = "/api/v1/namespaces/gateway/configmaps/nuncio-ca";
const DAY: SignedDuration = SignedDuration::from_hours(24);

struct Replica {
    keeper: Keeper,
    authorities: watch::Receiver<Option<Arc<Authorities>>>,
    xds: watch::Receiver<Option<Arc<Certificates>>>,
    progress: Progress,
}

fn replica(apiserver: &Apiserver, clock: &TestClock) -> Replica {
    let outputs = Outputs {
        authorities: watch::channel(None).0,
        xds: watch::channel(None).0,
        certificates: watch::channel(None).0,
    };
    let (authorities, xds) = (outputs.authorities.subscribe(), outputs.xds.subscribe());
    let progress = Progress::default();
    let keeper = Keeper::new(
        apiserver.client(),
        "gateway",
        clock.clock(),
        outputs,
        progress.clone(),
        Metrics::default(),
    );
    Replica {
        keeper,
        authorities,
        xds,
        progress,
    }
}

impl Replica {
    async fn update(&mut self) -> Result<(), String> {
        let result = self.keeper.update().await;
        let text = result.as_ref().copied().map_err(ToString::to_string);
        self.keeper.report(result);
        text
    }

    fn bundle(&self) -> String {
        self.authorities.borrow().as_ref().unwrap().bundle()
    }

    fn certificate(&self) -> Vec<u8> {
        self.xds.borrow().as_ref().unwrap().certificate.text.clone()
    }
}

fn published(apiserver: &Apiserver) -> String {
    let config_map = apiserver.object(CONFIG_MAP).unwrap();
    config_map["data"]["ca.crt"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn two_replicas_at_once_agree_through_all_steps() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let other_clock = TestClock::new();
    let mut one = replica(&apiserver, &clock);
    let mut other = replica(&apiserver, &other_clock);
    let mut bundles = Vec::new();
    // half a day at a time, with clocks that differ by a day
    other_clock.advance(DAY);
    for _ in 0..2 * 400 {
        let results = tokio::join!(one.update(), other.update());
        // one of them can lose a race for the ConfigMap, and corrects it next time
        assert_eq!(results, (Ok(()), Ok(())));
        let bundle = one.bundle();
        if bundles.last() != Some(&bundle) {
            bundles.push(bundle);
        }
        clock.advance(DAY / 2);
        other_clock.advance(DAY / 2);
    }
    assert_eq!(tokio::join!(one.update(), other.update()), (Ok(()), Ok(())));
    assert_eq!(one.bundle(), other.bundle());
    assert_eq!(one.bundle(), published(&apiserver));
    // created, next added, switched, old one dropped
    let sizes = bundles.iter().map(|bundle| bundle.matches("BEGIN").count());
    assert_eq!(sizes.collect::<Vec<_>>(), [1, 2, 2, 1]);
}

#[tokio::test]
async fn a_replica_is_ready_once_it_has_a_certificate() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let mut replica = replica(&apiserver, &clock);
    apiserver.forbid(Some("secrets"));
    let error = replica.update().await.unwrap_err();
    assert!(
        error.contains("request for Secret nuncio-ca failed"),
        "{error}"
    );
    let text = replica.progress.describe();
    assert!(
        text.starts_with("waiting for certificate authority: request for Secret"),
        "{text}"
    );
    assert!(replica.keeper.metrics.misses_permission("secrets", SUBJECT));
    apiserver.forbid(None);
    replica.update().await.unwrap();
    assert!(
        !replica
            .progress
            .describe()
            .contains("certificate authority")
    );
    assert!(!replica.keeper.metrics.misses_permission("secrets", SUBJECT));
}

#[tokio::test]
async fn the_certificate_of_a_replica_is_renewed_daily() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let mut replica = replica(&apiserver, &clock);
    replica.update().await.unwrap();
    let first = replica.certificate();
    for (time, renewed) in [
        (SignedDuration::from_hours(23), false),
        (SignedDuration::from_hours(2), true),
        // the clock is corrected
        (-DAY, true),
        (-SignedDuration::from_hours(1), false),
    ] {
        let before = replica.certificate();
        clock.advance(time);
        replica.update().await.unwrap();
        assert_eq!(replica.certificate() != before, renewed, "{time:?}");
    }
    assert_ne!(replica.certificate(), first);
    // also while the apiserver is away
    let before = replica.certificate();
    apiserver.forbid(Some("secrets"));
    clock.advance(DAY * 2);
    replica.update().await.unwrap_err();
    assert_ne!(replica.certificate(), before);
}

#[tokio::test]
async fn a_broken_secret_is_reported_and_left_alone() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let mut replica = replica(&apiserver, &clock);
    replica.update().await.unwrap();
    let bundle = replica.bundle();
    let mut broken = apiserver.object(SECRET).unwrap();
    broken["data"]["tls.key"] = json!("eA==");
    apiserver.put(SECRET, broken.clone());
    let broken = apiserver.object(SECRET).unwrap();
    let error = replica.update().await.unwrap_err();
    assert!(
        error.starts_with("Secret gateway/nuncio-ca: tls.key is not a private key"),
        "{error}"
    );
    assert!(
        error.ends_with("fix it, or delete it for a new authority"),
        "{error}"
    );
    assert_eq!(apiserver.object(SECRET).unwrap(), broken);
    assert_eq!(replica.bundle(), bundle, "what is in memory serves on");
    let warnings = replica.progress.warnings();
    assert!(warnings.contains("using the previous one"), "{warnings}");
    // another replica, which has nothing in memory, is not ready
    let mut late = self::replica(&apiserver, &clock);
    late.update().await.unwrap_err();
    assert!(
        late.progress
            .describe()
            .contains("Secret gateway/nuncio-ca: tls.key")
    );

    apiserver.delete(SECRET);
    replica.update().await.unwrap();
    late.update().await.unwrap();
    assert_eq!(replica.progress.warnings(), "");
    assert_ne!(replica.bundle(), bundle, "a new authority");
    assert_eq!(late.bundle(), replica.bundle());
    assert_eq!(published(&apiserver), replica.bundle());
}

#[tokio::test]
async fn an_authority_that_a_user_supplies_is_used_and_never_written() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let supplied = Authorities::create(clock.now()).unwrap();
    apiserver.put(SECRET, self::supplied(&supplied));
    let secret = apiserver.object(SECRET);
    let mut replica = replica(&apiserver, &clock);
    replica.update().await.unwrap();
    assert_eq!(published(&apiserver), supplied.bundle());
    clock.advance(DAY * 340); // ours would be rotated
    replica.update().await.unwrap();
    clock.advance(DAY * 30);
    let error = replica.update().await.unwrap_err();
    assert!(
        error.contains("expired at") && error.contains("supply a new one"),
        "{error}"
    );
    assert_eq!(apiserver.object(SECRET), secret);
}

/// A Secret of a user.
fn supplied(authorities: &Authorities) -> serde_json::Value {
    let mut data = authorities.data();
    data.remove("ca.crt");
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nuncio-ca", "namespace": "gateway"}, "type": "kubernetes.io/tls", "data": data})
}

#[tokio::test]
async fn an_authority_that_a_user_replaces_is_trusted_for_a_day() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let authorities = [(); 3].map(|()| Authorities::create(clock.now()).unwrap());
    let [first, second, third] = &authorities;
    apiserver.put(SECRET, supplied(first));
    let mut replica = replica(&apiserver, &clock);
    replica.update().await.unwrap();
    assert_eq!(replica.bundle(), first.bundle());

    apiserver.put(SECRET, supplied(second));
    replica.update().await.unwrap();
    let both = second.bundle() + &first.bundle();
    assert_eq!(replica.bundle(), both);
    let client_ca = replica.xds.borrow().as_ref().unwrap().client_ca.clone();
    assert_eq!(client_ca.unwrap().text, both.clone().into_bytes());
    assert_eq!(published(&apiserver), second.bundle(), "as every replica");
    // also when it has to be read again, and while it cannot be
    clock.advance(DAY);
    replica.update().await.unwrap();
    apiserver.forbid(Some("secrets"));
    replica.update().await.unwrap_err();
    assert_eq!(replica.bundle(), both);
    apiserver.forbid(None);
    clock.advance(SignedDuration::from_hours(2));
    replica.update().await.unwrap();
    assert_eq!(replica.bundle(), second.bundle());

    // a Secret that is deleted is withdrawn
    apiserver.delete(SECRET);
    apiserver.put(SECRET, supplied(third));
    replica.update().await.unwrap();
    assert_eq!(replica.bundle(), third.bundle());
}

#[tokio::test]
async fn an_edited_config_map_is_corrected() {
    let (apiserver, clock) = (Apiserver::default(), TestClock::new());
    let mut replica = replica(&apiserver, &clock);
    replica.update().await.unwrap();
    let mut edited = apiserver.object(CONFIG_MAP).unwrap();
    edited["data"] = json!({"ca.crt": "x"});
    apiserver.put(CONFIG_MAP, edited);
    replica.update().await.unwrap();
    assert_eq!(published(&apiserver), replica.bundle());
}

#[test]
fn the_names_of_the_service_are_certified() {
    let names = server_names("gateway").unwrap();
    let expected = [
        "nuncio-xds",
        "nuncio-xds.gateway",
        "nuncio-xds.gateway.svc",
        "nuncio-xds.gateway.svc.cluster.local",
    ];
    let expected = expected.map(|name| SanType::DnsName(name.try_into().unwrap()));
    assert_eq!(names, expected);
}
