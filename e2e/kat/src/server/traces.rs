//! The `traces` backend: a collector of spans, by OpenTelemetry's protocol over gRPC and by Zipkin's over HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::Bytes,
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{any, get, post},
};
use envoy_types::pb::opentelemetry::proto::common::v1::{KeyValue, any_value};
use prost::Message;
use serde_json::{Map, Value, json};
use tonic::{Request, Response, Status, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::span::{EXPORT, ExportRequest, ExportResponse, ResourceSpans, Span, hex};

/// A collector: `GET /spans` shows what it got, `DELETE /spans` forgets it. Spans have the fields `service`, `trace`, `id`,
/// `parent`, `name`, `kind`, `tags`, and how they came as `protocol`.
#[derive(Clone, Debug, Default)]
pub struct Traces(Arc<Mutex<Vec<Value>>>);

impl Traces {
    /// The backend.
    pub fn router(self) -> Router {
        Router::new()
            .route("/spans", get(show).delete(forget))
            .route("/api/v2/spans", post(zipkin))
            .route(EXPORT, any(otlp))
            .with_state(self)
    }

    fn add(&self, spans: impl IntoIterator<Item = Value>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(spans);
    }
}

async fn show(State(Traces(spans)): State<Traces>) -> impl IntoResponse {
    let spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = Value::from(spans.clone());
    ([(CONTENT_TYPE, "application/json")], shown.to_string())
}

async fn forget(State(Traces(spans)): State<Traces>) {
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    spans.clear();
}

async fn otlp(
    State(traces): State<Traces>,
    request: HttpRequest,
) -> axum::http::Response<tonic::body::Body> {
    let collect = service_fn(move |request: Request<ExportRequest>| {
        let spans = request.get_ref().resource_spans.iter().flat_map(of_program);
        traces.add(spans);
        async { Ok::<_, Status>(Response::new(ExportResponse {})) }
    });
    let codec = ProstCodec::<ExportResponse, ExportRequest>::default();
    Grpc::new(codec).unary(collect, request).await
}

fn of_program(found: &ResourceSpans) -> Vec<Value> {
    let resource = found.resource.iter();
    let program = tags(resource.flat_map(|resource| &resource.attributes));
    let spans = found.scope_spans.iter().flat_map(|scope| &scope.spans);
    let show = |span: &Span| {
        json!({
            "protocol": "otlp",
            "service": program.get("service.name"),
            "trace": hex(&span.trace_id),
            "id": hex(&span.span_id),
            "parent": hex(&span.parent_span_id),
            "name": span.name,
            "kind": match span.kind { 2 => "server", 3 => "client", _ => "other" },
            "tags": tags(&span.attributes),
        })
    };
    spans.map(show).collect()
}

fn tags<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>) -> Map<String, Value> {
    let text = |attribute: &KeyValue| match attribute.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some(Value::String(text)),
        other => Some(Value::String(format!("{other:?}"))),
    };
    attributes
        .into_iter()
        .filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?)))
        .collect()
}

/// A list of Zipkin's spans in protobuf.
#[derive(Clone, PartialEq, Message)]
struct ListOfSpans {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<ZipkinSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct ZipkinSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    parent_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(int32, tag = "4")]
    kind: i32,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(message, optional, tag = "8")]
    local_endpoint: Option<ZipkinEndpoint>,
    #[prost(map = "string, string", tag = "11")]
    tags: std::collections::HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct ZipkinEndpoint {
    #[prost(string, tag = "1")]
    service_name: String,
}

async fn zipkin(State(traces): State<Traces>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let spans = match content_type {
        Some("application/json") => serde_json::from_slice(&body)
            .ok()
            .map(|spans: Vec<Value>| of_json(&spans)),
        Some("application/x-protobuf") => ListOfSpans::decode(body).ok().map(of_protobuf),
        _ => None,
    };
    match spans {
        Some(spans) => {
            traces.add(spans);
            StatusCode::ACCEPTED
        }
        None => StatusCode::BAD_REQUEST,
    }
}

fn of_json(spans: &[Value]) -> Vec<Value> {
    let show = |span: &Value| {
        json!({
            "protocol": "zipkin json",
            "service": span["localEndpoint"]["serviceName"],
            "trace": span["traceId"],
            "id": span["id"],
            "parent": span["parentId"],
            "name": span["name"],
            "kind": span["kind"].as_str().map(str::to_lowercase),
            "tags": span["tags"],
        })
    };
    spans.iter().map(show).collect()
}

fn of_protobuf(list: ListOfSpans) -> Vec<Value> {
    let show = |span: ZipkinSpan| {
        json!({
            "protocol": "zipkin protobuf",
            "service": span.local_endpoint.map(|endpoint| endpoint.service_name),
            "trace": hex(&span.trace_id),
            "id": hex(&span.id),
            "parent": hex(&span.parent_id),
            "name": span.name,
            "kind": match span.kind { 1 => "client", 2 => "server", _ => "other" },
            "tags": span.tags,
        })
    };
    list.spans.into_iter().map(show).collect()
}
