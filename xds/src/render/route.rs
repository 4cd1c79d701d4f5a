//! `envoy.config.route.v3.RouteConfiguration`
//!
//! Each route caches its encoded bytes, and a table concatenates them: if one route of 10,000 changes, only that one is
//! encoded again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::{Message, Name};

use super::{
    action, filter, header,
    route_tree::{self, Tree},
    wire::{self, Writer},
};
use crate::{
    ir::{self, Action, PathMatch, RouteForm, StringMatch, route::FORWARDED_PROTO},
    pb::envoy::{
        config::{
            core::v3::RuntimeFractionalPercent,
            route::v3::{
                DirectResponseAction, HeaderMatcher, QueryParameterMatcher, Route,
                RouteConfiguration, RouteList, RouteMatch, VirtualHost, header_matcher,
                query_parameter_matcher, route, route_match,
            },
        },
        r#type::matcher::v3::{
            HttpRequestHeaderMatchInput, RegexMatcher, StringMatcher, string_matcher,
        },
    },
};

// Field numbers, by message.
const VIRTUAL_HOSTS: u32 = 2;
const VIRTUAL_HOST_ROUTES: u32 = 3;
const VIRTUAL_HOST_MATCHER: u32 = 21;
const FILTER_CONFIG: u32 = 13;
const LIST_ROUTES: u32 = 1;
const MATCHER_TREE: u32 = 2;
const MATCHER_NO_MATCH: u32 = 3;
const TREE_INPUT: u32 = 1;
const TREE_PREFIXES: u32 = 3;
const MAP_ENTRIES: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
const ON_MATCH_ACTION: u32 = 2;
const EXTENSION_NAME: u32 = 1;
const EXTENSION_CONFIG: u32 = 2;

/// Name, in Envoy's logs, of routes that redirect insecure requests to https.
const REDIRECT: &str = "redirect-to-https";

/// The encoded route table.
pub(super) fn route_configuration(table: &ir::RouteTable) -> Bytes {
    let head = RouteConfiguration {
        name: table.key.to_string(),
        response_headers_to_add: header::added(&table.http3.map(alt_svc).into_iter().collect()),
        ..RouteConfiguration::default()
    };
    let mut virtual_hosts = virtual_hosts(table);
    if !table.misdirected.is_empty() {
        let host = misdirected_host(&table.misdirected);
        virtual_hosts.push(host.encode_to_vec().into());
    }
    with_fields(&head, VIRTUAL_HOSTS, &virtual_hosts)
}

