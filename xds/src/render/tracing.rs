//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing`
//!
//! The provider is in the connection manager, not in the bootstrap, so that Envoy takes over a change without a restart.

use super::{any, authority, boolean, grpc_service};
use crate::{
    ir::{SpanTag, Tracing, TracingDriver},
    pb::envoy::{
        config::trace::v3::{
            DatadogConfig, OpenTelemetryConfig, ZipkinConfig,
            tracing::{Http, http::ConfigType},
            zipkin_config::{CollectorEndpointVersion, TraceContextOption},
        },
        extensions::filters::network::http_connection_manager::v3::http_connection_manager,
        r#type::{
            tracing::v3::{
                CustomTag,
                custom_tag::{Environment, Header, Literal, Type},
            },
            v3::Percent,
        },
    },
};

/// Tracing of a connection manager.
pub(super) fn tracing(tracing: &Tracing) -> http_connection_manager::Tracing {
    let percent = |value: Option<u32>| {
        value.map(|value| Percent {
            value: value.into(),
        })
    };
    http_connection_manager::Tracing {
        client_sampling: percent(tracing.client_sampling),
        random_sampling: percent(tracing.random_sampling),
        overall_sampling: percent(tracing.overall_sampling),
        custom_tags: tracing.tags.iter().map(tag).collect(),
        provider: Some(provider(tracing)),
        spawn_upstream_span: Some(boolean(true)),
        ..http_connection_manager::Tracing::default()
    }
}

fn tag((name, tag): &(String, SpanTag)) -> CustomTag {
    CustomTag {
        tag: name.clone(),
        r#type: Some(match tag {
            SpanTag::Literal(value) => Type::Literal(Literal {
                value: value.clone(),
            }),
            SpanTag::Environment { name, default } => Type::Environment(Environment {
                name: name.clone(),
                default_value: default.clone(),
            }),
            SpanTag::Header { name, default } => Type::RequestHeader(Header {
                name: name.clone(),
                default_value: default.clone(),
            }),
        }),
    }
}

fn provider(tracing: &Tracing) -> Http {
    let cluster = tracing.cluster.to_string();
    let host = |hostname: &Option<String>| {
        let hostname = hostname.as_deref();
        hostname
            .unwrap_or_else(|| authority(&tracing.cluster))
            .to_owned()
    };
    let (name, config) = match &tracing.driver {
        TracingDriver::Zipkin {
            endpoint,
            protobuf,
            hostname,
            shared_span_context,
            long_ids,
            w3c,
        } => (
            "envoy.tracers.zipkin",
            any(&ZipkinConfig {
                collector_cluster: cluster,
                collector_endpoint: endpoint.clone(),
                collector_endpoint_version: if *protobuf {
                    CollectorEndpointVersion::HttpProto.into()
                } else {
                    CollectorEndpointVersion::HttpJson.into()
                },
                collector_hostname: host(hostname),
                shared_span_context: shared_span_context.map(boolean),
                trace_id_128bit: *long_ids,
                trace_context_option: if *w3c {
                    TraceContextOption::UseB3WithW3cPropagation.into()
                } else {
                    TraceContextOption::UseB3.into()
                },
                ..ZipkinConfig::default()
            }),
        ),
        TracingDriver::Datadog { service, hostname } => (
            "envoy.tracers.datadog",
            any(&DatadogConfig {
                collector_cluster: cluster,
                service_name: service.clone(),
                collector_hostname: host(hostname),
                ..DatadogConfig::default()
            }),
        ),
        TracingDriver::OpenTelemetry { service } => (
            "envoy.tracers.opentelemetry",
            any(&OpenTelemetryConfig {
                grpc_service: Some(grpc_service(&cluster, None)),
                service_name: service.clone(),
                ..OpenTelemetryConfig::default()
            }),
        ),
    };
    Http {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}
