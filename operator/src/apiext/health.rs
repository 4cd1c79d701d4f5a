//! The second server: liveness, readiness and metrics, on the paths of Emissary-ingress' webhook.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    health::{Progress, metrics_page},
    http_server::{self, Limits},
};

/// What the server answers with.
#[derive(Clone, Debug)]
pub(super) struct Health {
    /// What is missing.
    pub(super) progress: Progress,
    /// The metrics.
    pub(super) registry: Arc<Registry>,
    /// Cancelled when the process stops.
    pub(super) stopping: CancellationToken,
}

/// Serves until `shutdown` completes.
pub(super) async fn serve(
    listener: TcpListener,
    health: Health,
    shutdown: impl Future<Output = ()>,
) {
    let router = Router::new()
        .route("/probes/live", get(|| async { "alive\n" }))
        .route("/probes/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    http_server::serve(listener, router, Limits::default(), shutdown).await;
}

async fn ready(State(health): State<Health>) -> Response {
    if health.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let warnings = health.progress.warnings();
    match health.progress.held() {
        None => format!("ready\n{warnings}").into_response(),
        Some(held) => (StatusCode::SERVICE_UNAVAILABLE, held + &warnings).into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    metrics_page(&[&health.registry])
}
