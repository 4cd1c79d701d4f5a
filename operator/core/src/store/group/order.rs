//! The order in which the groups of a virtual host are tried.
//!
//! Precedence first, then the lengths of the conditions, then their text, all descending. Groups whose conditions have the
//! same text in different kinds stand together, exact before prefix before regular expression.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use litemap::LiteMap;
use nuncio_ir::StringMatch;
use xxhash_rust::xxh3::Xxh3;

use super::GroupKey;
use crate::{object::ObjectRef, reconcile::HostMatch};

const AUTHORITY: &str = ":authority";

/// Place of a group among the routes of a virtual host. Total: different groups are never equal, so that the order depends
/// on the Mappings only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct RouteOrder {
    path_length: usize,
    weights: Weights,
    key: Arc<GroupKey>,
    /// The first member of all groups with this text: of groups that are equal in all else, the one that was created later
    /// comes first, as in Emissary, where Mappings are added in order. One for all of them, or the order would not be total.
    first: ObjectRef,
}

/// Lengths of the conditions on headers, including the hostname, and on query parameters; one more for each regular
/// expression. Longer is more specific.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weights {
    headers: usize,
    query: usize,
}

impl Weights {
    fn of(key: &GroupKey) -> Self {
        let headers = header_texts(key).chain(regex_marks(key));
        Self {
            headers: headers
                .map(|(name, text)| length(name, text))
                .sum::<usize>(),
            query: query_texts(key)
                .map(|(name, text)| length(name, text))
                .sum::<usize>()
                + key
                    .query
                    .iter()
                    .filter(|query| is_regex(&query.value))
                    .count(),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            headers: self.headers.max(other.headers),
            query: self.query.max(other.query),
        }
    }
}

/// Groups by the text of their conditions, whatever their kinds, with the first member of each.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    /// Nearly always one each.
    by_text: BTreeMap<u128, LiteMap<Arc<GroupKey>, ObjectRef>>,
}

impl Siblings {
    /// Notes a group with its first member. Returns the others with the same text if their order may differ now.
    pub(super) fn insert(&mut self, key: &Arc<GroupKey>, first: &ObjectRef) -> Vec<Arc<GroupKey>> {
        let groups = self.by_text.entry(text_digest(key));
        let groups = groups.or_insert_with(|| LiteMap::with_capacity(1));
        if groups.get(key) == Some(first) {
            return Vec::new();
        }
        groups.insert(key.clone(), first.clone());
        let others = groups.keys().filter(|other| *other != key);
        others.cloned().collect()
    }

    /// Removes a group. Returns the others with the same text.
    pub(super) fn remove(&mut self, key: &Arc<GroupKey>) -> Vec<Arc<GroupKey>> {
        let digest = text_digest(key);
        let Some(groups) = self.by_text.get_mut(&digest) else {
            return Vec::new();
        };
        groups.remove(key);
        let others = groups.keys().cloned().collect();
        if groups.is_empty() {
            self.by_text.remove(&digest);
        }
        others
    }

    /// The place of a group that was inserted. Groups with the same text have the same weights and the same first member,
    /// so that nothing comes between them.
    pub(super) fn order(&self, key: &Arc<GroupKey>, first: &ObjectRef) -> RouteOrder {
        let siblings = self.by_text.get(&text_digest(key));
        let siblings = || siblings.into_iter().flat_map(LiteMap::iter);
        let weights = siblings().map(|(key, _)| Weights::of(key));
        let firsts = siblings().map(|(_, first)| first);
        RouteOrder {
            path_length: key.path_text().chars().count(),
            weights: weights.fold(Weights::of(key), Weights::max),
            key: key.clone(),
            first: firsts.min().unwrap_or(first).clone(),
        }
    }
}

impl Ord for RouteOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.key, &other.key);
        let (ours, theirs) = (self.weights, other.weights);
        b.precedence
            .cmp(&a.precedence)
            .then(other.path_length.cmp(&self.path_length))
            .then(theirs.headers.cmp(&ours.headers))
            .then(theirs.query.cmp(&ours.query))
            .then_with(|| b.path_text().cmp(a.path_text()))
            .then_with(|| elements(b).cmp_by_bytes(elements(a)))
            .then_with(|| {
                if has_same_text(a, b) {
                    // exact before prefix before regular expression
                    a.cmp(b)
                } else {
                    other.first.cmp(&self.first).then_with(|| a.cmp(b))
                }
            })
    }
}

