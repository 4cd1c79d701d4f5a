//! Probes and metrics. Probes never ask Envoy, so that they respond in time whatever it does.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{RawQuery, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{StreamExt as _, stream};
use nuncio_xds::socket::Address;
use tracing::debug;

use super::state::{Answer, State};
use crate::envoy::admin;

/// What is served.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    /// What is known.
    pub(super) state: State,
    /// Envoy's admin interface.
    pub(super) admin: Address,
}

/// The paths of the server.
pub(super) fn router(pages: Pages) -> Router {
    Router::new()
        .route(
            "/ready",
            get(|pages: Shared<Pages>| async move { probe(pages.state.ready()) }),
        )
        .route(
            "/alive",
            get(|pages: Shared<Pages>| async move { probe(pages.state.alive()) }),
        )
        .route("/metrics", get(metrics))
        .with_state(pages)
}

fn probe(answer: Answer) -> Response {
    match answer {
        Ok(text) => text.into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
    }
}

/// The metrics of this process, then Envoy's, which are passed on while they arrive: with thousands of clusters they are
/// large.
async fn metrics(Shared(pages): Shared<Pages>, RawQuery(query): RawQuery) -> Response {
    let path = match query {
        Some(query) => format!("/stats/prometheus?{query}"),
        None => "/stats/prometheus".to_owned(),
    };
    let envoy = admin::get(&pages.admin, &path).await;
    if let Err(error) = &envoy {
        debug!(error = format!("{error:#}"), "no metrics of Envoy");
    }
    let own = Bytes::from(pages.state.metrics(envoy.is_ok()));
    let body = match envoy {
        Ok(envoy) => {
            let own = stream::once(async { Ok(own) });
            Body::from_stream(own.chain(envoy.into_data_stream()))
        }
        Err(_) => Body::from(own),
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}
