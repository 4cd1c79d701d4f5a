//! Unreachable groups: another group is tried first and matches every request that they match.
//!
//! More specific routes come first, so this takes a higher precedence, a path that ignores case, or a regular expression
//! that matches everything. Only groups with one of these can make others unreachable.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

use nuncio_ir::{PathMatch, Route};

use super::{
    Store,
    group::{Group, GroupKey},
    neighbour,
};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::HostMatch,
    report::{Problem, Reason},
};

/// Groups by what decides whether one makes another unreachable.
#[derive(Debug, Default)]
pub(super) struct Paths {
    by_host: BTreeMap<HostMatch, HostPaths>,
    /// How many groups have each precedence.
    precedences: BTreeMap<i64, usize>,
}

/// Groups with the same host.
#[derive(Debug, Default)]
struct HostPaths {
    /// By the text of the path.
    by_text: BTreeMap<String, BTreeSet<Arc<GroupKey>>>,
    /// Groups whose paths ignore case or match everything.
    loose: BTreeSet<Arc<GroupKey>>,
}

/// Mappings that are unreachable.
#[derive(Debug, Default)]
pub(super) struct Shadowed {
    by_mapping: BTreeMap<ObjectRef, ShadowedBy>,
    /// Those of other namespaces, by the Mapping that is tried first.
    by_winner: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
}

/// Why a Mapping is unreachable.
#[derive(Debug, PartialEq)]
struct ShadowedBy {
    /// The Mapping that is tried first.
    winner: ObjectRef,
    /// Its precedence, if it is greater.
    precedence: Option<i64>,
}

impl Shadowed {
    /// Replaces why a Mapping is unreachable. Returns the Mappings of other namespaces that are concerned.
    fn replace(&mut self, mapping: &ObjectRef, new: Option<ShadowedBy>) -> Vec<ObjectRef> {
        if self.by_mapping.get(mapping) == new.as_ref() {
            return Vec::new();
        }
        let is_foreign = |shadow: &&ShadowedBy| shadow.winner.namespace != mapping.namespace;
        let mut concerned = Vec::new();
        let old = self.by_mapping.remove(mapping);
        if let Some(ShadowedBy { winner, .. }) = old.as_ref().filter(is_foreign) {
            if let Some(mappings) = self.by_winner.get_mut(winner) {
                mappings.remove(mapping);
                if mappings.is_empty() {
                    self.by_winner.remove(winner);
                }
            }
            concerned.push(winner.clone());
        }
        if let Some(ShadowedBy { winner, .. }) = new.as_ref().filter(is_foreign) {
            let mappings = self.by_winner.entry(winner.clone()).or_default();
            mappings.insert(mapping.clone());
            concerned.push(winner.clone());
        }
        self.by_mapping
            .extend(new.map(|new| (mapping.clone(), new)));
        concerned
    }

    /// The problem of a Mapping that is unreachable, and the notice of one that makes those of other namespaces so.
    pub(super) fn problems(&self, mapping: &ObjectRef) -> impl Iterator<Item = Problem> {
        let shadow = self
            .by_mapping
            .get(mapping)
            .map(|ShadowedBy { winner, precedence }| {
                let precedence = precedence.map(|precedence| format!(" (precedence {precedence})"));
                let precedence = precedence.unwrap_or_default();
                Problem::ignored(
                    Reason::SHADOWED,
                    "spec.prefix",
                    format!("unreachable: {winner} matches first{precedence}"),
                )
            });
        let others = self.by_winner.get(mapping).and_then(|others| {
            let fact = match others.len() {
                1 => "is unreachable: this Mapping matches first".to_owned(),
                count => format!("is unreachable, one of {count}: this Mapping matches first"),
            };
            Some(neighbour::notice("spec.prefix", others.first()?, &fact))
        });
        shadow.into_iter().chain(others)
    }
}

impl Paths {
    pub(super) fn insert(&mut self, key: &Arc<GroupKey>) {
        let paths = self.by_host.entry(key.host.clone()).or_default();
        let text = key.path_text().to_owned();
        paths.by_text.entry(text).or_default().insert(key.clone());
        *self.precedences.entry(key.precedence).or_default() += 1;
    }

    pub(super) fn remove(&mut self, key: &Arc<GroupKey>) {
        if let Some(paths) = self.by_host.get_mut(&key.host) {
            if let Some(keys) = paths.by_text.get_mut(key.path_text()) {
                keys.remove(key);
                if keys.is_empty() {
                    paths.by_text.remove(key.path_text());
                }
            }
            paths.loose.remove(key);
            if paths.by_text.is_empty() {
                self.by_host.remove(&key.host);
            }
        }
        if let Some(count) = self.precedences.get_mut(&key.precedence) {
            *count -= 1;
            if *count == 0 {
                self.precedences.remove(&key.precedence);
            }
        }
    }

    /// Notes whether the path of a group ignores case or matches everything.
    fn note(&mut self, key: &Arc<GroupKey>, is_loose: bool) {
        let Some(paths) = self.by_host.get_mut(&key.host) else {
            return;
        };
        if is_loose {
            paths.loose.insert(key.clone());
        } else {
            paths.loose.remove(key);
        }
    }

