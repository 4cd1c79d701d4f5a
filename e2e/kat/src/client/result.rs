//! Results as JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::header;

/// The `result` of a query.
pub(super) type Object = Map<String, Value>;

/// The time, RFC 3339.
pub(super) fn now() -> String {
    format!("{:.9}", Timestamp::now())
}

/// Status and headers, with the times when the query began and ended.
pub(super) fn head(status: StatusCode, headers: &HeaderMap, start: &str) -> Object {
    let mut headers = header::canonical(headers);
    headers["Client-Start-Date"] = json!([start]);
    headers["Client-End-Date"] = json!([now()]);
    let mut result = Object::new();
    result.insert("status".to_owned(), status.as_u16().into());
    result.insert("headers".to_owned(), headers);
    result
}

/// Adds the body: as it is, and as JSON or else as text.
pub(super) fn body(result: &mut Object, body: &[u8]) {
    result.insert("body".to_owned(), BASE64_STANDARD.encode(body).into());
    match serde_json::from_slice(body) {
        Ok(json) => result.insert("json".to_owned(), json),
        Err(_other) => result.insert("text".to_owned(), String::from_utf8_lossy(body).into()),
    };
}
