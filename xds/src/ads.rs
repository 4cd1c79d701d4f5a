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
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tonic::{
    body::Body,
    server::{Grpc, NamedService},
    transport::{Certificate, Identity, ServerTlsConfig, server::TcpIncoming},
};

use crate::{cache::SnapshotCache, fleet::Fleet};

mod codec;
mod connection;
mod metrics;
mod stream;
mod subscription;

#[cfg(test)]
mod tests;

pub use metrics::Metrics;

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Certificates for mutual TLS, PEM.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
    /// CA certificates that client certificates are verified with. If set, clients must have a certificate.
    pub client_ca: Option<String>,
}

/// Never prints the key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("client_ca", &self.client_ca.is_some())
            .finish_non_exhaustive()
    }
}

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: None,
            removal_grace: Duration::from_secs(10),
            max_stream_age: Some(Duration::from_secs(45 * 60)),
            max_request_bytes: 64 << 20,
            drain: Duration::from_millis(500),
        }
    }
}

/// Errors of the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificates are invalid.
    #[error("xDS server: invalid TLS configuration")]
    Tls(#[source] tonic::transport::Error),
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
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let mut builder = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)));
        // The builder's own setting does not apply to this socket. Without TCP_NODELAY the second packet of a response waits
        // for the acknowledgement of the first, which clients delay by 40 ms.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        if let Some(tls) = &self.shared.settings.tls {
            let mut config =
                ServerTlsConfig::new().identity(Identity::from_pem(&tls.certificate, &tls.key));
            if let Some(ca) = &tls.client_ca {
                config = config.client_ca_root(Certificate::from_pem(ca));
            }
            builder = builder.tls_config(config).map_err(Error::Tls)?;
        }
        let shared = self.shared.clone();
        let mut closed = shared.closing.subscribe();
        let drain = shared.settings.drain;
        let closing = async move {
            shutdown.await;
            shared.closing.send_replace(true);
        };
        let drained = async move {
            if closed.wait_for(|closing| *closing).await.is_err() {
                std::future::pending::<()>().await; // the other branch has ended
            }
            sleep(drain).await;
        };
        tokio::select! {
            served = builder
                .add_service(self)
                .serve_with_incoming_shutdown(incoming, closing) => served.map_err(Error::Transport),
            () = drained => Ok(()),
        }
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
