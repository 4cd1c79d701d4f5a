//! The health server: `/ambassador/v0/check_alive` and `/ambassador/v0/check_ready` (Emissary's paths, so that existing
//! probes work) and `/metrics`.
//!
//! Alive means that the process responds. Ready means that every source has been read and the first snapshot is built:
//! before that, an Envoy that connects would wait. A response that is not ready lists what is still missing. Every response
//! lists warnings, such as a missing permission, and one that is ready the Listeners whose addresses an Envoy cannot bind.

use std::{
    collections::BTreeMap,
    fmt::Display,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    http_server::{self, Limits},
    printable::printable,
};
use nuncio_core::object::Kind;

/// What each source still waits for, and what is wrong although the process is ready. Cheap to clone; clones share their
/// content.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    waiting: BTreeMap<Kind, String>,
    /// What else must be there, by what it is.
    held: BTreeMap<&'static str, String>,
    /// By what they are about.
    warnings: BTreeMap<String, String>,
}

impl Progress {
    /// Marks `kind` as incomplete, for this reason.
    pub fn waiting(&self, kind: Kind, reason: impl Into<String>) {
        self.lock().waiting.insert(kind, reason.into());
    }

    /// Marks `kind` as complete.
    pub fn complete(&self, kind: Kind) {
        self.lock().waiting.remove(&kind);
    }

    /// Whether `kind` is incomplete.
    pub(crate) fn is_waiting(&self, kind: Kind) -> bool {
        self.lock().waiting.contains_key(&kind)
    }

    /// Keeps the process from being ready for this reason, until [`Progress::release`].
    pub fn hold(&self, subject: &'static str, reason: impl Into<String>) {
        self.lock().held.insert(subject, reason.into());
    }

    /// Does not keep the process from being ready any more.
    pub fn release(&self, subject: &'static str) {
        self.lock().held.remove(subject);
    }

    fn is_held(&self) -> bool {
        !self.lock().held.is_empty()
    }

    /// Why the process is not ready, one line for each reason, if it is not.
    pub(crate) fn held(&self) -> Option<String> {
        let content = self.lock();
        let held = content.held.iter();
        let lines = held.map(|(subject, reason)| format!("waiting for {subject}: {reason}\n"));
        (!content.held.is_empty()).then(|| lines.collect())
    }

    /// Adds a warning, or replaces the one about the same subject.
    pub fn warn(&self, subject: &str, warning: impl Into<String>) {
        self.lock()
            .warnings
            .insert(subject.to_owned(), warning.into());
    }

    /// Removes the warning about a subject.
    pub fn settle(&self, subject: &str) {
        self.lock().warnings.remove(subject);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is missing, one line for each kind.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        self.describe_with("")
    }

    /// What is missing, one line for each kind, and these lines about fleets that have no snapshot.
    fn describe_with(&self, fleets: &str) -> String {
        let content = self.lock();
        if content.waiting.is_empty() && content.held.is_empty() && fleets.is_empty() {
            return "building the first snapshot\n".to_owned();
        }
        let line =
            |subject: &dyn Display, reason: &str| format!("waiting for {subject}: {reason}\n");
        let waiting = content.waiting.iter();
        let held = content.held.iter();
        waiting
            .map(|(kind, reason)| line(kind, reason))
            .chain(held.map(|(subject, reason)| line(subject, reason)))
            .chain([fleets.to_owned()])
            .collect()
    }

    /// The warnings, one line each.
    pub(crate) fn warnings(&self) -> String {
        let state = self.lock();
        let lines = state.warnings.values();
        lines.map(|text| format!("warning: {text}\n")).collect()
    }
}

/// The readiness of a fleet.
#[derive(Clone, Debug)]
pub struct FleetHealth {
    /// Its ID, if there are several.
    pub id: Option<String>,
    /// Becomes true after the first snapshot.
    pub ready: watch::Receiver<bool>,
    /// Listeners whose addresses an Envoy cannot bind.
    pub unbound: watch::Receiver<Vec<String>>,
}

impl FleetHealth {
    /// What an Envoy cannot bind, a line each.
    fn unbound(&self) -> String {
        let unbound = self.unbound.borrow();
        let lines = unbound.iter().map(|line| match &self.id {
            Some(id) => format!("{}: {}\n", printable(id), printable(line.trim_end())),
            None => format!("{}\n", printable(line.trim_end())),
        });
        lines.collect()
    }
}

/// What the health server responds with.
#[derive(Clone, Debug)]
pub struct Health {
    /// The fleets. The process is ready when each of them is.
    pub fleets: Vec<FleetHealth>,
    /// What is missing until then.
    pub progress: Progress,
    /// The metrics of `/metrics`.
    pub registries: Arc<[Registry; 2]>,
    /// Cancelled when the process stops.
    pub stopping: CancellationToken,
}

