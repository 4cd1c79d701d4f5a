//! The `http` backend: answers with what it received, and follows the control headers of a request.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{LOCATION, SET_COOKIE},
        request::Parts,
    },
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{request, response, websocket};
use crate::header;

const STATUS: &str = "kat-req-http-requested-status";
const HEADER: &str = "kat-req-http-requested-header";
const COOKIE: &str = "kat-req-http-requested-cookie";
const REDIRECT: &str = "kat-req-http-requested-location";
const DELAY: &str = "kat-req-http-requested-backend-delay";

/// A backend that answers with what it received.
#[derive(Clone, Debug)]
pub struct Http {
    name: String,
    extauth: bool,
}

impl Http {
    /// Answers as `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            extauth: false,
        }
    }

    /// Puts the request and the headers of the answer into a header `extauth` too.
    #[must_use]
    pub fn include_extauth(mut self, include: bool) -> Self {
        self.extauth = include;
        self
    }

    /// The backend.
    pub fn router(self) -> Router {
        Router::new().fallback(handle).with_state(Arc::new(self))
    }
}

async fn handle(State(backend): State<Arc<Http>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if websocket::wanted(&parts) {
        return websocket::upgrade(&mut parts).await;
    }
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if let Some(delay) = first(&parts, DELAY).and_then(|delay| delay.trim().parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let described = request::describe(&parts);
    let mut headers = response::headers(&body);
    obey(&parts, &mut headers);
    if backend.extauth && described["url"]["query"]["override_extauth_header"].is_null() {
        let extauth = json!({"request": described, "resp_headers": header::lower(&headers)});
        headers.insert("extauth", header::value(extauth.to_string().as_bytes()));
    }
    let status = first(&parts, STATUS).map_or(StatusCode::OK, |status| {
        response::status(status.trim().parse().ok())
    });
    response::answer(&backend.name, status, headers, &described)
}

/// Adds the headers that the request asks for.
fn obey(request: &Parts, headers: &mut HeaderMap) {
    for name in request.headers.get_all(HEADER) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes().trim_ascii()) else {
            continue;
        };
        for value in request.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(names) = first(request, COOKIE) {
        for name in names.split(',').map(str::trim) {
            headers.append(
                SET_COOKIE,
                header::value(format!("{name}={name}").as_bytes()),
            );
        }
    }
    if let Some(location) = request.headers.get(REDIRECT) {
        headers.insert(LOCATION, location.clone());
    }
}

fn first(request: &Parts, name: &str) -> Option<String> {
    request.headers.get(name).map(header::text)
}
