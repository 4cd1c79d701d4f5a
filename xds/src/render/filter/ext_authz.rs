//! `envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute`

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Name;

use crate::{
    ir::{self, Authorization},
    pb::envoy::extensions::filters::http::ext_authz::v3::{
        ExtAuthzPerRoute, ext_authz_per_route::Override,
    },
    render::wire,
};

// Field numbers, by message.
const PER_ROUTE_CHECK_SETTINGS: u32 = 2;
const SETTINGS_CONTEXT_EXTENSIONS: u32 = 1;

/// Configuration of the filter for a route. Redirects need no authorization: their target is authorized.
pub(super) fn per_route(action: &ir::Action) -> Option<Bytes> {
    match action.forward().map(|forward| &forward.authorization) {
        Some(Authorization::Check) => None,
        Some(Authorization::CheckWith(extensions)) => Some(with_extensions(extensions)),
        Some(Authorization::Disabled) | None => Some(disabled()),
    }
}

fn disabled() -> Bytes {
    super::any(&ExtAuthzPerRoute {
        r#override: Some(Override::Disabled(true)),
    })
}

/// Adds these entries to check requests.
fn with_extensions(extensions: &BTreeMap<String, String>) -> Bytes {
    let settings = wire::Writer::default()
        .map(SETTINGS_CONTEXT_EXTENSIONS, extensions)
        .finish();
    let per_route = wire::Writer::default()
        .field(PER_ROUTE_CHECK_SETTINGS, &settings)
        .finish();
    wire::any(&ExtAuthzPerRoute::type_url(), &per_route)
}
