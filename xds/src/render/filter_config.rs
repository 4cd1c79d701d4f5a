//! What a route says to HTTP filters: `typed_per_filter_config`.
//!
//! The filters are named as [`super::http_connection_manager`] has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Name};

use super::{error_body, wire};
use crate::{
    ir::{self, Authorization},
    pb::envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::filters::http::{
            cors::v3::CorsPolicy,
            ext_authz::v3::{ExtAuthzPerRoute, ext_authz_per_route::Override},
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
};

pub(super) const CORS: &str = "envoy.filters.http.cors";
const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";
pub(super) const CUSTOM_RESPONSE: &str = "envoy.filters.http.custom_response";

/// Encoded `Any`s by name of filter.
pub(super) fn of_action(action: &ir::Action) -> BTreeMap<String, Bytes> {
    let mut configs = BTreeMap::new();
    let mut add = |name: &str, config| {
        configs.insert(name.to_owned(), config);
    };
    match action {
        // whoever is sent elsewhere is asked there
        ir::Action::Redirect(_) => add(EXT_AUTHZ, unauthorized()),
        ir::Action::Forward(forward) => {
            match &forward.authorization {
                Authorization::Ask => {}
                Authorization::AskWith(extensions) => add(EXT_AUTHZ, authorized_with(extensions)),
                Authorization::Bypass => add(EXT_AUTHZ, unauthorized()),
            }
            if let Some(cors) = &forward.cors {
                add(CORS, any(&self::cors(cors)));
            }
            if !forward.error_bodies.is_empty() {
                add(
                    CUSTOM_RESPONSE,
                    error_body::custom_response(&forward.error_bodies),
                );
            }
        }
    }
    configs
}

/// The authorization service is not asked.
fn unauthorized() -> Bytes {
    any(&ExtAuthzPerRoute {
        r#override: Some(Override::Disabled(true)),
    })
}

/// The authorization service is told this too.
fn authorized_with(extensions: &BTreeMap<String, String>) -> Bytes {
    let settings = wire::Writer::default().map(1, extensions).finish(); // CheckSettings.context_extensions
    let per_route = wire::Writer::default().field(2, &settings).finish(); // ExtAuthzPerRoute.check_settings
    wire::any(&ExtAuthzPerRoute::type_url(), &per_route)
}

fn cors(cors: &ir::Cors) -> CorsPolicy {
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
        allow_credentials: cors.credentials.then(|| super::boolean(true)),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(super::percentage(100)),
            ..RuntimeFractionalPercent::default()
        }),
        ..CorsPolicy::default()
    }
}

fn any<M: Message + Name>(message: &M) -> Bytes {
    super::any(message).encode_to_vec().into()
}
