use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    super::testing::{CertificateServer, Reply},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The directory of a pod.
struct Pod {
    folder: TempDir,
    state: State,
    obtained: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pod {
    fn start(identity: impl FnOnce(&TempDir) -> Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (obtained, is_obtained) = watch::channel(false);
        let state = State::default();
        let keeper = Keeper {
            identity: identity(&folder),
            files: SdsFiles {
                certificate: folder.path().join("certificate.json"),
                ca: folder.path().join("ca.json"),
            },
            state: state.clone(),
            obtained,
            patience: Duration::from_secs(1),
        };
        Self {
            folder,
            state,
            obtained: is_obtained,
            task: tokio::spawn(keeper.keep()),
        }
    }

    fn requesting(server: &CertificateServer) -> Self {
        let port = server.address.port();
        Self::start(|folder| Identity::Requested {
            server: ("127.0.0.1".to_owned(), port),
            ca: folder.path().join("ca.crt"),
            token: folder.path().join("token"),
        })
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn obtained(&mut self) {
        let obtained = self.obtained.wait_for(|obtained| *obtained);
        let in_time = timeout(Duration::from_secs(20), obtained).await;
        assert!(in_time.is_ok(), "{:?}", self.state.ready());
    }

    /// A text in the secret of a file.
    fn secret(&self, name: &str, place: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let text = json.pointer(&format!("/resources/0/{place}"));
        text.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn chain(&self) -> String {
        self.secret(
            "certificate.json",
            "tls_certificate/certificate_chain/inline_string",
        )
    }

    fn trusted(&self) -> String {
        self.secret("ca.json", "validation_context/trusted_ca/inline_string")
    }
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn files_that_are_missing_at_first_are_waited_for() {
    let server = CertificateServer::start(Reply::Sign(DAY)).await;
    let mut pod = Pod::requesting(&server);
    let waits_for = |pod: &Pod, what: &str| pod.state.ready().unwrap_err().contains(what);
    until("the CA", || waits_for(&pod, "ca.crt: No such file")).await;
    pod.write("ca.crt", "not PEM");
    until("a certificate in it", || waits_for(&pod, "no certificate")).await;
    pod.write("ca.crt", &server.ca);
    until("the token", || waits_for(&pod, "token: No such file")).await;
    assert_eq!(server.tokens().len(), 0);
    pod.write("token", "first\n");
    pod.obtained().await;
    assert_eq!(server.tokens(), ["Bearer first"]);
    assert!(pod.chain().contains("BEGIN CERTIFICATE"));
    assert!(pod.trusted().contains(server.ca.trim()));
}

#[tokio::test]
async fn a_certificate_is_renewed_with_the_token_of_then_and_kept_while_that_fails() {
    let server = CertificateServer::start(Reply::Sign(Duration::from_secs(4))).await;
    let mut pod = Pod::requesting(&server);
    pod.write("token", "first");
    pod.write("ca.crt", &server.ca);
    pod.obtained().await;
    let first = pod.chain();
    pod.write("token", "second");
    server.reply(Reply::Reject("not now"));
    until("a failed renewal", || {
        pod.state.metrics(true).contains(r#"result="error"} 2"#)
    })
    .await;
    assert_eq!(pod.chain(), first, "what there is stays");
    server.reply(Reply::Sign(DAY));
    until("another certificate", || pod.chain() != first).await;
    let tokens = server.tokens();
    assert!(tokens.len() >= 4, "{tokens:?}");
    assert!(tokens[1..].iter().all(|token| token == "Bearer second"));
}

#[tokio::test]
async fn authorities_that_change_are_passed_on_at_once_and_garbage_is_not() {
    let server = CertificateServer::start(Reply::Sign(DAY)).await;
    let next = CertificateServer::start(Reply::Sign(DAY)).await;
    let mut pod = Pod::requesting(&server);
    pod.write("token", "x");
    pod.write("ca.crt", &server.ca);
    pod.obtained().await;
    assert!(!pod.trusted().contains(next.ca.trim()));
    pod.write("ca.crt", &format!("{}{}", server.ca, next.ca));
    until("the next authority", || {
        pod.trusted().contains(next.ca.trim())
    })
    .await;
    let before = pod.trusted();
    pod.write("ca.crt", "");
    sleep(PERIOD * 2).await;
    assert_eq!(pod.trusted(), before);
}

#[tokio::test]
async fn an_envoy_that_cannot_connect_gets_another_certificate() {
    let server = CertificateServer::start(Reply::Sign(DAY)).await;
    let mut pod = Pod::requesting(&server);
    pod.write("token", "x");
    pod.write("ca.crt", &server.ca);
    pod.obtained().await;
    pod.state.responded(true);
    sleep(PERIOD * 2).await;
    assert_eq!(server.tokens().len(), 1, "it is connected");
    pod.state.responded(false);
    until("another certificate", || server.tokens().len() > 1).await;
    pod.state.responded(true);
    let requests = server.tokens().len();
    sleep(PERIOD * 3).await;
    assert!(server.tokens().len() <= requests + 1, "it is connected");
}

#[tokio::test]
async fn files_of_others_are_used_once_they_fit_together() {
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["nuncio".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let mut pod = Pod::start(|folder| {
        let path = |name| folder.path().join(name);
        Identity::Files(TlsFiles {
            ca: path("ca.crt"),
            certificate: path("tls.crt"),
            key: path("tls.key"),
        })
    });
    pod.write("ca.crt", &certificate);
    pod.write("tls.crt", &certificate);
    pod.write("tls.key", &other.serialize_pem());
    until("the mismatch", || {
        let ready = pod.state.ready();
        ready.is_err_and(|reason| reason.contains("not that of the certificate"))
    })
    .await;
    assert!(!*pod.obtained.borrow());
    pod.write("tls.key", &key.serialize_pem());
    pod.obtained().await;
    let key = pod.secret("certificate.json", "tls_certificate/private_key/filename");
    assert!(key.ends_with("tls.key"), "{key}");
}

#[test]
fn renewal_is_after_two_thirds_at_the_latest() {
    let renewal = |random| renewal(DAY, random);
    assert_eq!(renewal(0.0), DAY * 2 / 3);
    assert!(renewal(1.0) >= DAY * 3 / 5 && renewal(0.5) < renewal(0.0));
}
