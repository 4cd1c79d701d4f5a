//! One connection: HTTP/2 until it reaches its age, the certificate of its client expires, or the server stops. It ends in
//! two steps, so that Envoy does not open its next stream on it: GOAWAY, then the end of its streams.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{NOTICED, Shared, authorize::Peer, respond, transport::Io};

/// How long a connection may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// Serves a connection of a peer. It ends soon after `closing` becomes true.
pub(super) async fn serve(
    io: Io,
    peer: Peer,
    shared: Arc<Shared>,
    mut closing: watch::Receiver<bool>,
) {
    let start = Instant::now();
    let age = shared.settings.max_connection_age;
    let spread = shared.settings.shutdown_spread;
    let expires = peer.expires(start);
    let (end, ended) = watch::channel(false);
    let info = io.connection().info(peer, ended);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (shared, info) = (shared.clone(), info.clone());
        async move { Ok::<_, Infallible>(respond(shared, info, request)) }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(15))
            .keep_alive_timeout(Duration::from_secs(5))
            .max_header_list_size(16 << 10)
            .serve_connection(TokioIo::new(io), service)
    );
    let until = async {
        let aged = async {
            match age {
                Some(age) => sleep(age.mul_f64(0.8 + 0.4 * random(start))).await,
                None => std::future::pending().await,
            }
        };
        let expired = async {
            match expires {
                Some(expires) => sleep_until(expires.into()).await,
                None => std::future::pending().await,
            }
        };
        let stopping = async {
            let _ = closing.wait_for(|closing| *closing).await; // an error also means stop
            sleep(spread.mul_f64(NOTICED + (1.0 - NOTICED) * random(Instant::now()))).await;
        };
        tokio::select! {
            () = aged => debug!("xDS connection reached its age"),
            () = expired => debug!("client certificate of an xDS connection expired"),
            () = stopping => {}
        }
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = until => {
            connection.as_mut().graceful_shutdown();
            end.send_replace(true);
            timeout(ENDING, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        debug!(%error, "xDS connection failed");
    }
}

/// A random number from 0 to 1.
fn random(now: Instant) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    (RandomState::new().hash_one(now) % 1024) as f64 / 1024.0
}
