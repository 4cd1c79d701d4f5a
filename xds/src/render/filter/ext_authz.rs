//! `envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute`: whether the authorization service is called, and with
//! what.

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

// Numbers of fields, by message.
const PER_ROUTE_CHECK_SETTINGS: u32 = 2;
const SETTINGS_CONTEXT_EXTENSIONS: u32 = 1;

/// Configuration of the filter for a route. Redirected requests are not authorized: their target is.
pub(super) fn per_route(action: &ir::Action) -> Option<Bytes> {
    match action.forward().map(|forward| &forward.authorization) {
        Some(Authorization::Ask) => None,
        Some(Authorization::AskWith(extensions)) => Some(with_extensions(extensions)),
        Some(Authorization::Bypass) | None => Some(disabled()),
    }
}

fn disabled() -> Bytes {
    super::any(&ExtAuthzPerRoute {
        r#override: Some(Override::Disabled(true)),
    })
}

/// Sends these entries with the check request.
fn with_extensions(extensions: &BTreeMap<String, String>) -> Bytes {
    let settings = wire::Writer::default()
        .map(SETTINGS_CONTEXT_EXTENSIONS, extensions)
        .finish();
    let per_route = wire::Writer::default()
        .field(PER_ROUTE_CHECK_SETTINGS, &settings)
        .finish();
    wire::any(&ExtAuthzPerRoute::type_url(), &per_route)
}
