//! TracingService: an external service that gets traces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{conditions, undescribed};

/// External service that gets traces.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "TracingService",
    plural = "tracingservices",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "TracingServiceStatus",
    derive = "PartialEq",
    doc = "External service that gets traces.",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"Driver","type":"string","jsonPath":".spec.driver"}"#
)]
pub struct TracingServiceSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Collector that gets the traces: `[http[s]://]host[:port]`. Names without a dot are Services in the gateway's namespace.
    pub service: String,
    /// Protocol of the collector. `lightstep` is not supported: use `opentelemetry`.
    pub driver: TracingDriver,
    /// Percentages of requests that are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<TraceSampling>,
    /// Request headers whose values are tags of the spans: a short form of `custom_tags`, without which it is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag_headers: Vec<String>,
    /// Tags of the spans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_tags: Vec<CustomTag>,
    /// Settings of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<TraceConfig>,
    /// Name in statistics. Default: derived from `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
}

/// Protocol of a collector of traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = undescribed)]
pub enum TracingDriver {
    /// Not supported.
    Lightstep,
    /// Zipkin.
    #[default]
    Zipkin,
    /// Datadog.
    Datadog,
    /// OpenTelemetry (OTLP over gRPC).
    Opentelemetry,
}

/// Percentages of requests that are traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct TraceSampling {
    /// Percentage of the requests with the header `x-client-trace-id` that are traced. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<i64>,
    /// Percentage of the requests that are selected at random. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<i64>,
    /// Maximum percentage of requests that are traced. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overall: Option<i64>,
}

/// A tag of a span. Exactly one source must be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct CustomTag {
    /// Name of the tag.
    pub tag: String,
    /// A fixed value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub literal: Option<LiteralTag>,
    /// An environment variable of Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<NamedTag>,
    /// A request header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header: Option<NamedTag>,
}

/// A fixed value of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LiteralTag {
    /// The value.
    pub value: String,
}

/// A value that is looked up by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct NamedTag {
    /// Name.
    pub name: String,
    /// Value if there is none of this name. Default: the tag is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_value: Option<String>,
}

/// Settings of a TracingService's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct TraceConfig {
    /// No effect: was for Lightstep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token_file: Option<String>,
    /// No effect: the cluster is made from `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector_cluster: Option<String>,
    /// Path of the collector. `zipkin` only. Default: `/api/v2/spans`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector_endpoint: Option<String>,
    /// Format of the spans. `zipkin` only; `HTTP_JSON_V1` is not supported. Default: `HTTP_JSON`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector_endpoint_version: Option<CollectorVersion>,
    /// Host header of requests to the collector. `zipkin` and `datadog` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector_hostname: Option<String>,
    /// Headers that pass traces on: `zipkin` uses B3, and W3C Trace Context with `TRACE_CONTEXT`; `opentelemetry` always uses
    /// W3C Trace Context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub propagation_modes: Vec<String>,
    /// Name of the gateway in traces. `datadog` and `opentelemetry` only. Default: `ambassador`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Whether client and server spans share an ID. `zipkin` only. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_span_context: Option<bool>,
    /// Whether trace IDs have 128 bits. `zipkin` only. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id_128bit: Option<bool>,
}

/// Format of Zipkin's spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum CollectorVersion {
    /// Not supported.
    #[serde(rename = "HTTP_JSON_V1")]
    JsonV1,
    /// JSON
    #[serde(rename = "HTTP_JSON")]
    Json,
    /// Protobuf
    #[serde(rename = "HTTP_PROTO")]
    Proto,
}

/// Status of a TracingService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TracingServiceStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
