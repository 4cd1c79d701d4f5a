//! The ADS server: both variants of the aggregated discovery service, on tonic.
//!
//! The protocol is implemented as state machines without I/O (`connection`, `subscription`); `stream` moves messages
//! between them and the transport. Responses consist of bytes that are encoded once for all streams. Therefore the two
//! methods are written by hand: generated ones would encode every message again.

use std::{
    convert::Infallible,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};
use tonic::{
    body::Body,
    server::{Grpc, NamedService},
};

use crate::{cache::SnapshotCache, fleet::Fleet, socket::Listener};

mod codec;
mod connection;
mod connections;
mod metrics;
mod stream;
mod subscription;
mod tls;
mod transport;

#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use tls::{Tls, TlsError};

use self::{
    connections::Connections,
    tls::Reloader,
    transport::{Io, Limits},
};

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TLS; `None`: cleartext, for connections within one machine.
    pub tls: Option<Tls>,
    /// How long clusters and endpoints are kept for active requests after the routes to them are removed.
    pub removal_grace: Duration,
    /// Approximate age at which streams are closed, so that Envoys spread over replicas; `None`: no limit.
    pub max_stream_age: Option<Duration>,
    /// Maximum size of a request in bytes. A reconnecting Envoy lists all resources that it has.
    pub max_request_bytes: usize,
    /// How long the server waits on shutdown for clients to close their connections.
    pub drain: Duration,
    /// On shutdown streams end one by one in this time, so that Envoys do not all reconnect at once.
    pub shutdown_spread: Duration,
    /// Maximum number of connections. Beyond it those without a stream are closed, oldest first.
    pub max_connections: usize,
    /// How long a connection may have no stream, a stream no request, and how long a TLS handshake may take.
    pub idle_timeout: Duration,
    /// How often certificates are read again.
    pub tls_reload: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: None,
            removal_grace: Duration::from_secs(10),
            max_stream_age: Some(Duration::from_secs(45 * 60)),
            max_request_bytes: 64 << 20,
            drain: Duration::from_millis(500),
            shutdown_spread: Duration::from_secs(3),
            max_connections: 10_000,
            idle_timeout: Duration::from_secs(10),
            tls_reload: Duration::from_secs(5),
        }
    }
}

/// Errors of the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificates are invalid.
    #[error("xDS server: invalid TLS configuration")]
    Tls(#[source] TlsError),
    /// The transport failed.
    #[error("xDS server: transport failed")]
    Transport(#[source] tonic::transport::Error),
}

/// The server. Cheap to clone: clones share their state.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cache: SnapshotCache,
    fleet: Fleet,
    settings: Settings,
    metrics: Metrics,
    connections: Connections,
    /// Whether streams must close.
    closing: watch::Sender<bool>,
}

impl Server {
    /// A server of the snapshots in `cache`, which adds connected Envoys to `fleet`.
    #[must_use]
    pub fn new(cache: SnapshotCache, fleet: Fleet, settings: Settings, metrics: Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                cache,
                fleet,
                settings,
                metrics,
                connections: Connections::default(),
                closing: watch::channel(false).0,
            }),
        }
    }

    /// Serves until `shutdown`, then closes all streams: Envoys keep their configuration and reconnect to another replica.
    /// Connections that are still open after [`Settings::drain`] are dropped.
    ///
    /// # Errors
    /// Invalid certificates, or a failed transport.
    pub async fn serve(
        self,
        listener: impl Into<Listener>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let shared = self.shared.clone();
        let settings = &shared.settings;
        let tls = settings.tls.clone().map(Reloader::new).transpose();
        let tls = tls.map_err(Error::Tls)?.map(Arc::new);
        let (sender, mut receiver) = mpsc::channel(16);
        let limits = Limits {
            max_connections: settings.max_connections,
            idle: settings.idle_timeout,
        };
        let accepting = transport::accept(
            listener.into(),
            tls.clone(),
            shared.connections.clone(),
            limits,
            sender.clone(),
        );
        let incoming = futures::stream::poll_fn(move |context| {
            let io = receiver.poll_recv(context);
            io.map(|io: Option<Io>| io.map(Ok::<_, std::io::Error>))
        });
        let mut closed = shared.closing.subscribe();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(15)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .http2_max_header_list_size(16 << 10)
            .add_service(self)
            .serve_with_incoming_shutdown(incoming, async {
                let _ = finished.await; // an error also means shutdown
            });
        let stopping = async {
            shutdown.await;
            shared.closing.send_replace(true);
            let empty = async {
                while shared.connections.streams() > 0 {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = timeout(settings.shutdown_spread, empty).await;
            drop(finish);
            sleep(settings.drain).await;
        };
        let background = async {
            tokio::select! {
                () = accepting => {}
                _ = closed.wait_for(|closing| *closing) => {}
                () = reload(tls, settings.tls_reload) => {}
            }
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            served = serving => served.map_err(Error::Transport),
            () = stopping => Ok(()),
            () = background => Ok(()),
        };
        drop(sender); // until here the server expects further connections
        result
    }
}

/// Reads certificates again and again.
async fn reload(tls: Option<Arc<Reloader>>, every: Duration) {
    let Some(tls) = tls else {
        return std::future::pending().await;
    };
    let mut interval = interval(every);
    loop {
        interval.tick().await;
        tls.reload();
    }
}

impl NamedService for Server {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        let limit = Some(shared.settings.max_request_bytes);
        Box::pin(async move {
            let method = request
                .uri()
                .path()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            Ok(match method.as_str() {
                "DeltaAggregatedResources" => {
                    let mut grpc = Grpc::new(codec::Codec::default())
                        .apply_max_message_size_config(limit, None);
                    grpc.streaming(stream::Delta(shared), request).await
                }
                "StreamAggregatedResources" => {
                    let mut grpc = Grpc::new(codec::Codec::default())
                        .apply_max_message_size_config(limit, None);
                    grpc.streaming(stream::Sotw(shared), request).await
                }
                _ => tonic::Status::unimplemented("unknown method").into_http(),
            })
        })
    }
}
