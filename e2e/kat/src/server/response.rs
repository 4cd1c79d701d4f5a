//! Answers: what all backends that speak HTTP share.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, DATE},
    },
    response::Response,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::header;

/// The time, as the header `Date` has it; the zone is UTC.
pub(super) fn date() -> String {
    let now = Timestamp::now();
    now.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// The headers that every answer has: the body of the request, and the date.
pub(super) fn headers(request_body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("kat-resp-http-request-body", header::value(request_body));
    headers.insert(DATE, header::value(date().as_bytes()));
    headers
}

/// A status from its number; 500 for one that cannot end an answer.
pub(super) fn status(code: Option<u16>) -> StatusCode {
    code.filter(|code| *code >= 200)
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The answer of `backend` to `request`, with these headers.
pub(super) fn answer(
    backend: &str,
    status: StatusCode,
    headers: HeaderMap,
    request: &Value,
) -> Response {
    let body = json!({
        "backend": backend,
        "request": request,
        "response": {"headers": header::lower(&headers)},
    });
    let mut response = Response::new(Body::from(format!("{body:#}")));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().entry(CONTENT_TYPE).or_insert(kind);
    response
}
