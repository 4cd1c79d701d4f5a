//! `envoy.extensions.filters.http.cors.v3.{Cors, CorsPolicy}`

use bytes::Bytes;

use crate::{
    ir::{self, filter::CORS},
    pb::envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::filters::{
            http::cors::v3::{Cors, CorsPolicy},
            network::http_connection_manager::v3::HttpFilter,
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    render::{boolean, percentage},
};

/// The filter.
pub(super) fn filter() -> HttpFilter {
    super::on_configured_routes(CORS, &Cors {})
}

/// Configuration of the filter for a route.
pub(super) fn per_route(action: &ir::Action) -> Option<Bytes> {
    let cors = action.forward()?.cors.as_ref()?;
    Some(super::any(&policy(cors)))
}

fn policy(cors: &ir::Cors) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: cors
            .origins
            .iter()
            .map(|origin| StringMatcher {
                match_pattern: Some(MatchPattern::Exact(origin.clone())),
                ..StringMatcher::default()
            })
            .collect(),
        allow_methods: cors.methods.clone(),
        allow_headers: cors.headers.clone(),
        expose_headers: cors.exposed_headers.clone(),
        max_age: cors.max_age.clone(),
        allow_credentials: cors.credentials.then(|| boolean(true)),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(percentage(100)),
            ..RuntimeFractionalPercent::default()
        }),
        ..CorsPolicy::default()
    }
}
