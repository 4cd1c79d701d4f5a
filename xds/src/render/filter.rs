//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter`, `envoy.config.core.v3.TypedExtensionConfig`, and
//! `typed_per_filter_config` of routes.
//!
//! One file per filter, with its configuration in the connection manager or as a resource, and on routes. [`ir::filter`] has
//! names and order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::{Message, Name};

use crate::{
    ir::{self, FilterSettings, filter},
    pb::{
        envoy::{
            config::{
                core::v3::{ExtensionConfigSource, TypedExtensionConfig},
                route::v3::FilterConfig,
            },
            extensions::filters::{
                http::{
                    buffer::v3::Buffer, compressor::v3::Compressor, ext_authz::v3::ExtAuthz,
                    grpc_stats::v3::FilterConfig as GrpcStats, lua::v3::Lua,
                    ratelimit::v3::RateLimit, rbac::v3::Rbac,
                },
                network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
            },
        },
        google::protobuf::Any,
    },
};

mod addresses;
mod buffer;
mod compressor;
mod cors;
mod custom_response;
mod ext_authz;
mod grpc;
mod guard;
pub(super) mod lua;
mod rate_limit;
mod router;

/// The filters of a connection manager, in the order in which requests pass through them.
pub(super) fn http_filters(listener: &ir::Listener) -> Vec<HttpFilter> {
    let all = &listener.filters;
    let filters = all.iter();
    let filters = filters.map(|filter| http_filter(filter, all, &listener.http));
    filters.chain([router::filter(&listener.http)]).collect()
}

fn http_filter(
    filter: &ir::HttpFilter,
    all: &BTreeSet<ir::HttpFilter>,
    options: &ir::HttpOptions,
) -> HttpFilter {
    match filter {
        ir::HttpFilter::CustomResponse => custom_response::filter(&options.error_bodies),
        ir::HttpFilter::Cors => cors::filter(),
        ir::HttpFilter::GrpcHttp1Bridge => grpc::http1_bridge(&filter.name()),
        ir::HttpFilter::GrpcWeb => grpc::web(&filter.name()),
        ir::HttpFilter::AuthorizationGuard => guard::filter(all),
        ir::HttpFilter::Authorization(None) => discovered::<ExtAuthz>(filter),
        ir::HttpFilter::Authorization(Some(_)) => ext_authz::named(discovered::<ExtAuthz>(filter)),
        ir::HttpFilter::GrpcStats => discovered::<GrpcStats>(filter),
        ir::HttpFilter::Lua => discovered::<Lua>(filter),
        ir::HttpFilter::Compression => discovered::<Compressor>(filter),
        ir::HttpFilter::Buffer => discovered::<Buffer>(filter),
        ir::HttpFilter::Addresses => discovered::<Rbac>(filter),
        ir::HttpFilter::RateLimit => discovered::<RateLimit>(filter),
    }
}

/// A filter whose settings are a resource. Until Envoy has it, the listener is not used; if it does not come in time, requests
/// get 500. Any of them can be [`FilterSettings::Off`].
fn discovered<M: Name>(filter: &ir::HttpFilter) -> HttpFilter {
    let mut type_urls = vec![Lua::type_url(), M::type_url()];
    type_urls.dedup();
    HttpFilter {
        name: filter.name().to_string(),
        config_type: Some(ConfigType::ConfigDiscovery(ExtensionConfigSource {
            config_source: Some(super::ads()),
            type_urls,
            ..ExtensionConfigSource::default()
        })),
        ..HttpFilter::default()
    }
}

/// The settings of a filter as a resource.
pub(super) fn resource(filter: &ir::HttpFilter, settings: &FilterSettings) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: filter.name().to_string(),
        typed_config: Some(typed_config(settings)),
    }
}

