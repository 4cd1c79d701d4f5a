//! `envoy.config.route.v3.RouteConfiguration` and `envoy.config.route.v3.Route`
//!
//! Each route caches its encoded bytes, and a table concatenates them: if one route of 10,000 changes, only that one is
//! encoded again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    action, filter, header, scope, virtual_host,
    wire::{self, Writer},
};
use crate::{
    ir::{self, Action, PathMatch, RouteForm, StringMatch, route::FORWARDED_PROTO},
    pb::envoy::{
        config::{
            core::v3::RuntimeFractionalPercent,
            route::v3::{
                DirectResponseAction, HeaderMatcher, QueryParameterMatcher, Route,
                RouteConfiguration, RouteMatch, header_matcher, query_parameter_matcher, route,
                route_match,
            },
        },
        r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher},
    },
};

// Field numbers, by message.
const VIRTUAL_HOSTS: u32 = 2;
const METADATA: u32 = 4;
const FILTER_CONFIG: u32 = 13;
const TABLE_FILTER_CONFIG: u32 = 16;

/// Name, in Envoy's logs, of routes that redirect insecure requests to https.
const REDIRECT: &str = "redirect-to-https";

/// The encoded route table.
pub(super) fn route_configuration(table: &ir::RouteTable) -> Bytes {
    let head = RouteConfiguration {
        name: table.key.to_string(),
        response_headers_to_add: header::added(&table.http3.map(alt_svc).into_iter().collect()),
        ignore_port_in_host_matching: true,
        request_headers_to_remove: if table.is_selected {
            vec![scope::HEADER.to_owned()]
        } else {
            Vec::new()
        },
        ..RouteConfiguration::default()
    };
    let mut table_filters = BTreeMap::new();
    if table.is_selected {
        table_filters = scope::per_table(&table.key);
    }
    let virtual_hosts = virtual_host::virtual_hosts(table);
    let head = Writer::default()
        .message(&head)
        .map(TABLE_FILTER_CONFIG, &table_filters);
    head.reserve(wire::fields_len(VIRTUAL_HOSTS, &virtual_hosts))
        .fields(VIRTUAL_HOSTS, &virtual_hosts)
        .finish()
}

/// Advertises HTTP/3, in its final version and in the last draft that browsers supported.
fn alt_svc(port: u16) -> (String, ir::AddedHeader) {
    let header = ir::AddedHeader {
        value: format!(r#"h3=":{port}"; ma=86400, h3-29=":{port}"; ma=86400"#),
        append: false,
    };
    ("alt-svc".to_owned(), header)
}

/// The encoded route, with or without its condition on the host name.
pub(super) fn encoded(route: &ir::Route, form: RouteForm, with_authority: bool) -> Bytes {
    route.encoded(form, with_authority, || {
        let authority = route.authority.as_ref().filter(|_| with_authority);
        self::route(route, form, authority)
    })
}

/// The encoded route, with its condition on the host name and one more.
pub(super) fn encoded_for(route: &ir::Route, form: RouteForm, host: &StringMatch) -> Bytes {
    self::route(route, form, route.authority.iter().chain([host]))
}

/// An encoded route that answers every path itself, if the host name meets this condition.
pub(super) fn answer(status: u32, host: Option<HeaderMatcher>) -> Bytes {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
            headers: host.into_iter().collect(),
            ..RouteMatch::default()
        }),
        action: Some(direct_response(status)),
        ..Route::default()
    };
    Writer::default()
        .message(&route)
        .map(FILTER_CONFIG, &filter::per_answer())
        .finish()
}

