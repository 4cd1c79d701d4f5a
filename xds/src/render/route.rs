//! `envoy.config.route.v3.RouteConfiguration`
//!
//! A table is put together from the encoded bytes of its routes, which each route keeps: when one of ten thousand
//! changes, one is encoded and the rest is copied.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use crate::{
    ir::{self, Insecure, PathMatch, Rewrite, StringMatch},
    pb::envoy::{
        config::{
            core::v3::RuntimeFractionalPercent,
            route::v3::{
                DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, Route,
                RouteAction, RouteConfiguration, RouteMatch, VirtualHost, header_matcher,
                query_parameter_matcher, redirect_action, route, route_action, route_match,
            },
        },
        r#type::{
            matcher::v3::{RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
};

const VIRTUAL_HOSTS: u32 = 2; // field of RouteConfiguration
const ROUTES: u32 = 3; // field of VirtualHost

/// Prefix of the paths by which ACME servers check that a name is ours; they ask by http and must not be sent away.
const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// A form of a route: the same match in different company.
#[derive(Clone, Copy)]
enum Form {
    /// As it is.
    Plain,
    /// Only requests that came by HTTPS, by the header that tells.
    Secure,
    /// The same match, answered with a redirect to https.
    Redirect,
}

/// The encoded table.
pub(super) fn route_configuration(table: &ir::RouteTable) -> Bytes {
    let head = RouteConfiguration {
        name: table.key.to_string(),
        ..RouteConfiguration::default()
    };
    let mut virtual_hosts: Vec<Bytes> = table
        .virtual_hosts
        .iter()
        .map(|host| virtual_host(&table.key, host))
        .collect();
    if table.misdirected && table.virtual_hosts.iter().all(|host| &*host.domain != "*") {
        virtual_hosts.push(misdirected_host().encode_to_vec().into());
    }
    with_fields(&head, VIRTUAL_HOSTS, &virtual_hosts)
}

fn virtual_host(table: &ir::TableKey, host: &ir::VirtualHost) -> Bytes {
    let head = VirtualHost {
        name: format!("{}-{}", table.listener, host.domain),
        domains: vec![host.domain.to_string()],
        ..VirtualHost::default()
    };
    let routes: Vec<Bytes> = host
        .routes
        .iter()
        .flat_map(|route| {
            let with_authority = !implied(&host.domain, route.authority.as_ref());
            forms(host.insecure, route)
                .iter()
                .map(move |form| encoded(route, *form, with_authority))
        })
        .collect();
    with_fields(&head, ROUTES, &routes)
}

/// Answers what belongs to another connection.
fn misdirected_host() -> VirtualHost {
    VirtualHost {
        name: "misdirected".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(route::Action::DirectResponse(DirectResponseAction {
                status: 421,
                ..DirectResponseAction::default()
            })),
            ..Route::default()
        }],
        ..VirtualHost::default()
    }
}

/// Which forms of the route a virtual host needs, in their order.
fn forms(insecure: Insecure, route: &ir::Route) -> &'static [Form] {
    if matches!(&route.path, PathMatch::Prefix(prefix) if prefix == ACME_CHALLENGE) {
        return &[Form::Plain];
    }
    match insecure {
        Insecure::Route => &[Form::Plain],
        Insecure::Redirect => &[Form::Redirect],
        Insecure::Reject => &[],
        Insecure::RedirectByHeader => &[Form::Secure, Form::Redirect],
        Insecure::RejectByHeader => &[Form::Secure],
    }
}

/// Whether a virtual host that sends all requests away, or answers none, shows nothing of the difference between two
/// routes: they match the same, and where they would go does not matter.
#[must_use]
pub fn is_same_when_redirected(one: &ir::Route, other: &ir::Route) -> bool {
    let is_forwarded = forms(Insecure::Redirect, one)
        .iter()
        .any(|form| !matches!(form, Form::Redirect));
    let same_match = one.name == other.name
        && one.path == other.path
        && one.case_sensitive == other.case_sensitive
        && one.headers == other.headers
        && one.authority == other.authority
        && one.query == other.query
        && one.percentage == other.percentage;
    same_match && (!is_forwarded || one.forward == other.forward)
}

/// Whether every name that a virtual host takes also meets the route's condition on the name.
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

fn encoded(route: &ir::Route, form: Form, with_authority: bool) -> Bytes {
    let slot = form as usize * 2 + usize::from(with_authority);
    route.encoded.forms[slot]
        .get_or_init(|| {
            self::route(route, form, with_authority)
                .encode_to_vec()
                .into()
        })
        .clone()
}

/// The message, with further encoded messages as values of a repeated field.
fn with_fields(head: &impl Message, field: u32, values: &[Bytes]) -> Bytes {
    let size: usize = values
        .iter()
        .map(|value| key_len(field) + encoded_len_varint(value.len() as u64) + value.len())
        .sum();
    let mut buffer = BytesMut::with_capacity(head.encoded_len() + size);
    buffer.put_slice(&head.encode_to_vec());
    for value in values {
        encode_key(field, WireType::LengthDelimited, &mut buffer);
        encode_varint(value.len() as u64, &mut buffer);
        buffer.put_slice(value);
    }
    buffer.freeze()
}

fn route(route: &ir::Route, form: Form, with_authority: bool) -> Route {
    let mut matcher = route_match(route);
    if with_authority && let Some(authority) = &route.authority {
        matcher.headers.push(header(":authority", authority));
    }
    if matches!(form, Form::Secure) {
        let https = StringMatch::Exact("https".to_owned());
        matcher.headers.push(header("x-forwarded-proto", &https));
    }
    Route {
        name: route.name.clone(),
        r#match: Some(matcher),
        action: Some(match form {
            Form::Plain | Form::Secure => route::Action::Route(route_action(&route.forward)),
            Form::Redirect => route::Action::Redirect(RedirectAction {
                scheme_rewrite_specifier: Some(
                    redirect_action::SchemeRewriteSpecifier::HttpsRedirect(true),
                ),
                ..RedirectAction::default()
            }),
        }),
        ..Route::default()
    }
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
            .map(|matcher| header(&matcher.name, &matcher.value))
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
            default_value: Some(FractionalPercent {
                numerator: percentage,
                denominator: DenominatorType::Hundred.into(),
            }),
            ..RuntimeFractionalPercent::default()
        }),
        ..RouteMatch::default()
    }
}

fn header(name: &str, value: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(string(
            value,
        ))),
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

fn route_action(forward: &ir::Forward) -> RouteAction {
    let mut action = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(
            forward.cluster.to_string(),
        )),
        timeout: Some(super::duration(forward.timeout)),
        idle_timeout: forward.idle_timeout.map(super::duration),
        ..RouteAction::default()
    };
    match &forward.rewrite {
        Rewrite::Keep => {}
        Rewrite::Prefix(prefix) => action.prefix_rewrite.clone_from(prefix),
        Rewrite::Regex {
            pattern,
            substitution,
        } => {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(regex(pattern)),
                substitution: substitution.clone(),
            });
        }
    }
    action
}