    /// The groups with this hostname and this text of the path.
    pub(super) fn at(&self, host: &HostMatch, path: &str) -> Option<&BTreeSet<Arc<GroupKey>>> {
        self.by_host.get(host)?.by_text.get(path)
    }

    /// Groups that may come before this one and match everything that it matches.
    fn before<'a>(&'a self, key: &'a GroupKey) -> impl Iterator<Item = &'a Arc<GroupKey>> {
        let hosts = hosts_that_cover(&key.host);
        let paths = hosts.into_iter().filter_map(|host| self.by_host.get(&host));
        paths.flat_map(|paths| {
            let shorter = prefixes(&paths.by_text, key.path_text());
            shorter.flatten().chain(&paths.loose)
        })
    }

    /// Groups that this one may make unreachable; none for almost all groups.
    fn behind<'a>(&'a self, key: &'a GroupKey, is_loose: bool) -> Vec<&'a Arc<GroupKey>> {
        let lowest = self.precedences.keys().next().copied();
        if !is_loose && lowest.is_none_or(|lowest| lowest >= key.precedence) {
            return Vec::new();
        }
        let text = if is_loose { "" } else { key.path_text() };
        self.covered_by(&key.host)
            .flat_map(|paths| {
                let longer = paths.by_text.range(text.to_owned()..);
                longer.take_while(|(other, _)| other.starts_with(text))
            })
            .flat_map(|(_, keys)| keys)
            .collect()
    }

    /// The paths of hosts all of whose requests this host matches.
    fn covered_by<'a>(&'a self, host: &'a HostMatch) -> impl Iterator<Item = &'a HostPaths> {
        let is_glob = matches!(host, HostMatch::Glob(glob) if glob.contains('*'));
        let own = self.by_host.get(host).filter(|_| !is_glob);
        let all = self.by_host.iter().filter(move |_| is_glob);
        let covered = all.filter(|(other, _)| covers_host(host, other));
        own.into_iter().chain(covered.map(|(_, paths)| paths))
    }
}

/// The values of all keys that are prefixes of a text. Costs about as much as to compare the text with each of them.
fn prefixes<'a, V>(by_text: &'a BTreeMap<String, V>, text: &'a str) -> impl Iterator<Item = &'a V> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        loop {
            let (key, value) = by_text
                .range::<str, _>((Unbounded, Included(rest?)))
                .next_back()?;
            let common = common_prefix(key, text);
            // what is between the common prefix and the key is greater than any shorter prefix
            let end = if common == key.len() {
                common.checked_sub(1)
            } else {
                Some(common)
            };
            rest = end.map(|end| &text[..text.floor_char_boundary(end)]);
            if common == key.len() {
                return Some(value);
            }
        }
    })
}

/// Length of the common prefix of two texts, in bytes.
fn common_prefix(one: &str, other: &str) -> usize {
    let pairs = one.bytes().zip(other.bytes());
    pairs.take_while(|(one, other)| one == other).count()
}

/// The hosts that match every request of this one; agrees with [`covers_host`].
fn hosts_that_cover(host: &HostMatch) -> BTreeSet<HostMatch> {
    let any = HostMatch::Glob("*".to_owned());
    let mut hosts = BTreeSet::from([host.clone(), any]);
    if let HostMatch::Glob(text) = host {
        for (place, letter) in text.char_indices() {
            let behind = &text[place + letter.len_utf8()..];
            hosts.insert(HostMatch::Glob(format!("*{behind}")));
            hosts.insert(HostMatch::Glob(format!("{}*", &text[..place])));
        }
    }
    hosts
}

impl Store {
    /// Marks the members of groups that this group makes unreachable, or did before.
    pub(super) fn report_shadowed(&mut self, key: &Arc<GroupKey>, was_loose: bool) {
        let is_loose = self
            .groups
            .get(key)
            .is_some_and(|group| is_loose(key, group));
        self.groups.paths.note(key, is_loose);
        let is_loose = is_loose || was_loose;
        let members = self
            .groups
            .paths
            .behind(key, is_loose)
            .into_iter()
            .filter_map(|key| self.groups.get(key))
            .flat_map(|group| group.members().cloned());
        let members: Vec<ObjectRef> = members.collect();
        self.dirty.reports.extend(members);
    }

    /// Finds out which Mappings that are reported are unreachable. A Mapping that makes those of other namespaces
    /// unreachable is reported, too.
    pub(super) fn link_shadowed(&mut self) {
        let mappings = self
            .dirty
            .reports
            .iter()
            .filter(|object| object.kind == Kind::Mapping);
        let mappings: Vec<ObjectRef> = mappings.cloned().collect();
        for object in mappings {
            let new = self.shadowed_by(&object);
            let winners = self.shadowed.replace(&object, new);
            self.dirty.reports.extend(winners);
        }
    }

    fn shadowed_by(&self, object: &ObjectRef) -> Option<ShadowedBy> {
        let key = self.mappings.group(object)?;
        let group = self.groups.get(key)?;
        let hosts: BTreeSet<&ObjectRef> = group.hosts_of(object).collect();
        let mut served = hosts.iter().filter(|host| self.hosts.is_served(host));
        served.next()?;
        self.covered(key, group, &hosts)
    }

