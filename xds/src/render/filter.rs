//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter`, and `typed_per_filter_config` of routes.
//!
//! One file per filter, with its configuration in the connection manager and on routes. [`ir::filter`] has names and order.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Name};

use crate::{
    ir::{self, filter},
    pb::envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpFilter, http_filter::ConfigType,
    },
};

mod cors;
mod custom_response;
mod ext_authz;
mod router;

/// The filters of a connection manager, in the order in which requests pass through them.
pub(super) fn http_filters(listener: &ir::Listener) -> Vec<HttpFilter> {
    let filters = listener.filters.iter().map(http_filter);
    filters.chain([router::filter()]).collect()
}

fn http_filter(filter: &ir::HttpFilter) -> HttpFilter {
    match filter {
        ir::HttpFilter::CustomResponse => custom_response::filter(),
        ir::HttpFilter::Cors => cors::filter(),
    }
}

/// Configuration of filters for a route with this action: encoded `Any`s by name of the filter.
pub(super) fn per_route(action: &ir::Action) -> BTreeMap<&'static str, Bytes> {
    let configs = [
        (filter::CORS, cors::per_route(action)),
        (filter::CUSTOM_RESPONSE, custom_response::per_route(action)),
        (filter::EXT_AUTHZ, ext_authz::per_route(action)),
    ];
    let configured = |(name, config): (&'static str, Option<Bytes>)| Some((name, config?));
    configs.into_iter().filter_map(configured).collect()
}

/// A filter that runs on every route.
fn on_every_route(name: &str, config: &impl Name) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(super::any(config))),
        ..HttpFilter::default()
    }
}

/// A filter that runs only on routes that configure it.
fn on_configured_routes(name: &str, config: &impl Name) -> HttpFilter {
    HttpFilter {
        disabled: true,
        ..on_every_route(name, config)
    }
}

/// An encoded `Any`.
fn any(message: &impl Name) -> Bytes {
    super::any(message).encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ir::{ListenerKey, Transport};

    fn listener(filters: BTreeSet<ir::HttpFilter>) -> ir::Listener {
        ir::Listener {
            key: ListenerKey {
                port: 8080,
                transport: Transport::Tcp,
                address: None,
            },
            address: [127, 0, 0, 1].into(),
            stat_prefix: String::new(),
            proxy_protocol: false,
            tls: false,
            l7_depth: 0,
            max_concurrent_streams: None,
            filters,
            chains: Vec::new(),
        }
    }

    #[test]
    fn the_router_is_last_and_all_others_run_only_where_a_route_configures_them() {
        let filters = BTreeSet::from([ir::HttpFilter::Cors, ir::HttpFilter::CustomResponse]);
        let rendered = http_filters(&listener(filters));
        let found: Vec<(&str, bool)> = rendered
            .iter()
            .map(|filter| (filter.name.as_str(), filter.disabled))
            .collect();
        assert_eq!(
            found,
            [
                (filter::CUSTOM_RESPONSE, true),
                (filter::CORS, true),
                ("envoy.filters.http.router", false)
            ]
        );
    }
}
