//! The matcher that selects the chain of a connection: `xds.type.matcher.v3.Matcher`.
//!
//! It selects what conditions of chains would: the chain with the exact server name, else the one with the longest wildcard,
//! else the one for all TLS connections, else the one for all connections.

use std::{cmp::Reverse, collections::BTreeMap};

use bytes::Bytes;
use prost::{Message, Name};

use super::is_for_tls;
use crate::{
    ir::{self, Transport},
    pb::{
        envoy::extensions::matching::common_inputs::network::v3::{
            ServerNameInput, TransportProtocolInput,
        },
        google::protobuf::StringValue,
        xds::{
            core::v3::TypedExtensionConfig,
            r#type::matcher::v3::{
                StringMatcher,
                matcher::{
                    MatcherList, OnMatch,
                    matcher_list::{
                        FieldMatcher, Predicate,
                        predicate::{MatchType, SinglePredicate, single_predicate::Matcher},
                    },
                    on_match,
                },
                string_matcher::MatchPattern,
            },
        },
    },
    render::wire::Writer,
};

// Field numbers, by message.
const MATCHER_LIST: u32 = 1;
const MATCHER_TREE: u32 = 2;
const MATCHER_NO_MATCH: u32 = 3;
const TREE_INPUT: u32 = 1;
const TREE_EXACT: u32 = 2;
const MAP_ENTRIES: u32 = 1;
const ON_MATCH_MATCHER: u32 = 1;

/// What TLS inspectors say of TLS connections.
const TLS: &str = "tls";

/// The encoded matcher.
pub(super) fn matcher(listener: &ir::Listener) -> Bytes {
    let mut exact: BTreeMap<&str, Bytes> = BTreeMap::new();
    let mut wildcards: Vec<(&str, &ir::FilterChain)> = Vec::new();
    let (mut any_tls, mut any) = (None, None);
    for chain in &listener.chains {
        let action: Bytes = on_match(chain).encode_to_vec().into();
        for name in &chain.server_names {
            match name.strip_prefix('*') {
                Some(end) => wildcards.push((end, chain)),
                None => drop(exact.insert(name, action.clone())),
            }
        }
        if chain.server_names.is_empty() {
            let place = if is_for_tls(chain) {
                &mut any_tls
            } else {
                &mut any
            };
            *place = Some(chain);
        }
    }
    wildcards.sort_by_key(|(end, _)| Reverse(end.len()));
    let other_names = with_wildcards(&wildcards, any_tls.or(any));
    let by_name = tree(&input::<ServerNameInput>(), &exact, other_names.as_deref());
    match listener.key.transport {
        Transport::Udp => by_name,
        Transport::Tcp => {
            let by_name = Writer::default().field(ON_MATCH_MATCHER, &by_name).finish();
            let any = any.map(|chain| on_match(chain).encode_to_vec());
            let transports = BTreeMap::from([(TLS, by_name)]);
            tree(
                &input::<TransportProtocolInput>(),
                &transports,
                any.as_deref(),
            )
        }
    }
}

/// What is done with names that are in no map; `None`: nothing.
fn with_wildcards(
    wildcards: &[(&str, &ir::FilterChain)],
    others: Option<&ir::FilterChain>,
) -> Option<Vec<u8>> {
    let others = others.map(|chain| on_match(chain).encode_to_vec());
    if wildcards.is_empty() {
        return others;
    }
    let ends_with = |end: &str| Predicate {
        match_type: Some(MatchType::SinglePredicate(SinglePredicate {
            input: Some(input::<ServerNameInput>()),
            matcher: Some(Matcher::ValueMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Suffix(end.to_owned())),
                ..StringMatcher::default()
            })),
        })),
    };
    let matchers = wildcards.iter().map(|(end, chain)| FieldMatcher {
        predicate: Some(ends_with(end)),
        on_match: Some(on_match(chain)),
    });
    let list = MatcherList {
        matchers: matchers.collect(),
    };
    let mut matcher = Writer::default().field(MATCHER_LIST, &list.encode_to_vec());
    if let Some(others) = others {
        matcher = matcher.field(MATCHER_NO_MATCH, &others);
    }
    let matcher = Writer::default().field(ON_MATCH_MATCHER, &matcher.finish());
    Some(matcher.finish().into())
}

/// A matcher with a map from values of an input to encoded `OnMatch`es.
fn tree(input: &TypedExtensionConfig, map: &BTreeMap<&str, Bytes>, others: Option<&[u8]>) -> Bytes {
    let map = Writer::default().map(MAP_ENTRIES, map).finish();
    let tree = Writer::default()
        .field(TREE_INPUT, &input.encode_to_vec())
        .field(TREE_EXACT, &map)
        .finish();
    let mut matcher = Writer::default().field(MATCHER_TREE, &tree);
    if let Some(others) = others {
        matcher = matcher.field(MATCHER_NO_MATCH, others);
    }
    matcher.finish()
}

fn input<I: Message + Name + Default>() -> TypedExtensionConfig {
    extension("input", &I::default())
}

/// Selects a chain by its name.
fn on_match(chain: &ir::FilterChain) -> OnMatch {
    let name = StringValue {
        value: chain.name.clone(),
    };
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(extension("chain", &name))),
        ..OnMatch::default()
    }
}

fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(crate::render::any(message)),
    }
}
