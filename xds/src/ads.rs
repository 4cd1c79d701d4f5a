//! The ADS server: both variants of the aggregated discovery service, on tonic.
//!
//! The protocol is implemented as state machines without I/O (`connection`, `subscription`); `stream` moves messages
//! between them and the transport. Responses consist of bytes that are encoded once for all streams. Therefore the two
//! methods are written by hand: generated ones would encode every message again.
//!
//! Who may have which configuration is decided once for each stream, from the peer's certificate and the `Node` of its
//! first request (`authorize`), before the stream reads a snapshot. A stream does not outlive the certificate that its
//! connection was opened with: Envoy renews the file, and opens a connection with the new one.
//!
//! Connections end after a while ([`Settings::max_connection_age`]): with GOAWAY, because an Envoy opens its next stream on
//! another connection then, and so perhaps to another replica. It lists what it has, and gets differences only.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{body::Body, server::Grpc};

use crate::{
    cache::SnapshotCache,
    fleet::Fleet,
    socket::Listener,
    throttle::Throttle,
    tls::{Acceptor, Tls, TlsError},
};

mod authorize;
mod codec;
mod connection;
mod connections;
mod http2;
mod metrics;
mod stream;
mod subscription;
mod transport;

#[cfg(test)]
mod tests;

pub use authorize::{Authorize, LocalOnly, Peer, PeerCertificate, Rejection, View};
pub use metrics::Metrics;

use self::connections::{ConnectInfo, Connections};

const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const SOTW: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TLS; `None`: cleartext, for connections within one machine.
    pub tls: Option<Tls>,
    /// Decides what each stream gets.
    pub authorize: Arc<dyn Authorize>,
    /// How long clusters and endpoints are kept for active requests after the routes to them are removed.
    pub removal_grace: Duration,
    /// Age, ± 20 %, at which connections are closed, so that Envoys spread over replicas; `None`: no limit.
    pub max_connection_age: Option<Duration>,
    /// Maximum size of a request in bytes. A reconnecting Envoy lists all resources that it has.
    pub max_request_bytes: usize,
    /// How long the server waits on shutdown for clients to close their connections.
    pub drain: Duration,
    /// On shutdown connections close one by one in this time, so that Envoys do not all reconnect at once.
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
            authorize: Arc::new(LocalOnly),
            removal_grace: Duration::from_secs(10),
            max_connection_age: Some(Duration::from_secs(30 * 60)),
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
    /// Limits log lines about rejected streams.
    rejections: Throttle,
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
                rejections: Throttle::new(10, Duration::from_secs(10)),
            }),
        }
    }

    /// Serves until `shutdown`, then closes all connections: Envoys keep their configuration and reconnect to another
    /// replica. Connections that are still open after [`Settings::drain`] are dropped.
    ///
    /// # Errors
    /// Invalid certificates.
    pub async fn serve(
        self,
        listener: impl Into<Listener>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let shared = self.shared;
        let settings = &shared.settings;
        let tls = settings.tls.clone().map(|tls| Acceptor::new(tls, b"h2"));
        let tls = tls.transpose().map_err(Error::Tls)?.map(Arc::new);
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = transport::accept(listener.into(), tls.clone(), &shared, &closed, &mut tasks) => {}
            () = follow(tls, settings.tls_reload) => {}
            () = shutdown => {}
        }
        closing.send_replace(true);
        let empty = async {
            while shared.connections.streams() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(settings.shutdown_spread, empty).await;
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(settings.drain, all).await;
        Ok(())
    }
}

/// Follows the certificates.
async fn follow(tls: Option<Arc<Acceptor>>, every: Duration) {
    match tls {
        Some(tls) => tls.follow(every).await,
        None => std::future::pending().await,
    }
}

/// Responds to a request of this connection.
async fn respond(
    shared: Arc<Shared>,
    connection: ConnectInfo,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let limit = Some(shared.settings.max_request_bytes);
    match request.uri().path() {
        DELTA => {
            let mut grpc =
                Grpc::new(codec::Codec::default()).apply_max_message_size_config(limit, None);
            let service = stream::Delta(shared, connection);
            grpc.streaming(service, request).await
        }
        SOTW => {
            let mut grpc =
                Grpc::new(codec::Codec::default()).apply_max_message_size_config(limit, None);
            let service = stream::Sotw(shared, connection);
            grpc.streaming(service, request).await
        }
        _ => tonic::Status::unimplemented("unknown method").into_http(),
    }
}
