//! A proxy in front of an apiserver that answers in its place, for one kind or for all: with a status, with a page, or not
//! at all. Without a fault it passes everything on, credentials included.

use std::{
    convert::Infallible,
    error::Error,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// What is answered in place of the apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An error of Kubernetes with this status.
    Status(u16),
    /// 429 with `Retry-After`, as the apiserver answers requests beyond the share of a client.
    Throttled,
    /// A page with status 200, as a login page in between would be.
    Page,
    /// An error with status 404 that is not of Kubernetes, as that of a load balancer without a backend.
    NoBackend,
    /// A watch expires, and the list after that is without objects. Everything later is passed on.
    EmptyList,
    /// Nothing: connections stay open.
    Silence,
}

/// What a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every request.
    All,
    /// Requests for a kind, by its plural.
    Kind(&'static str),
    /// Writes of status.
    Status,
}

/// Seconds in `Retry-After` of [`Reply::Throttled`].
pub const RETRY_AFTER: u64 = 2;

/// Writes of status that were passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusWrites {
    /// How many.
    pub requests: u64,
    /// Bytes of the bodies of requests.
    pub sent: u64,
    /// Bytes of the bodies of answers.
    pub received: u64,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it affects.
    pub scope: Scope,
    /// What is answered.
    pub reply: Reply,
}

impl Fault {
    fn affects(&self, path: &str) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Kind(plural) => resource(path) == Some(plural),
            Scope::Status => is_status(path),
        }
    }
}

/// Whether a path is that of the status of an object.
fn is_status(path: &str) -> bool {
    path.ends_with("/status")
}

/// The plural of the kind that a path is about.
fn resource(path: &str) -> Option<&str> {
    let mut segments = path.strip_prefix('/')?.split('/');
    // a version, after a group if there is one
    let skipped = if segments.next() == Some("api") { 1 } else { 2 };
    let rest: Vec<&str> = segments.skip(skipped).collect();
    match *rest {
        ["namespaces", _, plural, ..] | [plural, ..] => Some(plural),
        [] => None,
    }
}

/// A running proxy. It stops when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    state: State,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct State {
    fault: watch::Sender<Option<Fault>>,
    /// How many requests have met the current fault, or the last one.
    met: Arc<AtomicU64>,
    writes: Arc<Mutex<StatusWrites>>,
}

impl FaultProxy {
    /// Starts one from this address to an apiserver.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(address: &str, apiserver: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let client = client(apiserver)?;
        let acceptor = acceptor()?;
        let state = State {
            fault: watch::channel(None).0,
            met: Arc::default(),
            writes: Arc::default(),
        };
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state, client) = (acceptor.clone(), shared.clone(), client.clone());
                tokio::spawn(async move {
                    let stream = TokioIo::new(acceptor.accept(stream).await?);
                    let service =
                        service_fn(move |request| answer(request, state.clone(), client.clone()));
                    http1::Builder::new()
                        .serve_connection(stream, service)
                        .await?;
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self { state, task })
    }

    /// Begins a fault, in place of the current one. Watches that it affects end, or are silent.
    pub fn begin(&self, fault: Fault) {
        self.state.met.store(0, Ordering::Relaxed);
        self.state.fault.send_replace(Some(fault));
    }

    /// Ends the fault.
    pub fn end(&self) {
        self.state.fault.send_replace(None);
    }

    /// How many requests have met the current fault, or the last one.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.state.met.load(Ordering::Relaxed)
    }

    /// The writes of status that were passed on so far.
    ///
    /// # Errors
    /// A request has panicked.
    pub fn status_writes(&self) -> Result<StatusWrites> {
        let writes = self.state.writes.lock();
        Ok(*writes.map_err(|_panicked| anyhow!("a request has panicked"))?)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client without credentials, for requests that have them already.
fn client(apiserver: &str) -> Result<Client> {
    let mut config = Config::new(format!("https://{apiserver}").parse()?);
    config.accept_invalid_certs = true;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// TLS with a certificate that no client verifies.
fn acceptor() -> Result<TlsAcceptor> {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.into()], PrivateKeyDer::Pkcs8(key))?;
    Ok(Arc::new(config).into())
}

