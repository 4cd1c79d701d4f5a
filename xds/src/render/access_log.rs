//! `envoy.config.accesslog.v3.AccessLog`

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::{Message, Name};

use super::{duration, grpc_service, uint32, wire::Writer};
use crate::{
    ir::{self, AccessLog, LogFormat, LogService, LogValue},
    pb::{
        envoy::{
            config::{
                accesslog::v3::{AccessLog as Message_, access_log::ConfigType},
                core::v3::{ApiVersion, DataSource, data_source::Specifier},
            },
            extensions::access_loggers::{
                file::v3::FileAccessLog,
                grpc::v3::{
                    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
                },
                stream::v3::{StderrAccessLog, StdoutAccessLog},
            },
        },
        google::protobuf::Any,
    },
};

// Field numbers, by message.
const FILE_PATH: u32 = 1;
const FILE_LOG_FORMAT: u32 = 5;
const STREAM_LOG_FORMAT: u32 = 1;
const FORMAT_JSON: u32 = 2;
const FORMAT_TEXT_SOURCE: u32 = 5;
const STRUCT_FIELDS: u32 = 1;
const VALUE_STRING: u32 = 3;
const VALUE_STRUCT: u32 = 5;

/// An access log.
pub(super) fn access_log(log: &AccessLog) -> Message_ {
    let (name, config) = match log {
        AccessLog::File { path, format } => match standard_stream(path, format) {
            Some(stream) => stream,
            None => ("envoy.access_loggers.file", file(path, format)),
        },
        AccessLog::Service(service) => match &service.headers {
            Some(headers) => (
                "envoy.access_loggers.http_grpc",
                super::any(&HttpGrpcAccessLogConfig {
                    common_config: Some(common(service)),
                    additional_request_headers_to_log: headers.request.clone(),
                    additional_response_headers_to_log: headers.response.clone(),
                    additional_response_trailers_to_log: headers.trailer.clone(),
                }),
            ),
            None => (
                "envoy.access_loggers.tcp_grpc",
                super::any(&TcpGrpcAccessLogConfig {
                    common_config: Some(common(service)),
                }),
            ),
        },
    };
    Message_ {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Message_::default()
    }
}

/// The cluster of the service that gets an access log.
pub(super) fn cluster(log: &AccessLog) -> Option<&Arc<str>> {
    match log {
        AccessLog::File { .. } => None,
        AccessLog::Service(service) => Some(&service.cluster),
    }
}

fn common(service: &LogService) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: service.log_name.clone(),
        grpc_service: Some(grpc_service(&service.cluster, None)),
        transport_api_version: ApiVersion::V3.into(),
        buffer_flush_interval: Some(duration(service.flush_interval)),
        buffer_size_bytes: Some(uint32(service.buffer_bytes)),
        ..CommonGrpcAccessLogConfig::default()
    }
}

/// A standard stream, which Envoy has open already: a path of one cannot be opened if it is a socket, and Envoy would
/// reject the listener.
fn standard_stream(path: &str, format: &LogFormat) -> Option<(&'static str, Any)> {
    let (name, type_url) = match path {
        "/dev/stdout" => ("envoy.access_loggers.stdout", StdoutAccessLog::type_url()),
        "/dev/stderr" => ("envoy.access_loggers.stderr", StderrAccessLog::type_url()),
        _ => return None,
    };
    let value = Writer::default().field(STREAM_LOG_FORMAT, &log_format(format));
    let value = value.finish().into();
    Some((name, Any { type_url, value }))
}

/// `envoy.config.core.v3.SubstitutionFormatString`
fn log_format(format: &LogFormat) -> Bytes {
    let format = match format {
        LogFormat::Text(text) => {
            let source = DataSource {
                specifier: Some(Specifier::InlineString(text.clone())),
                ..DataSource::default()
            };
            Writer::default().field(FORMAT_TEXT_SOURCE, &source.encode_to_vec())
        }
        LogFormat::Json(fields) => Writer::default().field(FORMAT_JSON, &json(fields)),
    };
    format.finish()
}

fn file(path: &str, format: &LogFormat) -> Any {
    let file = Writer::default()
        .field(FILE_PATH, path.as_bytes())
        .field(FILE_LOG_FORMAT, &log_format(format));
    Any {
        type_url: FileAccessLog::type_url(),
        value: file.finish().into(),
    }
}

/// `google.protobuf.Struct`
fn json(fields: &BTreeMap<String, LogValue>) -> Bytes {
    let fields: BTreeMap<&String, Bytes> = fields
        .iter()
        .map(|(name, found)| (name, value(found)))
        .collect();
    Writer::default().map(STRUCT_FIELDS, &fields).finish()
}

fn value(value: &ir::LogValue) -> Bytes {
    match value {
        LogValue::Text(text) => Writer::default().field(VALUE_STRING, text.as_bytes()),
        LogValue::Map(fields) => Writer::default().field(VALUE_STRUCT, &json(fields)),
    }
    .finish()
}
