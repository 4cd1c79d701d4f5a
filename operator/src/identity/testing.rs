//! An apiserver in memory with Secrets, ConfigMaps and TokenReviews, a clock to set, and verification at any time.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use http::{Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, client::Body};
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};

use super::Clock;

/// A clock to set.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn advance(&self, time: SignedDuration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

type Review = Box<dyn Fn(&str) -> Value + Send>;

#[derive(Default)]
struct State {
    version: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    /// The status of the review of a token.
    review: Option<Review>,
    /// Paths that are forbidden.
    forbidden: Option<String>,
}

/// An apiserver in memory.
#[derive(Clone, Default)]
pub(crate) struct Apiserver(Arc<Mutex<State>>);

impl Apiserver {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                // so that requests of replicas take turns
                tokio::task::yield_now().await;
                let (status, value) = server.answer(&head.method, head.uri.path(), &body);
                let response = Response::builder().status(status);
                let body = Body::from(value.to_string().into_bytes());
                Ok::<_, Infallible>(response.body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        let uid = state
            .objects
            .get(path)
            .map(|old| old["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid.unwrap_or_else(|| json!(state.version.to_string()));
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(path.to_owned(), object);
    }

    pub(crate) fn delete(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path);
    }

    /// Forbids requests whose path contains this.
    pub(crate) fn forbid(&self, part: Option<&str>) {
        self.0.lock().unwrap().forbidden = part.map(str::to_owned);
    }

    pub(crate) fn review(&self, review: impl Fn(&str) -> Value + Send + 'static) {
        self.0.lock().unwrap().review = Some(Box::new(review));
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let failure = |code: u16, reason: &str| {
            let text = format!("{reason} {path}");
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": text, "code": code, "metadata": {}});
            (code, status)
        };
        let mut state = self.0.lock().unwrap();
        if state
            .forbidden
            .as_ref()
            .is_some_and(|part| path.contains(part))
        {
            return failure(403, "Forbidden");
        }
        let sent = serde_json::from_slice::<Value>(body);
        match *method {
            Method::GET => match state.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => failure(404, "NotFound"),
            },
            Method::POST if path.ends_with("/tokenreviews") => {
                let mut review = sent.unwrap();
                assert_eq!(review["spec"]["audiences"], json!(["nuncio-xds"]));
                let token = review["spec"]["token"].as_str().unwrap().to_owned();
                let answer = state.review.as_ref().map(|answer| answer(&token));
                review["status"] = answer.unwrap_or_default();
                (201, review)
            }
            Method::POST | Method::PUT => {
                let mut object = sent.unwrap();
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                let path = match *method {
                    Method::POST => format!("{path}/{name}"),
                    _ => path.to_owned(),
                };
                let known = state.objects.get(&path);
                let version = known.map(|known| &known["metadata"]["resourceVersion"]);
                let expected = &object["metadata"]["resourceVersion"];
                let is_current = match version {
                    Some(version) => *method == Method::PUT && version == expected,
                    None => *method == Method::POST,
                };
                if !is_current {
                    return failure(409, "Conflict");
                }
                state.version += 1;
                if *method == Method::POST {
                    object["metadata"]["uid"] = json!(state.version.to_string());
                }
                object["metadata"]["resourceVersion"] = json!(state.version.to_string());
                state.objects.insert(path, object.clone());
                (201, object)
            }
            _ => failure(405, "MethodNotAllowed"),
        }
    }
}

/// Whether a client certificate is valid for a verifier that trusts this bundle, at this time.
pub(crate) fn verifies(chain: &str, bundle: &str, now: Timestamp) -> bool {
    let certificates = |text: &str| -> Vec<CertificateDer<'static>> {
        let found: Result<_, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        found.unwrap()
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(bundle) {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let chain = certificates(chain);
    let seconds = u64::try_from(now.as_second()).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let verified = verifier
        .build()
        .unwrap()
        .verify_client_cert(&chain[0], &chain[1..], at);
    verified.is_ok()
}
