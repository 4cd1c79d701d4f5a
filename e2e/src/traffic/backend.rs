//! The backend of traffic, which can spoil one exchange of a lane to show that it is noticed.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::wait::until;

/// Number of pieces of a download.
pub(super) const PIECES: usize = 30;
/// Size of each.
pub(super) const PIECE: usize = 1000;
/// Time between them.
const PACE: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A running backend. Stopped when dropped.
#[derive(Debug)]
pub struct TrafficBackend {
    task: JoinHandle<()>,
    spoilt: Spoilt,
}

/// The lanes whose next exchange is spoilt.
#[derive(Clone, Debug, Default)]
struct Spoilt(Arc<Mutex<BTreeSet<String>>>);

impl Spoilt {
    /// Whether an exchange is to be spoilt; the next one is not.
    fn take(&self, path: &str) -> bool {
        let lane = path.rsplit('/').next().unwrap_or_default();
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.remove(lane)
    }
}

impl TrafficBackend {
    /// Answers on an address.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: &str) -> Result<Self> {
        let listener = until("the address of the backend", || async {
            Ok(TcpListener::bind(address).await?)
        })
        .await?;
        let spoilt = Spoilt::default();
        let task = tokio::spawn(serve(listener, spoilt.clone()));
        Ok(Self { task, spoilt })
    }

    /// Spoils the next exchange of a lane.
    pub fn spoil(&self, lane: &str) {
        let mut lanes = self.spoilt.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.insert(lane.to_owned());
    }
}

impl Drop for TrafficBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, spoilt: Spoilt) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let spoilt = spoilt.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request, &spoilt);
                async { Ok::<_, Infallible>(answer) }
            });
            let builder = Builder::new(TokioExecutor::new());
            // the client sees how the connection ends
            let _ = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(request: Request<Incoming>, spoilt: &Spoilt) -> Response<Body> {
    let is_spoilt = spoilt.take(request.uri().path());
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    if let Some(key) = key.map(|key| derive_accept_key(key.as_bytes())) {
        tokio::spawn(echo(request, is_spoilt));
        return upgraded(&key);
    }
    if request.uri().path().contains("download") {
        return Response::new(download(is_spoilt));
    }
    let mut response = Response::new(whole("ok"));
    if is_spoilt {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

fn whole(text: &'static str) -> Body {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A body that takes its time; a spoilt one breaks off.
fn download(is_spoilt: bool) -> Body {
    let pieces = stream::iter(0..PIECES).then(move |number| async move {
        sleep(PACE).await;
        if is_spoilt && number == PIECES / 2 {
            return Err(io::Error::other("spoilt"));
        }
        Ok(Frame::data(Bytes::from_static(&[b'x'; PIECE])))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn upgraded(key: &str) -> Response<Body> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    response
}

/// Sends each message back; a spoilt session ends after the first.
async fn echo(request: Request<Incoming>, is_spoilt: bool) {
    let Ok(stream) = hyper::upgrade::on(request).await else {
        return;
    };
    let stream = TokioIo::new(stream);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && (socket.send(message).await.is_err() || is_spoilt) {
            return;
        }
    }
}
