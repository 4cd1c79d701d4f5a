//! Envoy tries routes one after the other, so the last of ten thousand costs a multiple of the first. Where a virtual host
//! has many, they are put behind a map of path prefixes that leads to the few that can match (`VirtualHost.matcher`,
//! generic matching API, `prefix_match_map`), in the order that they have in the list.
//!
//! The map only narrows: each leaf holds *every* route that can match a path beginning with its key and with no longer
//! key, and every route still checks its own conditions. Whatever precedence and kind routes have, the tree therefore
//! chooses the route that the list would:
//!
//! - The literal head of a route ([`literal_head`]) is a prefix of every path that it matches.
//! - Let K be the longest key that is a prefix of a path. Either the trie was cut at K: then all heads that begin with K
//!   are in its leaf, and those that are prefixes of K are repeated there. Or it was not: then K's leaf holds the heads
//!   that are prefixes of K, and no longer head is a prefix of the path, for it would be a key or below one.
//!
//! Envoy does not go on to a shorter key when nothing in a leaf matches, which is why leaves repeat their ancestors.

use crate::ir::{PathMatch, Route};

/// With fewer routes a list is as fast.
const LIST: usize = 100;
/// Routes in a leaf, unless more have to be repeated in each.
const LEAF: usize = 32;

/// Which routes are tried for which paths. Routes are given by their places in the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree<'a> {
    /// By prefix of the path; the longest that fits decides.
    pub(super) leaves: Vec<(&'a str, Vec<usize>)>,
    /// For paths that no prefix fits.
    pub(super) rest: Vec<usize>,
}

/// The tree of a list of routes, which have these sizes when encoded; `None` where the list is better.
pub(super) fn plan<'a>(
    routes: impl Iterator<Item = &'a Route>,
    sizes: &[usize],
) -> Option<Tree<'a>> {
    if sizes.len() < LIST {
        return None;
    }
    let heads: Vec<&str> = routes.map(literal_head).collect();
    let tree = tree(&heads, LEAF)?;
    let size = |places: &[usize]| places.iter().map(|place| sizes[*place]).sum::<usize>();
    let repeated: usize = tree.leaves.iter().map(|(_, places)| size(places)).sum();
    let list: usize = sizes.iter().sum();
    (repeated + size(&tree.rest) <= list + list / 2).then_some(tree)
}

/// The tree of these heads; `None` if there is nothing to choose by.
fn tree<'a>(heads: &[&'a str], leaf: usize) -> Option<Tree<'a>> {
    let mut sorted: Vec<(&str, usize)> = heads
        .iter()
        .enumerate()
        .map(|(place, head)| (*head, place))
        .collect();
    sorted.sort_unstable();
    let everywhere = heads
        .iter()
        .filter(|head| matches!(**head, "" | "/"))
        .count();
    let mut builder = Builder {
        leaf: leaf.max(everywhere),
        leaves: Vec::new(),
    };
    let unbound = sorted.partition_point(|(head, _)| head.is_empty());
    let rest: Vec<usize> = sorted[..unbound].iter().map(|(_, place)| *place).collect();
    builder.children(&sorted[unbound..], 0, &rest);
    (!builder.leaves.is_empty()).then_some(Tree {
        leaves: builder.leaves,
        rest,
    })
}

struct Builder<'a> {
    leaf: usize,
    leaves: Vec<(&'a str, Vec<usize>)>,
}

