//! The `health_check_server` backend: healthy until a request makes it unhealthy.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::{request, response};

/// A backend that a request to `/makeUnhealthy/` makes unhealthy for good.
#[derive(Debug)]
pub struct HealthCheck {
    name: String,
    healthy: StatusCode,
    unhealthy: StatusCode,
    sick: AtomicBool,
}

impl HealthCheck {
    /// Answers as `name`, with one status or the other.
    #[must_use]
    pub fn new(name: impl Into<String>, healthy: u16, unhealthy: u16) -> Self {
        Self {
            name: name.into(),
            healthy: response::status(Some(healthy)),
            unhealthy: response::status(Some(unhealthy)),
            sick: AtomicBool::new(false),
        }
    }

    /// The backend.
    pub fn router(self) -> Router {
        Router::new().fallback(handle).with_state(Arc::new(self))
    }
}

async fn handle(State(backend): State<Arc<HealthCheck>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // the request that ends the health is still answered in good health
    let last = parts.uri.path() == "/makeUnhealthy/";
    let sick = if last {
        backend.sick.swap(true, Ordering::SeqCst)
    } else {
        backend.sick.load(Ordering::SeqCst)
    };
    let status = if sick {
        backend.unhealthy
    } else {
        backend.healthy
    };
    let described = request::describe(&parts);
    response::answer(&backend.name, status, response::headers(&body), &described)
}