impl PartialOrd for RouteOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares lists of `name-value` texts, element by element.
trait CmpByBytes<'a>: Iterator<Item = (&'a str, &'a str)> + Sized {
    fn cmp_by_bytes(mut self, mut other: Self) -> Ordering {
        fn bytes<'b>((name, text): (&'b str, &'b str)) -> impl Iterator<Item = u8> + 'b {
            name.bytes().chain("-".bytes()).chain(text.bytes())
        }
        loop {
            return match (self.next(), other.next()) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Less,
                (Some(_), None) => Ordering::Greater,
                (Some(one), Some(another)) => match bytes(one).cmp(bytes(another)) {
                    Ordering::Equal => continue,
                    differs => differs,
                },
            };
        }
    }
}

impl<'a, I: Iterator<Item = (&'a str, &'a str)>> CmpByBytes<'a> for I {}

/// The texts that are compared when all lengths are equal.
fn elements(key: &GroupKey) -> impl Iterator<Item = (&str, &str)> {
    header_texts(key).chain(query_texts(key))
}

fn has_same_text(a: &GroupKey, b: &GroupKey) -> bool {
    a.path_text() == b.path_text()
        && header_texts(a).eq(header_texts(b))
        && query_texts(a).eq(query_texts(b))
}

fn text_digest(key: &GroupKey) -> u128 {
    let mut hash = Xxh3::new();
    let mut add = |text: &str| {
        hash.update(&text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&key.precedence.to_string());
    add(key.path_text());
    for (name, text) in header_texts(key) {
        add(name);
        add(text);
    }
    add("?");
    for (name, text) in query_texts(key) {
        add(name);
        add(text);
    }
    hash.digest128()
}

/// Name and text of each condition on a header; the hostname before the method, the last of them.
fn header_texts(key: &GroupKey) -> impl Iterator<Item = (&str, &str)> {
    let is_method = |name: &str| name == ":method";
    let authority = match &key.host {
        HostMatch::Unset => None,
        HostMatch::Glob(text) | HostMatch::Regex(text) => Some((AUTHORITY, text.as_str())),
    };
    let headers = || {
        key.headers
            .iter()
            .map(|header| (header.name.as_str(), text(&header.value)))
    };
    let others = headers().filter(move |(name, _)| !is_method(name));
    let method = headers().filter(move |(name, _)| is_method(name));
    others.chain(authority).chain(method)
}

/// Name and text of each condition on a query parameter.
fn query_texts(key: &GroupKey) -> impl Iterator<Item = (&str, &str)> {
    let query = key.query.iter();
    query.map(|query| (query.name.as_str(), text(&query.value)))
}

/// One letter for each regular expression among the conditions on headers.
fn regex_marks(key: &GroupKey) -> impl Iterator<Item = (&str, &str)> {
    let host = matches!(key.host, HostMatch::Regex(_));
    let headers = key.headers.iter().filter(|header| is_regex(&header.value));
    std::iter::repeat_n((".", ""), headers.count() + usize::from(host))
}

fn length(name: &str, text: &str) -> usize {
    name.chars().count() + text.chars().count()
}

fn is_regex(value: &StringMatch) -> bool {
    matches!(value, StringMatch::Regex(_))
}

fn text(value: &StringMatch) -> &str {
    match value {
        StringMatch::Exact(text)
        | StringMatch::Prefix(text)
        | StringMatch::Suffix(text)
        | StringMatch::Regex(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use nuncio_ir::{HeaderMatch, PathMatch};

    use super::*;
    use crate::object::Kind;

    fn key(
        host: &str,
        path: PathMatch,
        precedence: i64,
        headers: &[(&str, StringMatch)],
    ) -> Arc<GroupKey> {
        Arc::new(GroupKey {
            host: HostMatch::Glob(host.to_owned()),
            path,
            headers: headers
                .iter()
                .map(|(name, value)| HeaderMatch {
                    name: (*name).to_owned(),
                    value: value.clone(),
                })
                .collect(),
            query: Vec::new(),
            precedence,
        })
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(text.to_owned())
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.to_owned())
    }

    fn regex(text: &str) -> StringMatch {
        StringMatch::Regex(text.to_owned())
    }

    /// Sorts keys that are in order, from their reverse.
    fn assert_order(expected: &[Arc<GroupKey>]) {
        let mut siblings = Siblings::default();
        let first = ObjectRef::new(Kind::Mapping, "default", "a");
        for key in expected {
            siblings.insert(key, &first);
        }
        let mut sorted: Vec<_> = expected
            .iter()
            .rev()
            .map(|key| siblings.order(key, &first))
            .collect();
        sorted.sort();
        let sorted: Vec<_> = sorted.into_iter().map(|order| order.key).collect();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn routes_are_tried_by_precedence_then_by_the_length_of_their_conditions() {
        assert_order(&[
            key("*", prefix("/"), 1, &[]),
            key("*", prefix("/xx/"), 0, &[]),
            key("*", PathMatch::Regex("/x.*".to_owned()), 0, &[]),
            key("*", prefix("/x/"), 0, &[(":method", exact("DELETE"))]),
            key("*", prefix("/x/"), 0, &[(":method", exact("GET"))]),
            key("a.com", prefix("/x/"), 0, &[]),
            key("*", prefix("/z/"), 0, &[]),
            key("*", prefix("/x/"), 0, &[]),
            key("*", PathMatch::Exact("/w/".to_owned()), 0, &[]),
            key("*", prefix("/w/"), 0, &[]),
            key("*", prefix("/"), 0, &[]),
            key("*", prefix("/xxxxx/"), -1, &[]),
        ]);
    }

    #[test]
    fn exact_comes_before_regex_of_the_same_text_and_nothing_between() {
        let header = |value| [("x", value)];
        assert_order(&[
            key("*", prefix("/"), 0, &header(regex("bcd"))),
            key("*", prefix("/"), 0, &header(exact("abc"))),
            key("*", prefix("/"), 0, &header(regex("abc"))),
            // heavier than the exact one, lighter than the regular expression
            key("*", prefix("/"), 0, &header(exact("zzz"))),
        ]);
    }

    #[test]
    fn lists_are_compared_as_name_and_value_in_one_text() {
        // x-z is after x-b-c as a text, though x is before x-b as a name
        assert_order(&[
            key("*", prefix("/"), 0, &[("x", exact("zz"))]),
            key("*", prefix("/"), 0, &[("x-b", exact(""))]),
        ]);
    }

    fn mapping(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Mapping, "default", name)
    }

    #[test]
    fn of_equal_groups_the_one_created_later_comes_first() {
        // x, y-z and x-y, z are the same text
        let one = key("*", prefix("/"), 0, &[("x", exact("y-z"))]);
        let other = key("*", prefix("/"), 0, &[("x-y", exact("z"))]);
        for (first, second, expected) in [("b", "a", Ordering::Less), ("a", "b", Ordering::Greater)]
        {
            let mut siblings = Siblings::default();
            siblings.insert(&one, &mapping(first));
            siblings.insert(&other, &mapping(second));
            let order = |key| siblings.order(key, &mapping("z"));
            assert_eq!(order(&one).cmp(&order(&other)), expected);
        }
    }

    #[test]
    fn the_order_is_total() {
        let header = |name, value| [(name, exact(value))];
        let keys = [
            key(
                "*",
                PathMatch::Exact("/".to_owned()),
                0,
                &header("x-a", "b"),
            ),
            key("*", prefix("/"), 0, &header("x", "a-b")),
            key("*", prefix("/"), 0, &header("x-a", "b")),
        ];
        let mut siblings = Siblings::default();
        for (key, name) in keys.iter().zip(["a1", "a2", "a3"]) {
            siblings.insert(key, &mapping(name));
        }
        let orders = keys
            .each_ref()
            .map(|key| siblings.order(key, &mapping("z")));
        for a in &orders {
            for b in &orders {
                assert_eq!(a.cmp(b), b.cmp(a).reverse());
                for c in &orders {
                    assert!(!(a < b && b < c) || a < c, "{a:?} {b:?} {c:?}");
                }
            }
        }
    }
}
