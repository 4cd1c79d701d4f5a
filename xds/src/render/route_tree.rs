//! Trees of routes. Envoy tries the routes of a list one by one, so matching the last of 10,000 costs many times as much as
//! matching the first. A virtual host with many routes instead gets a map from path prefixes to short lists of routes
//! (`VirtualHost.matcher`, generic matching API, `prefix_match_map`), which keep the order of the whole list.
//!
//! The tree only narrows the search: the list of a leaf has *every* route that can match a path with this key as its
//! longest key, and Envoy still checks all conditions of each route. So tree and list select the same route, whatever the
//! precedence and kinds of the routes:
//!
//! - The literal head of a route ([`literal_head`]) is a prefix of every path that the route matches.
//! - Let K be the longest key that is a prefix of a path. If the trie is cut at K, the leaf has all heads that start with
//!   K, and repeats those that are prefixes of K. Otherwise the leaf has the heads that are prefixes of K; a longer head
//!   cannot be a prefix of the path, since it would be a key itself or be below one.
//!
//! If no route of a leaf matches, Envoy does not fall back to a shorter key. Therefore leaves repeat their ancestors.

use crate::ir::{PathMatch, Route};

/// Minimum number of routes for a tree; with fewer a list is as fast.
const MIN_ROUTES: usize = 100;
/// Maximum number of routes in a leaf, unless each leaf must repeat more than that.
const LEAF_ROUTES: usize = 32;

/// Lists of routes by path prefix. Routes are indexes into the whole list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree<'a> {
    /// Routes by path prefix; the longest matching prefix is used.
    pub(super) leaves: Vec<(&'a str, Vec<usize>)>,
    /// Routes for all other paths.
    pub(super) rest: Vec<usize>,
}

/// The tree of the routes with these literal heads and encoded sizes; `None` if a list is better.
pub(super) fn plan<'a>(heads: impl Iterator<Item = &'a str>, sizes: &[usize]) -> Option<Tree<'a>> {
    if sizes.len() < MIN_ROUTES {
        return None;
    }
    let heads: Vec<&str> = heads.collect();
    let tree = tree(&heads, LEAF_ROUTES)?;
    let size = |places: &[usize]| places.iter().map(|place| sizes[*place]).sum::<usize>();
    let repeated: usize = tree.leaves.iter().map(|(_, places)| size(places)).sum();
    let list: usize = sizes.iter().sum();
    (repeated + size(&tree.rest) <= list + list / 2).then_some(tree)
}

/// The tree of these heads; `None` if they do not differ.
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
    /// Splits heads by the character after their first `shared` bytes, which are equal. No head ends there.
    fn children(&mut self, heads: &[(&'a str, usize)], shared: usize, ancestors: &[usize]) {
        let next = |head: &str| head[shared..].chars().next();
        for child in heads.chunk_by(|one, other| next(one.0) == next(other.0)) {
            self.node(child, ancestors);
        }
    }

    /// Adds heads with a common prefix, as one leaf if they are few.
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

/// Length of the common prefix in bytes, in whole characters.
fn common(one: &str, other: &str) -> usize {
    let characters = one.char_indices().zip(other.chars());
    let differs = |((_, a), b): &((usize, char), char)| a != b;
    let first_difference = characters.into_iter().find(differs);
    first_difference.map_or(one.len().min(other.len()), |((index, _), _)| index)
}

/// A prefix of every path that the route matches.
pub(super) fn literal_head(route: &Route) -> &str {
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

/// A prefix of every text that the pattern matches; can be shorter than possible.
fn regex_head(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let special = |character: char| r"\.[](){}*+?^$".contains(character);
    let Some(end) = pattern.find(special) else {
        return pattern;
    };
    let head = &pattern[..end];
    // a repeated character can be absent
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
    use crate::ir::Action;

    fn route(path: PathMatch, case_sensitive: bool) -> Route {
        let action = Action::Redirect(Box::default());
        let mut route = Route::new(String::new(), path, action);
        route.case_sensitive = case_sensitive;
        route
    }

    /// Like Envoy, without the query.
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
        fn tree_and_list_select_the_same_route(routes in vec(any_route(), 0..60), paths in vec(text(), 1..20), leaf in 1_usize..8) {
            let heads: Vec<&str> = routes.iter().map(literal_head).collect();
            if let Some(tree) = tree(&heads, leaf) {
                for path in &paths {
                    prop_assert_eq!(by_list(&routes, path), by_tree(&routes, &tree, path), "{:?} in {:?}", path, tree);
                }
            }
        }
    }

    #[test]
    fn few_routes_have_no_tree() {
        let routes: Vec<Route> = (0..MIN_ROUTES - 1)
            .map(|n| route(PathMatch::Prefix(format!("/{n}/")), true))
            .collect();
        assert_eq!(
            plan(routes.iter().map(literal_head), &vec![100; MIN_ROUTES - 1]),
            None
        );
    }

    #[test]
    fn leaves_of_many_routes_are_small() {
        let routes: Vec<Route> = (0..10_000)
            .map(|n| route(PathMatch::Prefix(format!("/service-{n}/")), true))
            .chain([route(PathMatch::Prefix("/".to_owned()), true)])
            .collect();
        let tree = plan(routes.iter().map(literal_head), &vec![100; 10_001]).unwrap();
        let largest = tree.leaves.iter().map(|(_, places)| places.len()).max();
        assert!(largest <= Some(LEAF_ROUTES + 2), "{largest:?}");
    }

    #[test]
    fn routes_without_a_literal_head_have_no_tree() {
        let routes: Vec<Route> = (0..1000)
            .map(|n| route(PathMatch::Regex(format!(".*/{n}")), true))
            .collect();
        assert_eq!(
            plan(routes.iter().map(literal_head), &vec![100; 1000]),
            None
        );
    }

    #[test]
    fn literal_heads_are_prefixes_of_all_matches() {
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
