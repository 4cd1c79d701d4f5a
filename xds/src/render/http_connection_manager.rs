//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`

use std::time::Duration;

use super::{access_log, boolean, duration, filter, scope, tracing, uint32};
use crate::{
    ir::{self, CertificateDetails, ForwardedCertificate, HttpOptions, Transport, Underscores},
    pb::envoy::{
        config::core::v3::{
            Http1ProtocolOptions, Http2ProtocolOptions, Http3ProtocolOptions, HttpProtocolOptions,
            http_protocol_options::HeadersWithUnderscoresAction,
            http1_protocol_options::{
                HeaderKeyFormat,
                header_key_format::{HeaderFormat, ProperCaseWords},
            },
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, Rds,
            http_connection_manager::{
                CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                SetCurrentClientCertDetails,
            },
        },
    },
};

// Recommended for untrusted clients by "Configuring Envoy as an edge proxy" (Envoy documentation).
const MAX_CONCURRENT_STREAMS: u32 = 100;
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection manager of a chain of this listener with one table, by RDS.
pub(super) fn with_table(listener: &ir::Listener, table: &ir::TableKey) -> HttpConnectionManager {
    let rds = Rds {
        config_source: Some(super::ads()),
        route_config_name: table.to_string(),
    };
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        ..http_connection_manager(listener)
    }
}

/// The connection manager of a chain of this listener with a table for each of many host names, and one for all others, by
/// SRDS.
pub(super) fn with_tables_by_host(
    listener: &ir::Listener,
    others: &ir::TableKey,
) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::ScopedRoutes(scope::scoped_routes())),
        early_header_mutation_extensions: vec![scope::header(others)],
        ..http_connection_manager(listener)
    };
    manager.http_filters.splice(0..0, scope::filters(others));
    manager
}

/// The connection manager of a chain of this listener with a table for each of many server names, by SRDS.
pub(super) fn with_tables_by_server_name(listener: &ir::Listener) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::ScopedRoutes(scope::scoped_routes())),
        early_header_mutation_extensions: vec![scope::server_name_header(listener)],
        ..http_connection_manager(listener)
    };
    manager
        .http_filters
        .insert(0, scope::filter_without_table());
    manager
}

fn http_connection_manager(listener: &ir::Listener) -> HttpConnectionManager {
    let options = &*listener.http;
    let edge = edge(listener);
    HttpConnectionManager {
        http_filters: filter::http_filters(listener),
        server_name: options.server_name.clone(),
        use_remote_address: Some(boolean(options.use_remote_address)),
        max_request_headers_kb: options.max_request_headers_kb.map(uint32),
        common_http_protocol_options: common(options),
        http_protocol_options: http1(options),
        preserve_external_request_id: options.preserve_request_id,
        forward_client_cert_details: forwarded(options.forwarded_certificate).into(),
        set_current_client_cert_details: details(options.certificate_details),
        strip_matching_host_port: options.strip_matching_port,
        merge_slashes: options.merge_slashes,
        path_with_escaped_slashes_action: if options.reject_escaped_slashes {
            PathWithEscapedSlashesAction::RejectRequest.into()
        } else {
            PathWithEscapedSlashesAction::ImplementationSpecificDefault.into()
        },
        access_log: options
            .access_logs
            .iter()
            .map(access_log::access_log)
            .collect(),
        tracing: options.tracing.as_deref().map(tracing::tracing),
        ..edge
    }
}

/// What no Module changes.
fn edge(listener: &ir::Listener) -> HttpConnectionManager {
    HttpConnectionManager {
        codec_type: match listener.key.transport {
            Transport::Tcp => CodecType::Auto.into(),
            Transport::Udp => CodecType::Http3.into(),
        },
        http3_protocol_options: (listener.key.transport == Transport::Udp)
            .then(Http3ProtocolOptions::default),
        stat_prefix: listener.stat_prefix.clone(),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: Some(uint32(
                listener
                    .max_concurrent_streams
                    .unwrap_or(MAX_CONCURRENT_STREAMS),
            )),
            initial_stream_window_size: Some(uint32(STREAM_WINDOW_BYTES)),
            initial_connection_window_size: Some(uint32(CONNECTION_WINDOW_BYTES)),
            ..Http2ProtocolOptions::default()
        }),
        request_headers_timeout: Some(duration(REQUEST_HEADERS_TIMEOUT)),
        xff_num_trusted_hops: listener.l7_depth,
        normalize_path: Some(boolean(true)),
        ..HttpConnectionManager::default()
    }
}

fn common(options: &HttpOptions) -> Option<HttpProtocolOptions> {
    let action = match options.underscores {
        Underscores::Allow => HeadersWithUnderscoresAction::Allow,
        Underscores::Reject => HeadersWithUnderscoresAction::RejectRequest,
        Underscores::Drop => HeadersWithUnderscoresAction::DropHeader,
    };
    let common = HttpProtocolOptions {
        idle_timeout: options.idle_timeout.map(duration),
        headers_with_underscores_action: action.into(),
        ..HttpProtocolOptions::default()
    };
    (common != HttpProtocolOptions::default()).then_some(common)
}

fn http1(options: &HttpOptions) -> Option<Http1ProtocolOptions> {
    let http1 = Http1ProtocolOptions {
        accept_http_10: options.http10,
        allow_chunked_length: options.allow_chunked_length,
        header_key_format: options.proper_case.then_some(HeaderKeyFormat {
            header_format: Some(HeaderFormat::ProperCaseWords(ProperCaseWords {})),
        }),
        ..Http1ProtocolOptions::default()
    };
    (http1 != Http1ProtocolOptions::default()).then_some(http1)
}

const fn forwarded(forwarded: ForwardedCertificate) -> ForwardClientCertDetails {
    match forwarded {
        ForwardedCertificate::Sanitize => ForwardClientCertDetails::Sanitize,
        ForwardedCertificate::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        ForwardedCertificate::AppendForward => ForwardClientCertDetails::AppendForward,
        ForwardedCertificate::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        ForwardedCertificate::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    }
}

fn details(details: CertificateDetails) -> Option<SetCurrentClientCertDetails> {
    (details != CertificateDetails::default()).then(|| SetCurrentClientCertDetails {
        subject: details.subject.then(|| boolean(true)),
        cert: details.cert,
        chain: details.chain,
        dns: details.dns,
        uri: details.uri,
        ..SetCurrentClientCertDetails::default()
    })
}