/// Serves `listener` until `shutdown` completes.
pub async fn serve(listener: TcpListener, health: Health, shutdown: impl Future<Output = ()>) {
    http_server::serve(listener, router(health), Limits::default(), shutdown).await;
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/ambassador/v0/check_alive", get(|| async { "alive\n" }))
        .route("/ambassador/v0/check_ready", get(check_ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn check_ready(State(health): State<Health>) -> Response {
    if health.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let warnings = health.progress.warnings();
    let missing = health.fleets.iter().filter(|fleet| !*fleet.ready.borrow());
    let is_missing = missing.clone().next().is_some();
    if !is_missing && !health.progress.is_held() {
        let unbound: String = health.fleets.iter().map(FleetHealth::unbound).collect();
        return format!("ready\n{warnings}{unbound}").into_response();
    }
    let missing: String = missing
        .filter_map(|fleet| fleet.id.as_deref())
        .map(|id| format!("building the first snapshot of AMBASSADOR_ID {id:?}\n"))
        .collect();
    let body = health.progress.describe_with(&missing) + &warnings;
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    metrics_page(&health.registries.each_ref())
}

/// The text of these metrics.
pub(crate) fn metrics_page(registries: &[&Registry]) -> Response {
    let mut body = String::new();
    let encoded = registries
        .iter()
        .try_for_each(|registry| text::encode_registry(&mut body, registry))
        .and_then(|()| text::encode_eof(&mut body));
    match encoded {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn fleet(id: Option<&str>, ready: watch::Receiver<bool>) -> FleetHealth {
        FleetHealth {
            id: id.map(str::to_owned),
            ready,
            unbound: watch::channel(vec!["tcp-8080: cannot bind '0.0.0.0:8080'\n".to_owned()]).1,
        }
    }

    async fn start() -> (SocketAddr, watch::Sender<bool>, Progress) {
        let (ready, receiver) = watch::channel(false);
        let progress = Progress::default();
        let mut registry = Registry::default();
        let _metrics = crate::metrics::Metrics::new(&mut registry);
        let health = Health {
            fleets: vec![fleet(None, receiver)],
            progress: progress.clone(),
            registries: Arc::new([registry, Registry::default()]),
            stopping: CancellationToken::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, health, std::future::pending()));
        (address, ready, progress)
    }

    #[tokio::test]
    async fn alive_at_once_and_ready_after_the_first_snapshot() {
        let (address, ready, _progress) = start().await;
        let alive = get(address, "/ambassador/v0/check_alive").await;
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
        let before = get(address, "/ambassador/v0/check_ready").await;
        assert!(before.starts_with("HTTP/1.1 503"), "{before}");
        ready.send(true).unwrap();
        let after = get(address, "/ambassador/v0/check_ready").await;
        assert!(after.starts_with("HTTP/1.1 200"), "{after}");
        assert!(
            after.ends_with("ready\ntcp-8080: cannot bind '0.0.0.0:8080'\n"),
            "{after}"
        );
    }

    #[tokio::test]
    async fn with_several_fleets_each_must_be_ready_and_the_others_are_named() {
        let (one, of_one) = watch::channel(false);
        let (other, of_other) = watch::channel(false);
        let health = Health {
            fleets: vec![fleet(Some("a"), of_one), fleet(Some("b"), of_other)],
            progress: Progress::default(),
            registries: Arc::new([Registry::default(), Registry::default()]),
            stopping: CancellationToken::new(),
        };
        let body = async || {
            let response = check_ready(State(health.clone())).await;
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1000).await;
            (status, String::from_utf8(body.unwrap().into()).unwrap())
        };
        let line = |id: &str| format!("building the first snapshot of AMBASSADOR_ID {id:?}\n");
        assert_eq!(body().await, (503, line("a") + &line("b")));
        one.send(true).unwrap();
        assert_eq!(body().await, (503, line("b")));
        other.send(true).unwrap();
        let unbound = |id: &str| format!("{id}: tcp-8080: cannot bind '0.0.0.0:8080'\n");
        let ready = format!("ready\n{}{}", unbound("a"), unbound("b"));
        assert_eq!(body().await, (200, ready));
    }

    #[tokio::test]
    async fn a_response_that_is_not_ready_lists_what_is_missing() {
        let (address, _ready, progress) = start().await;
        progress.waiting(Kind::Mapping, "forbidden");
        progress.waiting(Kind::Host, "listing");
        progress.complete(Kind::Host);
        let answer = get(address, "/ambassador/v0/check_ready").await;
        assert!(
            answer.ends_with("waiting for Mapping: forbidden\n"),
            "{answer}"
        );
        assert!(!answer.contains("Host"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_held_keeps_a_built_snapshot_from_being_ready() {
        let (address, ready, progress) = start().await;
        ready.send(true).unwrap();
        progress.hold("certificate authority", "reading Secret a/b");
        let answer = get(address, "/ambassador/v0/check_ready").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let line = "waiting for certificate authority: reading Secret a/b\n";
        assert!(answer.ends_with(line), "{answer}");
        progress.release("certificate authority");
        let answer = get(address, "/ambassador/v0/check_ready").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn a_ready_response_lists_warnings_until_they_are_settled() {
        let (address, ready, progress) = start().await;
        ready.send(true).unwrap();
        progress.warn("Namespace", "missing permission to list namespaces");
        let answer = get(address, "/ambassador/v0/check_ready").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let expected = "ready\nwarning: missing permission to list namespaces\n";
        assert!(answer.contains(expected), "{answer}");
        progress.settle("Namespace");
        let answer = get(address, "/ambassador/v0/check_ready").await;
        assert!(!answer.contains("warning"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_are_text_with_a_content_type() {
        let (address, ..) = start().await;
        let answer = get(address, "/metrics").await;
        assert!(
            answer.contains("content-type: application/openmetrics-text"),
            "{answer}"
        );
        assert!(answer.trim_end().ends_with("# EOF"), "{answer}");
    }
}
