//! `envoy.extensions.filters.http.router.v3.Router`: sends requests to upstreams.

use crate::pb::envoy::extensions::filters::{
    http::router::v3::Router, network::http_connection_manager::v3::HttpFilter,
};

/// The last filter of every connection manager.
pub(super) fn filter() -> HttpFilter {
    super::on_every_route("envoy.filters.http.router", &Router::default())
}
