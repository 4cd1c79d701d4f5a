//! Access log entries as JSON, with the names of the protos; what is not set is left out.

use std::collections::HashMap;

use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, ConnectionProperties, HttpAccessLogEntry, HttpRequestProperties,
    HttpResponseProperties, TcpAccessLogEntry,
};
use serde_json::{Value, json};

/// An entry about an HTTP request.
pub(super) fn http(entry: &HttpAccessLogEntry) -> Value {
    set(json!({
        "common_properties": entry.common_properties.as_ref().map(common),
        "protocol_version": entry.protocol_version,
        "request": entry.request.as_ref().map(request),
        "response": entry.response.as_ref().map(response),
    }))
}

/// An entry about a TCP connection.
pub(super) fn tcp(entry: &TcpAccessLogEntry) -> Value {
    let connection = |connection: &ConnectionProperties| {
        set(json!({
            "received_bytes": connection.received_bytes,
            "sent_bytes": connection.sent_bytes,
        }))
    };
    set(json!({
        "common_properties": entry.common_properties.as_ref().map(common),
        "connection_properties": entry.connection_properties.as_ref().map(connection),
    }))
}

fn common(common: &AccessLogCommon) -> Value {
    let tls = common.tls_properties.as_ref().map(|tls| {
        set(json!({"tls_version": tls.tls_version, "tls_sni_hostname": tls.tls_sni_hostname}))
    });
    let start = common.start_time.as_ref();
    let start = start.map(|time| set(json!({"seconds": time.seconds, "nanos": time.nanos})));
    set(json!({
        "sample_rate": if common.sample_rate == 0.0 { Value::Null } else { common.sample_rate.into() },
        "start_time": start,
        "tls_properties": tls,
        "upstream_cluster": common.upstream_cluster,
        "upstream_transport_failure_reason": common.upstream_transport_failure_reason,
        "route_name": common.route_name,
        "stream_id": common.stream_id,
    }))
}

fn request(request: &HttpRequestProperties) -> Value {
    set(json!({
        "request_method": request.request_method,
        "scheme": request.scheme,
        "authority": request.authority,
        "port": request.port.map(|port| set(json!({"value": port.value}))),
        "path": request.path,
        "user_agent": request.user_agent,
        "referer": request.referer,
        "forwarded_for": request.forwarded_for,
        "request_id": request.request_id,
        "original_path": request.original_path,
        "request_headers_bytes": request.request_headers_bytes,
        "request_body_bytes": request.request_body_bytes,
        "request_headers": headers(&request.request_headers),
    }))
}

fn response(response: &HttpResponseProperties) -> Value {
    set(json!({
        "response_code": response.response_code.map(|code| set(json!({"value": code.value}))),
        "response_headers_bytes": response.response_headers_bytes,
        "response_body_bytes": response.response_body_bytes,
        "response_headers": headers(&response.response_headers),
        "response_trailers": headers(&response.response_trailers),
        "response_code_details": response.response_code_details,
    }))
}

/// Headers, if there are any.
fn headers(headers: &HashMap<String, String>) -> Option<&HashMap<String, String>> {
    (!headers.is_empty()).then_some(headers)
}

/// The object without what is not set; an object in it that was set stays, even when it is empty.
fn set(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && *value != json!(0) && *value != json!(""));
    }
    object
}