async fn answer(
    request: Request<Incoming>,
    state: State,
    client: Client,
) -> Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.split('&').any(|pair| pair.starts_with("watch="));
    let fault = *state.fault.borrow();
    if let Some(fault) = fault.filter(|fault| fault.affects(&path)) {
        match fault.reply {
            Reply::EmptyList if state.met.load(Ordering::Relaxed) > 0 => {}
            Reply::EmptyList if is_watch => return replied(Reply::Status(410)).await,
            reply => {
                state.met.fetch_add(1, Ordering::Relaxed);
                return replied(reply).await;
            }
        }
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::HOST);
    let body = body.collect().await?.to_bytes();
    let sent = body.len() as u64;
    let response = client.send(Request::from_parts(parts, body.into())).await?;
    let (mut parts, body) = response.into_parts();
    if is_status(&path)
        && let Ok(mut writes) = state.writes.lock()
    {
        writes.requests += 1;
        writes.sent += sent;
        let length = parts.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        writes.received += length.unwrap_or_default();
    }
    let body = body.map_err(Into::into);
    remove_framing(&mut parts.headers);
    if !is_watch {
        return Ok(Response::from_parts(parts, body.boxed_unsync()));
    }
    let events = BodyStream::new(body).take_until(begins(state.fault.subscribe(), path));
    // whether it ends or becomes silent is decided when the fault begins
    let rest = stream::once(async move {
        let fault = *state.fault.borrow();
        if fault.is_some_and(|fault| fault.reply == Reply::Silence) {
            state.met.fetch_add(1, Ordering::Relaxed);
            pending::<()>().await;
        }
    });
    let rest = rest.filter_map(|()| async { None });
    let events = events.chain(rest);
    Ok(Response::from_parts(
        parts,
        StreamBody::new(events).boxed_unsync(),
    ))
}

/// Completes when a fault begins that affects this path.
async fn begins(mut faults: watch::Receiver<Option<Fault>>, path: String) {
    let affects = |fault: &Option<Fault>| fault.is_some_and(|fault| fault.affects(&path));
    let _ = faults.wait_for(affects).await;
}

fn remove_framing(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
    ] {
        headers.remove(name);
    }
}

async fn replied(reply: Reply) -> Result<Response<Body>> {
    let (status, kind, text) = match reply {
        Reply::Status(code) => (code, "application/json", error(code)),
        Reply::Throttled => (
            429,
            "text/plain",
            "Too many requests, please try again later.".to_owned(),
        ),
        Reply::Page => (
            200,
            "text/html",
            "<html><body>Log in</body></html>".to_owned(),
        ),
        Reply::NoBackend => (404, "text/plain", "default backend - 404".to_owned()),
        Reply::EmptyList => {
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
            (200, "application/json", list.to_string())
        }
        Reply::Silence => pending().await,
    };
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status)?;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if reply == Reply::Throttled {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, RETRY_AFTER.into());
    }
    Ok(response)
}

/// An error as the apiserver writes it.
fn error(code: u16) -> String {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "by the fault proxy", "reason": reason, "code": code})
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_about_one_kind() {
        for (path, plural) in [
            ("/api/v1/namespaces", Some("namespaces")),
            ("/api/v1/namespaces/a", Some("namespaces")),
            ("/api/v1/namespaces/a/secrets/b", Some("secrets")),
            ("/api/v1/secrets", Some("secrets")),
            ("/apis/getambassador.io/v3alpha1/mappings", Some("mappings")),
            (
                "/apis/getambassador.io/v3alpha1/namespaces/a/mappings/b/status",
                Some("mappings"),
            ),
            ("/apis/getambassador.io/v3alpha1", None),
            ("/version", None),
        ] {
            assert_eq!(resource(path), plural, "{path}");
        }
    }
}
