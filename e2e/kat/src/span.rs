//! Spans of OpenTelemetry: the messages of its protocol (OTLP) that tests need, and a client that exports them.

use anyhow::{Context as _, Result};
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValue, any_value::Value};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

/// The method of a collector.
pub(crate) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// `ExportTraceServiceRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

/// `ExportTraceServiceResponse`
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ExportResponse {}

/// Spans of one program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
}

/// A program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// Spans of one library of a program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<Span>,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes that all spans of a trace have in common.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// The span that caused this one; empty: none did.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// Name of what was done.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 2: server, 3: client.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Begin, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "7")]
    pub start: u64,
    /// End, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "8")]
    pub end: u64,
    /// Tags.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
}

impl Span {
    /// The header `traceparent` (W3C Trace Context) of a request that this span sends.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", hex(&self.trace_id), hex(&self.span_id))
    }

    /// A span that this header caused; `None`: it is not a header of this form.
    #[must_use]
    pub fn caused_by(traceparent: &str, name: &str, span_id: [u8; 8]) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let (_version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            trace_id: bytes(trace)?,
            span_id: span_id.to_vec(),
            parent_span_id: bytes(parent)?,
            name: name.to_owned(),
            kind: 2,
            ..Self::default()
        })
    }
}

/// Exports spans of a program to a collector.
///
/// # Errors
/// The collector does not take them.
pub async fn export(collector: &str, service: &str, spans: Vec<Span>) -> Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{collector}"))?;
    let mut client = Grpc::new(endpoint.connect().await?);
    client.ready().await?;
    let name = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(service.to_owned())),
        }),
        ..KeyValue::default()
    };
    let request = ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![name],
            }),
            scope_spans: vec![ScopeSpans { spans }],
        }],
    };
    let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
    let path = PathAndQuery::from_static(EXPORT);
    let answer = client.unary(Request::new(request), path, codec).await;
    answer.context("the collector rejects the spans").map(drop)
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_that_of_the_span_that_it_caused() {
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            ..Span::default()
        };
        let header = span.traceparent();
        assert_eq!(
            header,
            "00-01010101010101010101010101010101-0202020202020202-01"
        );
        let caused = Span::caused_by(&header, "next", [3; 8]).unwrap();
        assert_eq!(
            (caused.trace_id, caused.parent_span_id),
            (span.trace_id, span.span_id)
        );
        assert_eq!(Span::caused_by("00-xy-0", "next", [3; 8]), None);
    }
}
