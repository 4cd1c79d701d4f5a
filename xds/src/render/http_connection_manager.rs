//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`

use std::time::Duration;

use super::filter;
use crate::{
    ir::{self, Transport},
    pb::envoy::{
        config::core::v3::{Http2ProtocolOptions, Http3ProtocolOptions},
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, Rds,
            http_connection_manager::{CodecType, RouteSpecifier},
        },
    },
};

// Recommended for untrusted clients by "Configuring Envoy as an edge proxy" (Envoy documentation).
const MAX_CONCURRENT_STREAMS: u32 = 100;
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection manager of a chain of this listener, which gets `table` by RDS.
pub(super) fn http_connection_manager(
    listener: &ir::Listener,
    table: &ir::TableKey,
) -> HttpConnectionManager {
    HttpConnectionManager {
        codec_type: match listener.key.transport {
            Transport::Tcp => CodecType::Auto.into(),
            Transport::Udp => CodecType::Http3.into(),
        },
        http3_protocol_options: (listener.key.transport == Transport::Udp)
            .then(Http3ProtocolOptions::default),
        stat_prefix: listener.stat_prefix.clone(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(super::ads()),
            route_config_name: table.to_string(),
        })),
        http_filters: filter::http_filters(listener),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: Some(super::uint32(
                listener
                    .max_concurrent_streams
                    .unwrap_or(MAX_CONCURRENT_STREAMS),
            )),
            initial_stream_window_size: Some(super::uint32(STREAM_WINDOW_BYTES)),
            initial_connection_window_size: Some(super::uint32(CONNECTION_WINDOW_BYTES)),
            ..Http2ProtocolOptions::default()
        }),
        request_headers_timeout: Some(super::duration(REQUEST_HEADERS_TIMEOUT)),
        server_name: "envoy".to_owned(),
        use_remote_address: Some(super::boolean(true)),
        xff_num_trusted_hops: listener.l7_depth,
        normalize_path: Some(super::boolean(true)),
        ..HttpConnectionManager::default()
    }
}