/// Advertises HTTP/3, in its final version and in the last draft that browsers supported.
fn alt_svc(port: u16) -> (String, ir::AddedHeader) {
    let header = ir::AddedHeader {
        value: format!(r#"h3=":{port}"; ma=86400, h3-29=":{port}"; ma=86400"#),
        append: false,
    };
    ("alt-svc".to_owned(), header)
}

/// Encoded virtual hosts. Domains with equal routes share one: Envoy builds a table as a whole, so each virtual host adds
/// to the cost of every change.
fn virtual_hosts(table: &ir::RouteTable) -> Vec<Bytes> {
    let mut places: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut shared: Vec<(Bytes, Vec<String>)> = Vec::new();
    for host in &table.virtual_hosts {
        let routes = routes(host);
        let place = *places.entry(routes.clone()).or_insert_with(|| {
            shared.push((routes, Vec::new()));
            shared.len() - 1
        });
        shared[place].1.push(host.domain.to_string());
    }
    let virtual_host = |(routes, domains): (Bytes, Vec<String>)| {
        let head = VirtualHost {
            name: format!("{}-{}", table.key.listener, domains[0]),
            domains,
            ..VirtualHost::default()
        };
        Writer::with_capacity(head.encoded_len() + routes.len())
            .message(&head)
            .encoded(&routes)
            .finish()
    };
    shared.into_iter().map(virtual_host).collect()
}

/// The routes of a virtual host, as a list or, if there are many, as a tree.
fn routes(host: &ir::VirtualHost) -> Bytes {
    let routes: Vec<Vec<Bytes>> = host
        .routes
        .iter()
        .map(|route| {
            let with_authority = !implied(&host.domain, route.authority.as_ref());
            route
                .forms(host.insecure)
                .iter()
                .map(move |form| encoded(route, *form, with_authority))
                .collect()
        })
        .collect();
    let sizes: Vec<usize> = routes
        .iter()
        .map(|forms| forms.iter().map(Bytes::len).sum())
        .collect();
    match route_tree::plan(host.routes.iter().map(AsRef::as_ref), &sizes) {
        None => Writer::default()
            .fields(VIRTUAL_HOST_ROUTES, &routes.concat())
            .finish(),
        Some(tree) => Writer::default()
            .field(VIRTUAL_HOST_MATCHER, &matcher(&tree, &routes))
            .finish(),
    }
}

/// A generic matcher that selects a short list of routes by path prefix (`xds.type.matcher.v3.Matcher`).
fn matcher(tree: &Tree<'_>, routes: &[Vec<Bytes>]) -> Bytes {
    let input = super::any(&HttpRequestHeaderMatchInput {
        header_name: ":path".to_owned(),
    });
    let leaves: Vec<Bytes> = tree
        .leaves
        .iter()
        .map(|(key, places)| {
            Writer::default()
                .field(ENTRY_KEY, key.as_bytes())
                .field(ENTRY_VALUE, &leaf(places, routes))
                .finish()
        })
        .collect();
    let prefixes = with_fields(&(), MAP_ENTRIES, &leaves);
    let tree_field = Writer::with_capacity(prefixes.len() + 128)
        .field(TREE_INPUT, &extension("path", &input.encode_to_vec()))
        .field(TREE_PREFIXES, &prefixes)
        .finish();
    let mut matcher =
        Writer::with_capacity(tree_field.len() + 128).field(MATCHER_TREE, &tree_field);
    if !tree.rest.is_empty() {
        matcher = matcher.field(MATCHER_NO_MATCH, &leaf(&tree.rest, routes));
    }
    matcher.finish()
}

/// `OnMatch` with a list of routes.
fn leaf(places: &[usize], routes: &[Vec<Bytes>]) -> Bytes {
    let routes: Vec<Bytes> = places
        .iter()
        .flat_map(|place| routes[*place].iter().cloned())
        .collect();
    let list = with_fields(&(), LIST_ROUTES, &routes);
    let action = extension("routes", &wire::any(&RouteList::type_url(), &list));
    Writer::default().field(ON_MATCH_ACTION, &action).finish()
}

/// `xds.core.v3.TypedExtensionConfig`
fn extension(name: &str, config: &[u8]) -> Bytes {
    Writer::with_capacity(name.len() + config.len() + 16)
        .field(EXTENSION_NAME, name.as_bytes())
        .field(EXTENSION_CONFIG, config)
        .finish()
}

/// The virtual host that answers 421 for domains of other connections.
fn misdirected_host(domains: &[Arc<str>]) -> VirtualHost {
    VirtualHost {
        name: "misdirected".to_owned(),
        domains: domains.iter().map(ToString::to_string).collect(),
        routes: vec![Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(direct_response(421)),
            ..Route::default()
        }],
        ..VirtualHost::default()
    }
}

/// Whether every host name of a virtual host meets the route's condition on the host name.
fn implied(domain: &str, authority: Option<&StringMatch>) -> bool {
    match authority {
        None => true,
        Some(StringMatch::Exact(name)) => name == domain,
        Some(StringMatch::Suffix(suffix)) => {
            domain.ends_with(suffix.as_str())
                && domain.len() > suffix.len()
                && !domain.ends_with('*')
        }
        Some(StringMatch::Prefix(prefix)) => {
            domain.starts_with(prefix.as_str())
                && domain.len() > prefix.len()
                && !domain.starts_with('*')
        }
        Some(StringMatch::Regex(_)) => false,
    }
}

fn encoded(route: &ir::Route, form: RouteForm, with_authority: bool) -> Bytes {
    route.encoded(form, with_authority, || {
        self::route(route, form, with_authority)
    })
}

/// The encoded message, with a repeated field of encoded messages added.
fn with_fields(head: &impl Message, field: u32, values: &[Bytes]) -> Bytes {
    let size: usize = values
        .iter()
        .map(|value| wire::field_len(field, value.len()))
        .sum();
    Writer::with_capacity(head.encoded_len() + size)
        .message(head)
        .fields(field, values)
        .finish()
}

fn route(route: &ir::Route, form: RouteForm, with_authority: bool) -> Bytes {
    let mut matcher = route_match(route);
    if with_authority && let Some(authority) = &route.authority {
        matcher.headers.push(authority_matcher(authority));
    }
    let mut message = Route {
        name: route.name.clone(),
        ..Route::default()
    };
    let mut filters = BTreeMap::new();
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
            set_action(&mut message, &route.action);
        }
        RouteForm::Redirect => {
            // a name of the route itself would keep domains from sharing virtual hosts
            message.name = REDIRECT.to_owned();
            message.action = Some(route::Action::Redirect(action::https()));
        }
    }
    message.r#match = Some(matcher);
    if let Some(changes) = route.action.response_headers() {
        message.response_headers_to_add = header::added(&changes.add);
        message.response_headers_to_remove = changes.remove.clone();
    }
    Writer::default()
        .message(&message)
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
fn authority_matcher(value: &StringMatch) -> HeaderMatcher {
    let matcher = StringMatcher {
        ignore_case: !matches!(value, StringMatch::Regex(_)),
        ..string(value)
    };
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