impl<'a> Builder<'a> {
    /// Splits heads that share their first `shared` bytes by the character that follows, which each of them has.
    fn children(&mut self, heads: &[(&'a str, usize)], shared: usize, ancestors: &[usize]) {
        let next = |head: &str| head[shared..].chars().next();
        for child in heads.chunk_by(|one, other| next(one.0) == next(other.0)) {
            self.node(child, ancestors);
        }
    }

    /// Heads with a common beginning: one leaf if they are few.
    fn node(&mut self, heads: &[(&'a str, usize)], ancestors: &[usize]) {
        let (Some((first, _)), Some((last, _))) = (heads.first(), heads.last()) else {
            return;
        };
        let key = &first[..common(first, last)];
        if heads.len() <= self.leaf {
            self.push(key, ancestors, heads);
            return;
        }
        let here = heads.partition_point(|(head, _)| *head == key);
        let (own, below) = heads.split_at(here);
        let ancestors: Vec<usize> = ancestors
            .iter()
            .copied()
            .chain(own.iter().map(|(_, place)| *place))
            .collect();
        if !own.is_empty() {
            self.push(key, &ancestors, &[]);
        }
        self.children(below, key.len(), &ancestors);
    }

    fn push(&mut self, key: &'a str, ancestors: &[usize], heads: &[(&'a str, usize)]) {
        let own = heads.iter().map(|(_, place)| *place);
        let mut places: Vec<usize> = ancestors.iter().copied().chain(own).collect();
        places.sort_unstable();
        self.leaves.push((key, places));
    }
}

/// How many bytes at the beginning are the same, in whole characters.
fn common(one: &str, other: &str) -> usize {
    let characters = one.char_indices().zip(other.chars());
    let differs = |((_, a), b): &((usize, char), char)| a != b;
    let first_difference = characters.into_iter().find(differs);
    first_difference.map_or(one.len().min(other.len()), |((index, _), _)| index)
}

/// What every path that a route matches begins with.
fn literal_head(route: &Route) -> &str {
    let head = match &route.path {
        PathMatch::Exact(text) | PathMatch::Prefix(text) => text,
        PathMatch::Regex(pattern) => return regex_head(pattern),
    };
    if route.case_sensitive {
        return head;
    }
    let caseless = |character: char| !character.is_alphabetic();
    let end = head.find(|character| !caseless(character));
    &head[..end.unwrap_or(head.len())]
}

/// What every text that the pattern matches begins with, as far as that is plain to see.
fn regex_head(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let special = |character: char| r"\.[](){}*+?^$".contains(character);
    let Some(end) = pattern.find(special) else {
        return pattern;
    };
    let head = &pattern[..end];
    // what is repeated may not be there at all
    let is_repeated = pattern[end..].starts_with(['*', '?', '{']);
    match head.char_indices().next_back() {
        Some((last, _)) if is_repeated => &head[..last],
        _ => head,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::ir::{Action, Redirect};

    fn route(path: PathMatch, case_sensitive: bool) -> Route {
        let action = Action::Redirect(Redirect::default());
        let mut route = Route::new(String::new(), path, action);
        route.case_sensitive = case_sensitive;
        route
    }

    /// As Envoy does: the query is no part of what is compared.
    fn is_match(route: &Route, raw: &str) -> bool {
        let path = raw.split('?').next().unwrap_or_default();
        let fold = |text: &str| {
            if route.case_sensitive {
                text.to_owned()
            } else {
                text.to_ascii_lowercase()
            }
        };
        match &route.path {
            PathMatch::Exact(text) => fold(path) == fold(text),
            PathMatch::Prefix(text) => fold(path).starts_with(&fold(text)),
            PathMatch::Regex(pattern) => regex::Regex::new(&format!("^(?:{pattern})$"))
                .unwrap()
                .is_match(path),
        }
    }

    fn by_list(routes: &[Route], path: &str) -> Option<usize> {
        routes.iter().position(|route| is_match(route, path))
    }

    fn by_tree(routes: &[Route], tree: &Tree<'_>, path: &str) -> Option<usize> {
        let leaf = tree
            .leaves
            .iter()
            .filter(|(key, _)| path.starts_with(key))
            .max_by_key(|(key, _)| key.len());
        let places = leaf.map_or(&tree.rest, |(_, places)| places);
        places
            .iter()
            .copied()
            .find(|place| is_match(&routes[*place], path))
    }

    fn text() -> impl Strategy<Value = String> {
        vec(select(&["/", "a", "b", "A", "é", "aa", "?"][..]), 0..6)
            .prop_map(|parts| parts.concat())
    }

    fn pattern() -> impl Strategy<Value = String> {
        let part = select(
            &[
                "/", "a", "b", "a*", "b?", "a{0,2}", ".*", "[ab]", "(a|b)", "a+", r"\.",
            ][..],
        );
        vec(part, 0..5).prop_map(|parts| parts.concat())
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let path = prop_oneof![
            6 => text().prop_map(PathMatch::Prefix),
            2 => text().prop_map(PathMatch::Exact),
            1 => pattern().prop_map(PathMatch::Regex),
        ];
        (path, any::<bool>()).prop_map(|(path, case_sensitive)| route(path, case_sensitive))
    }

    proptest! {
        #[test]
        fn the_tree_chooses_what_the_list_chooses(routes in vec(any_route(), 0..60), paths in vec(text(), 1..20), leaf in 1_usize..8) {
            let heads: Vec<&str> = routes.iter().map(literal_head).collect();
            if let Some(tree) = tree(&heads, leaf) {
                for path in &paths {
                    prop_assert_eq!(by_list(&routes, path), by_tree(&routes, &tree, path), "{:?} in {:?}", path, tree);
                }
            }
        }
    }

    #[test]
    fn few_routes_stay_a_list() {
        let routes: Vec<Route> = (0..LIST - 1)
            .map(|n| route(PathMatch::Prefix(format!("/{n}/")), true))
            .collect();
        assert_eq!(plan(routes.iter(), &vec![100; LIST - 1]), None);
    }

    #[test]
    fn no_leaf_of_many_routes_is_large() {
        let routes: Vec<Route> = (0..10_000)
            .map(|n| route(PathMatch::Prefix(format!("/service-{n}/")), true))
            .chain([route(PathMatch::Prefix("/".to_owned()), true)])
            .collect();
        let tree = plan(routes.iter(), &vec![100; 10_001]).unwrap();
        let largest = tree.leaves.iter().map(|(_, places)| places.len()).max();
        assert!(largest <= Some(LEAF + 2), "{largest:?}");
    }

    #[test]
    fn routes_that_fit_everywhere_make_a_list() {
        let routes: Vec<Route> = (0..1000)
            .map(|n| route(PathMatch::Regex(format!(".*/{n}")), true))
            .collect();
        assert_eq!(plan(routes.iter(), &vec![100; 1000]), None);
    }

    #[test]
    fn heads_hold_no_more_than_is_sure() {
        for (pattern, head) in [
            ("/a/.*", "/a/"),
            ("/ab*", "/a"),
            ("/ab?c", "/a"),
            ("/ab{0,1}", "/a"),
            ("/ab+", "/ab"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            ("^/a", ""),
            (r"/a\.b", "/a"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(regex_head(pattern), head, "{pattern}");
        }
        let caseless = route(PathMatch::Prefix("/1/a".to_owned()), false);
        assert_eq!(literal_head(&caseless), "/1/");
    }
}
