//! `envoy.extensions.filters.http.ext_authz.v3.{ExtAuthz, ExtAuthzPerRoute}`: authorization of requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Name;

use super::lua;
use crate::{
    ir::{
        self, Authorization, AuthorizationCall, AuthorizationService, HttpAuthorization,
        filter::{AUTHORIZATION_GUARD, EXT_AUTHZ},
    },
    pb::{
        envoy::{
            config::core::v3::{
                ApiVersion, ExtensionConfigSource, HeaderValue, HttpUri, http_uri::HttpUpstreamType,
            },
            extensions::filters::{
                http::ext_authz::v3::{
                    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz,
                    ExtAuthzPerRoute, HttpService, ext_authz::Services,
                    ext_authz_per_route::Override,
                },
                network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
            },
            r#type::{
                matcher::v3::{ListStringMatcher, StringMatcher, string_matcher::MatchPattern},
                v3::HttpStatus,
            },
        },
        google::protobuf::Any,
    },
    render::{duration, grpc_service, scope, wire},
};

// Field numbers, by message.
const PER_ROUTE_CHECK_SETTINGS: u32 = 2;
const SETTINGS_CONTEXT_EXTENSIONS: u32 = 1;

/// The filter with this service. The route is selected again with the headers that the service adds.
pub(super) fn config(service: &AuthorizationService) -> Any {
    let services = match &service.call {
        AuthorizationCall::Grpc => {
            Services::GrpcService(grpc_service(&service.cluster, Some(service.timeout)))
        }
        AuthorizationCall::Http(http) => Services::HttpService(http_service(service, http)),
    };
    let allowed = match &service.call {
        AuthorizationCall::Grpc => None,
        AuthorizationCall::Http(http) => Some(names(&http.request_headers)),
    };
    super::super::any(&ExtAuthz {
        transport_api_version: ApiVersion::V3.into(),
        failure_mode_allow: service.allow_on_failure,
        with_request_body: service.body.map(|body| BufferSettings {
            max_request_bytes: body.max_bytes,
            allow_partial_message: body.allow_partial,
            ..BufferSettings::default()
        }),
        clear_route_cache: true,
        status_on_error: service
            .status_on_error
            .map(|code| HttpStatus { code: code.into() }),
        allowed_headers: allowed,
        disallowed_headers: Some(names(&[scope::HEADER.to_owned()])),
        services: Some(services),
        ..ExtAuthz::default()
    })
}

fn http_service(service: &AuthorizationService, http: &HttpAuthorization) -> HttpService {
    let scheme = if http.tls { "https" } else { "http" };
    let headers = http.added_headers.iter().map(|(key, value)| HeaderValue {
        key: key.clone(),
        value: value.clone(),
        ..HeaderValue::default()
    });
    HttpService {
        // only the scheme counts: the cluster has the address
        server_uri: Some(HttpUri {
            uri: format!("{scheme}://{}", http.path_prefix.trim_start_matches('/')),
            timeout: Some(duration(service.timeout)),
            http_upstream_type: Some(HttpUpstreamType::Cluster(service.cluster.to_string())),
        }),
        path_prefix: http.path_prefix.clone(),
        authorization_request: Some(AuthorizationRequest {
            headers_to_add: headers.collect(),
            ..AuthorizationRequest::default()
        }),
        authorization_response: Some(AuthorizationResponse {
            allowed_upstream_headers: Some(names(&http.response_headers)),
            allowed_client_headers: Some(names(&http.response_headers)),
            ..AuthorizationResponse::default()
        }),
        ..HttpService::default()
    }
}

fn names(names: &[String]) -> ListStringMatcher {
    let exact = |name: &String| StringMatcher {
        ignore_case: true,
        match_pattern: Some(MatchPattern::Exact(name.clone())),
    };
    ListStringMatcher {
        patterns: names.iter().map(exact).collect(),
    }
}

/// The filter of an AuthService that only some routes use: they enable it. Without its settings, which chains that Envoy drains
/// may lose, their requests get 500; those of other routes are not affected.
pub(super) fn named(filter: HttpFilter) -> HttpFilter {
    let Some(ConfigType::ConfigDiscovery(source)) = filter.config_type else {
        return filter;
    };
    HttpFilter {
        disabled: true,
        config_type: Some(ConfigType::ConfigDiscovery(ExtensionConfigSource {
            default_config: Some(lua::authorization_error("the AuthService is not known")),
            ..source
        })),
        ..filter
    }
}

/// Configuration of the filters for a route. Redirects need no authorization: their target is authorized.
pub(super) fn per_route(action: &ir::Action) -> super::PerRoute {
    let default = |config| super::PerRoute::from([(EXT_AUTHZ.to_owned(), config)]);
    let Some(forward) = action.forward() else {
        return super::per_answer();
    };
    match &forward.authorization {
        Authorization::Check => super::PerRoute::new(),
        Authorization::CheckWith(extensions) => default(with_extensions(extensions)),
        Authorization::Disabled => default(disabled()),
        Authorization::By {
            service,
            extensions,
        } => {
            let named = ir::HttpFilter::Authorization(Some(service.clone()));
            super::PerRoute::from([
                (EXT_AUTHZ.to_owned(), super::disabled()),
                (AUTHORIZATION_GUARD.to_owned(), super::enabled()),
                (named.name().to_string(), with_extensions(extensions)),
            ])
        }
    }
}

/// The service is not called. A route without authorization still gets the error of a service that cannot be used.
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
