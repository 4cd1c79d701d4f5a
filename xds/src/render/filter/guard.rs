//! `envoy.extensions.filters.http.rbac.v3.RBAC` as a guard: routes that name an AuthService have its key in their metadata, and
//! are served only by listeners that have the filter of this AuthService.
//!
//! A route table is used by all chains of its listener, and reaches those that Envoy drains, too. These have the filters of an
//! earlier configuration, and Envoy ignores what a route says of a filter that its chain does not have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use prost::Message;

use crate::{
    ir::{self, filter::AUTHORIZATION_GUARD},
    pb::{
        envoy::{
            config::rbac::v3::{
                MetadataSource, Permission, Policy, Principal, Rbac as Rules, SourcedMetadata,
                permission::{Rule, Set},
                principal::Identifier,
                rbac::Action,
            },
            extensions::filters::{
                http::rbac::v3::Rbac, network::http_connection_manager::v3::HttpFilter,
            },
            r#type::matcher::v3::{
                MetadataMatcher, StringMatcher, ValueMatcher, metadata_matcher,
                string_matcher::MatchPattern, value_matcher,
            },
        },
        google::protobuf::{Struct, Value, value::Kind},
    },
    render::{scope, wire::Writer},
};

// Field number in Metadata.
const FILTER_METADATA: u32 = 1;

/// Key of the AuthService in the metadata of a route.
const SERVICE: &str = "service";

/// The filter of a listener with these filters. Routes that name an AuthService enable it.
pub(super) fn filter(filters: &BTreeSet<ir::HttpFilter>) -> HttpFilter {
    let named = filters.iter().filter_map(|filter| match filter {
        ir::HttpFilter::Authorization(service) => service.as_deref(),
        _ => None,
    });
    let rules: Vec<Permission> = named.map(|service| permission(is(service))).collect();
    let missing = if rules.is_empty() {
        Rule::Any(true)
    } else {
        Rule::NotRule(Box::new(permission(Rule::OrRules(Set { rules }))))
    };
    let policy = Policy {
        permissions: vec![permission(missing)],
        principals: vec![Principal {
            identifier: Some(Identifier::Any(true)),
        }],
        ..Policy::default()
    };
    let config = Rbac {
        rules: Some(Rules {
            action: Action::Deny.into(),
            // one, so the order of the map is no matter
            policies: HashMap::from([("authorization-missing".to_owned(), policy)]),
            ..Rules::default()
        }),
        ..Rbac::default()
    };
    super::on_configured_routes(AUTHORIZATION_GUARD, &config)
}

const fn permission(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// Whether the route names this AuthService.
fn is(service: &str) -> Rule {
    let exact = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(service.to_owned())),
        ..StringMatcher::default()
    };
    Rule::SourcedMetadata(SourcedMetadata {
        metadata_matcher: Some(MetadataMatcher {
            filter: AUTHORIZATION_GUARD.to_owned(),
            path: vec![metadata_matcher::PathSegment {
                segment: Some(metadata_matcher::path_segment::Segment::Key(
                    SERVICE.to_owned(),
                )),
            }],
            value: Some(ValueMatcher {
                match_pattern: Some(value_matcher::MatchPattern::StringMatch(exact)),
            }),
            ..MetadataMatcher::default()
        }),
        metadata_source: MetadataSource::Route.into(),
    })
}

/// The encoded metadata of a route with this action, for this filter and for those that look for a route table.
pub(in crate::render) fn metadata(action: &ir::Action) -> Option<Bytes> {
    let ir::Authorization::By { service, .. } = &action.forward()?.authorization else {
        return None;
    };
    let service = Kind::StringValue(service.to_string());
    let authorized = with_field(scope::AUTHORIZED, Kind::BoolValue(true));
    let mut filters = BTreeMap::from(scope::FILTERS.map(|name| (name, authorized.clone())));
    filters.insert(AUTHORIZATION_GUARD, with_field(SERVICE, service));
    Some(Writer::default().map(FILTER_METADATA, &filters).finish())
}

/// An encoded `Struct` with one field.
fn with_field(name: &str, kind: Kind) -> Bytes {
    let value = Value { kind: Some(kind) };
    let named = Struct {
        fields: HashMap::from([(name.to_owned(), value)]),
    };
    named.encode_to_vec().into()
}