fn route<'a>(
    route: &ir::Route,
    form: RouteForm,
    hosts: impl IntoIterator<Item = &'a StringMatch>,
) -> Bytes {
    let mut matcher = route_match(route);
    let hosts = hosts.into_iter().map(authority_matcher);
    matcher.headers.extend(hosts);
    let mut message = Route {
        name: route.name.clone(),
        ..Route::default()
    };
    let filters;
    let mut metadata = None;
    match form {
        RouteForm::Plain | RouteForm::Secure => {
            if matches!(form, RouteForm::Secure) {
                let https = StringMatch::Exact("https".to_owned());
                // replaces a condition of the route on this header: only requests with https are secure
                matcher
                    .headers
                    .retain(|header| header.name != FORWARDED_PROTO);
                matcher
                    .headers
                    .push(header_matcher(FORWARDED_PROTO, &https));
            }
            filters = filter::per_route(&route.action);
            metadata = filter::metadata(&route.action);
            set_action(&mut message, &route.action);
        }
        RouteForm::Redirect => {
            // a name of the route itself would keep domains from sharing virtual hosts
            message.name = REDIRECT.to_owned();
            message.action = Some(route::Action::Redirect(action::https()));
            filters = filter::per_answer();
        }
    }
    message.r#match = Some(matcher);
    if let Some(changes) = route.action.response_headers() {
        message.response_headers_to_add = header::added(&changes.add);
        message.response_headers_to_remove = changes.remove.clone();
    }
    let metadata: Vec<Bytes> = metadata.into_iter().collect();
    Writer::default()
        .message(&message)
        .fields(METADATA, &metadata)
        .map(FILTER_CONFIG, &filters)
        .finish()
}

/// Sets the action and the header changes of requests.
fn set_action(message: &mut Route, action: &Action) {
    match action {
        Action::Forward(forward) => {
            message.action = Some(route::Action::Route(action::forward(forward)));
            message.request_headers_to_add = header::added(&forward.request_headers.add);
            message.request_headers_to_remove = forward.request_headers.remove.clone();
        }
        Action::Redirect(redirect) => {
            message.action = Some(route::Action::Redirect(action::redirect(redirect)));
        }
        Action::Unavailable => message.action = Some(direct_response(503)),
        Action::Healthy => message.action = Some(direct_response(200)),
    }
}

/// An answer of Envoy itself, without a body.
fn direct_response(status: u32) -> route::Action {
    route::Action::DirectResponse(DirectResponseAction {
        status,
        ..DirectResponseAction::default()
    })
}

fn route_match(route: &ir::Route) -> RouteMatch {
    use route_match::PathSpecifier;
    RouteMatch {
        path_specifier: Some(match &route.path {
            PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
            PathMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
            PathMatch::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern)),
        }),
        // absent means true
        case_sensitive: (!route.case_sensitive && !matches!(route.path, PathMatch::Regex(_)))
            .then(|| super::boolean(false)),
        headers: route
            .headers
            .iter()
            .map(|matcher| header_matcher(&matcher.name, &matcher.value))
            .collect(),
        query_parameters: route
            .query
            .iter()
            .map(|matcher| QueryParameterMatcher {
                name: matcher.name.clone(),
                query_parameter_match_specifier: Some(
                    query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(string(
                        &matcher.value,
                    )),
                ),
            })
            .collect(),
        runtime_fraction: route.percentage.map(|percentage| RuntimeFractionalPercent {
            default_value: Some(super::percentage(percentage)),
            ..RuntimeFractionalPercent::default()
        }),
        ..RouteMatch::default()
    }
}

fn header_matcher(name: &str, value: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(string(
            value,
        ))),
        ..HeaderMatcher::default()
    }
}

/// Host names are case-insensitive (RFC 9110, 4.2.3); the pattern of a regex decides for itself.
pub(super) fn authority_matcher(value: &StringMatch) -> HeaderMatcher {
    authority(StringMatcher {
        ignore_case: !matches!(value, StringMatch::Regex(_)),
        ..string(value)
    })
}

/// Meets a host name with a port.
pub(super) fn with_port() -> HeaderMatcher {
    authority(StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Contains(":".to_owned())),
        ..StringMatcher::default()
    })
}

fn authority(matcher: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: ":authority".to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(matcher)),
        ..HeaderMatcher::default()
    }
}

fn string(value: &StringMatch) -> StringMatcher {
    use string_matcher::MatchPattern;
    StringMatcher {
        match_pattern: Some(match value {
            StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
            StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
            StringMatch::Suffix(text) => MatchPattern::Suffix(text.clone()),
            StringMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
        }),
        ..StringMatcher::default()
    }
}

fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        ..RegexMatcher::default()
    }
}
