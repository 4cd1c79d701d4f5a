//! The ADS server: both variants of the aggregated discovery service, on tonic.
//!
//! The protocol is implemented as state machines without I/O (`connection`, `subscription`); `stream` moves messages
//! between them and the transport. Responses consist of bytes that are encoded once for all streams. Therefore the two
//! methods and the framing of their messages (`requests`, `responses`) are written by hand: generated methods would encode
//! every message again, and tonic's framing copies each message into a buffer that a stream then keeps.
//!
//! Who may have which configuration is decided once for each stream, from the peer's certificate and the `Node` of its
//! first request (`authorize`), before the stream reads a snapshot. A server can have several fleets: each has a cache, connected
//! Envoys and metrics of its own, and a stream sees those of its view only. A stream does not outlive the certificate that its
//! connection was opened with: Envoy renews the file, and opens a connection with the new one.
//!
//! Connections end after a while ([`Settings::max_connection_age`]): with GOAWAY, because an Envoy opens its next stream on
//! another connection then, and so perhaps to another replica. It lists what it has, and gets differences only.

use std::{future::Future, sync::Arc, time::Duration};

use http::{HeaderValue, header};
use hyper::body::Incoming;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Status, body::Body};

use crate::{
    cache::SnapshotCache,
    fleet::Fleet,
    pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    socket::Listener,
    throttle::Throttle,
    tls::{Acceptor, Tls, TlsError},
};

mod authorize;
mod bodies;
mod connection;
mod connections;
mod http2;
mod metrics;
mod requests;
mod responses;
mod scopes;
mod stream;
mod subscription;
mod transport;
mod version;

#[cfg(test)]
mod tests;

pub use authorize::{Authorize, LocalOnly, Peer, PeerCertificate, Rejection, View};
pub use metrics::Metrics;
pub use nuncio_ir::{EnvoyVersion, InvalidVersion};

use self::{
    bodies::Bodies,
    connections::{ConnectInfo, Connections},
    requests::Requests,
    responses::Responses,
    stream::Discovery,
};

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
    /// On shutdown connections close one by one in this time, so that Envoys do not all reconnect at once. Until then they get
    /// what they ask for. Nothing closes in the first 40 % of this time.
    pub shutdown_spread: Duration,
    /// Maximum number of connections. Beyond it those without a stream are closed, oldest first.
    pub max_connections: usize,
    /// How long a connection may have no stream, a stream no request, and how long a TLS handshake may take.
    pub idle_timeout: Duration,
    /// How often certificates are read again.
    pub tls_reload: Duration,
    /// The oldest version of Envoy that is part of the fleet. Older ones get the configuration, too, but do not count: neither
    /// what they acknowledge nor what they reject.
    pub min_envoy: EnvoyVersion,
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
            min_envoy: EnvoyVersion::OLDEST,
        }
    }
}

/// The part of [`Settings::shutdown_spread`] in which no connection is closed and new ones are accepted: until the endpoints
/// of the server's Service have changed, Envoys that reconnect may arrive here again.
const NOTICED: f64 = 0.4;

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

/// A fleet that a server serves. Nothing of it reaches streams of others.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its configuration.
    pub cache: SnapshotCache,
    /// Where its connected Envoys are added.
    pub fleet: Fleet,
    /// Metrics of its streams.
    pub metrics: Metrics,
}

#[derive(Debug)]
struct Shared {
    /// Views are numbers of these.
    fleets: Vec<Served>,
    settings: Settings,
    /// Metrics of streams that have no view yet.
    metrics: Metrics,
    connections: Connections,
    bodies: Bodies,
    /// Limits log lines about rejected streams.
    rejections: Throttle,
}

impl Shared {
    /// Metrics of a stream with this view.
    fn metrics_of(&self, view: Option<View>) -> &Metrics {
        let served = view.and_then(|view| self.fleets.get(view.0));
        served.map_or(&self.metrics, |served| &served.metrics)
    }
}

impl Server {
    /// A server of the snapshots in `cache`, which adds connected Envoys to `fleet`.
    #[must_use]
    pub fn new(cache: SnapshotCache, fleet: Fleet, settings: Settings, metrics: Metrics) -> Self {
        let served = Served {
            cache,
            fleet,
            metrics: metrics.clone(),
        };
        Self::of_fleets(vec![served], settings, metrics)
    }

    /// A server of several fleets, which [`Settings::authorize`] chooses between. `metrics` are those of streams before that.
    #[must_use]
    pub fn of_fleets(fleets: Vec<Served>, settings: Settings, metrics: Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                fleets,
                settings,
                metrics,
                connections: Connections::default(),
                bodies: Bodies::default(),
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
        let end = async {
            shutdown.await;
            closing.send_replace(true);
            if shared.connections.streams() > 0 {
                sleep(settings.shutdown_spread.mul_f64(NOTICED)).await;
            }
        };
        tokio::select! {
            () = transport::accept(listener.into(), tls.clone(), &shared, &closed, &mut tasks) => {}
            () = follow(tls, settings.tls_reload) => {}
            () = end => {}
        }
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
fn respond(
    shared: Arc<Shared>,
    connection: ConnectInfo,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    match request.uri().path() {
        DELTA => stream_of::<DeltaDiscoveryRequest>(shared, connection, request),
        SOTW => stream_of::<DiscoveryRequest>(shared, connection, request),
        _ => Status::unimplemented("unknown method").into_http(),
    }
}

/// A stream of requests of this type.
fn stream_of<R: Discovery>(
    shared: Arc<Shared>,
    connection: ConnectInfo,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    let encoding = request.headers().get("grpc-encoding");
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Status::unimplemented("compressed requests are not supported").into_http();
    }
    let bodies = shared.bodies.clone();
    let limit = shared.settings.max_request_bytes;
    let requests = Requests::<R>::new(request.into_body(), limit);
    let responses = stream::responses(shared, connection, requests);
    let mut response = http::Response::new(Body::new(Responses::new(responses, bodies)));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
