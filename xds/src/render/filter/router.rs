//! `envoy.extensions.filters.http.router.v3.Router`: sends requests to upstreams.

use crate::{
    ir::HttpOptions,
    pb::envoy::extensions::filters::{
        http::router::v3::Router, network::http_connection_manager::v3::HttpFilter,
    },
};

/// The last filter of every connection manager.
pub(super) fn filter(options: &HttpOptions) -> HttpFilter {
    let router = Router {
        suppress_envoy_headers: options.suppress_envoy_headers,
        ..Router::default()
    };
    super::on_every_route("envoy.filters.http.router", &router)
}