fn typed_config(settings: &FilterSettings) -> Any {
    match settings {
        FilterSettings::Off => lua::off(),
        FilterSettings::GrpcStats(stats) => grpc::stats(stats),
        FilterSettings::Lua(script) => lua::script(script),
        FilterSettings::ScriptError => lua::script_error(),
        FilterSettings::Compression(compression) => compressor::config(compression),
        FilterSettings::Buffer(bytes) => buffer::config(*bytes),
        FilterSettings::Addresses(addresses) => addresses::config(addresses),
        FilterSettings::Authorization(service) => ext_authz::config(service),
        FilterSettings::AuthorizationError(message) => lua::authorization_error(message),
        FilterSettings::RateLimit(service) => rate_limit::config(service),
    }
}

/// The cluster that a filter calls.
pub(super) fn cluster(settings: &FilterSettings) -> Option<&std::sync::Arc<str>> {
    match settings {
        FilterSettings::Authorization(service) => Some(&service.cluster),
        FilterSettings::RateLimit(service) => Some(&service.cluster),
        _ => None,
    }
}

/// Configuration of filters for a route: encoded `Any`s by name of the filter.
pub(super) type PerRoute = BTreeMap<String, Bytes>;

/// Configuration of filters for a route with this action.
pub(super) fn per_route(action: &ir::Action) -> PerRoute {
    let configs = [
        (filter::CORS, cors::per_route(action)),
        (filter::CUSTOM_RESPONSE, custom_response::per_route(action)),
    ];
    let configured = |(name, config): (&str, Option<Bytes>)| Some((name.to_owned(), config?));
    let configs = configs.into_iter().filter_map(configured);
    configs.chain(ext_authz::per_route(action)).collect()
}

/// Configuration of filters for a route that answers itself: there is nothing to authorize.
pub(super) fn per_answer() -> PerRoute {
    PerRoute::from([(filter::EXT_AUTHZ.to_owned(), disabled())])
}

pub(super) use guard::metadata;

/// Disables a filter on a route, whatever its configuration.
fn disabled() -> Bytes {
    any(&FilterConfig {
        disabled: true,
        ..FilterConfig::default()
    })
}

/// Enables a filter on a route, with the configuration that it has.
fn enabled() -> Bytes {
    any(&FilterConfig {
        config: Some(Any::default()),
        ..FilterConfig::default()
    })
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
pub(super) fn any(message: &impl Name) -> Bytes {
    super::any(message).encode_to_vec().into()
}

#[cfg(test)]
mod tests {
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
            http: std::sync::Arc::default(),
            tcp_access_logs: Vec::new(),
            buffer_limit_bytes: None,
            chains: Vec::new(),
            origin: None,
        }
    }

    #[test]
    fn redirects_and_answers_are_not_authorized() {
        let redirect = ir::Action::Redirect(Box::default());
        for filters in [per_answer(), per_route(&redirect)] {
            assert_eq!(
                filters,
                PerRoute::from([(filter::EXT_AUTHZ.to_owned(), disabled())])
            );
        }
        assert!(per_route(&forward(ir::Authorization::Check)).is_empty());
    }

    fn forward(authorization: ir::Authorization) -> ir::Action {
        ir::Action::Forward(Box::new(ir::Forward {
            authorization,
            ..ir::Forward::default()
        }))
    }

    #[test]
    fn routes_that_name_a_service_use_its_filter_and_the_guard_but_not_the_default_one() {
        let service: std::sync::Arc<str> = "ns/name".into();
        let named = forward(ir::Authorization::By {
            service: service.clone(),
            extensions: BTreeMap::new(),
        });
        let filters = per_route(&named);
        let named = ir::HttpFilter::Authorization(Some(service));
        assert_eq!(filters[filter::EXT_AUTHZ], disabled());
        assert_eq!(filters[filter::AUTHORIZATION_GUARD], enabled());
        assert!(filters.contains_key(&*named.name()));
        let guard = |filters: &[ir::HttpFilter]| {
            let filters = filters.iter().cloned().collect();
            http_filter(
                &ir::HttpFilter::AuthorizationGuard,
                &filters,
                &ir::HttpOptions::default(),
            )
        };
        // the guard of a listener without the filter is another one: it rejects them
        assert_ne!(guard(&[]), guard(&[named]));
        assert!(guard(&[]).disabled);
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