    /// By what a member is unreachable on all Hosts that take it.
    fn covered(
        &self,
        key: &GroupKey,
        group: &Group,
        hosts: &BTreeSet<&ObjectRef>,
    ) -> Option<ShadowedBy> {
        let host = hosts.first()?;
        let (by, before) = self.groups.paths.before(key).find_map(|other| {
            let before = self.groups.get(other)?;
            covers(other, before, key, group, hosts).then_some((other, before))
        })?;
        let winner = before.first_of(host)?;
        Some(ShadowedBy {
            winner: winner.clone(),
            precedence: (by.precedence > key.precedence).then_some(by.precedence),
        })
    }
}

/// Whether the path of a group ignores case or matches everything.
pub(super) fn is_loose(key: &GroupKey, group: &Group) -> bool {
    match &key.path {
        PathMatch::Regex(pattern) => matches!(pattern.as_str(), ".*" | "/.*"),
        PathMatch::Exact(_) | PathMatch::Prefix(_) => {
            group.routes().any(|route| !route.case_sensitive)
        }
    }
}

/// Whether `before` comes first and matches every request that `group` matches, on these Hosts.
fn covers(
    other: &GroupKey,
    before: &Group,
    key: &GroupKey,
    group: &Group,
    hosts: &BTreeSet<&ObjectRef>,
) -> bool {
    let headers = &mut other.headers.iter();
    let query = &mut other.query.iter();
    before.order < group.order
        && covers_host(&other.host, &key.host)
        && headers.all(|header| key.headers.contains(header))
        && query.all(|query| key.query.contains(query))
        && hosts.iter().all(|host| takes_all(before, group, host))
}

/// Whether one group leaves none of another's requests on a Host.
fn takes_all(before: &Group, group: &Group, host: &ObjectRef) -> bool {
    let routes = |group: &Group| group.routes_of(host).cloned();
    let (Some(before), Some(routes)) = (routes(before), routes(group)) else {
        return false;
    };
    let (Some(taking), Some(first)) = (before.last(), routes.first()) else {
        return false;
    };
    taking.percentage.is_none() && covers_path(taking, first)
}

fn covers_path(one: &Route, other: &Route) -> bool {
    let text = match &other.path {
        PathMatch::Exact(text) | PathMatch::Prefix(text) => text,
        PathMatch::Regex(pattern) => {
            return one.path == other.path
                || matches!(&one.path, PathMatch::Regex(one) if one == ".*" && pattern != one);
        }
    };
    match &one.path {
        PathMatch::Regex(pattern) => pattern == ".*" || (pattern == "/.*" && text.starts_with('/')),
        PathMatch::Exact(exact) => {
            one.case_sensitive == other.case_sensitive
                && exact == text
                && matches!(other.path, PathMatch::Exact(_))
        }
        PathMatch::Prefix(prefix) if one.case_sensitive => {
            other.case_sensitive && text.starts_with(prefix.as_str())
        }
        PathMatch::Prefix(prefix) => text.to_lowercase().starts_with(&prefix.to_lowercase()),
    }
}

fn covers_host(one: &HostMatch, other: &HostMatch) -> bool {
    if one == other {
        return true;
    }
    let (HostMatch::Glob(one), HostMatch::Glob(other)) = (one, other) else {
        return matches!(one, HostMatch::Glob(glob) if glob == "*");
    };
    if let Some(suffix) = one.strip_prefix('*') {
        return other.len() > suffix.len() && other.ends_with(suffix);
    }
    one.strip_suffix('*')
        .is_some_and(|prefix| other.len() > prefix.len() && other.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_a_text_are_found() {
        let keys = [
            "", "/", "/a", "/a/", "/a/b", "/aa", "/é", "/éa", "/b", "a", "/a/b/c", "/a!",
        ];
        let by_text: BTreeMap<String, &str> =
            keys.iter().map(|key| ((*key).to_owned(), *key)).collect();
        for text in ["", "/", "/a/b/c/d", "/aab", "/éab", "/éé", "zzz", "/a/"] {
            let mut found: Vec<&str> = prefixes(&by_text, text).copied().collect();
            found.sort_unstable();
            let mut expected: Vec<&str> = keys
                .into_iter()
                .filter(|key| text.starts_with(key))
                .collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn hosts_are_found_that_cover_one() {
        let texts = [
            "*", "a", "a*", "*a", "a.b", "*.b", "a.*", "**", "*b*", "é*", "*é", "aé", "",
        ];
        let globs = texts.map(|text| HostMatch::Glob(text.to_owned()));
        let all = [
            &globs[..],
            &[HostMatch::Unset, HostMatch::Regex("a".to_owned())],
        ]
        .concat();
        for host in &all {
            let found = hosts_that_cover(host);
            for other in &all {
                assert!(
                    !covers_host(other, host) || found.contains(other),
                    "{other:?} covers {host:?}"
                );
            }
        }
    }
}
