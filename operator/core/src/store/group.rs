//! Level of groups: Mappings with the same match share their requests by weight; which Hosts take a group, and the order
//! in which groups are tried.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{HeaderMatch, PathMatch, QueryMatch, Route, StringMatch};

use self::share::Member;
use super::{
    Store,
    by_name::ByName,
    dirty::Difference,
    host::AttachedGroup,
    shadowed::{self, Paths},
};
use crate::{
    glob,
    object::ObjectRef,
    reconcile::{HostMatch, Mapping},
    report::Problem,
    selector::Selector,
};

mod combine;
pub(super) mod share;

/// What the members of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) host: HostMatch,
    pub(super) path: PathMatch,
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) query: Vec<QueryMatch>,
    pub(super) precedence: i64,
    /// Selectors that select a Mapping without a hostname: it belongs to the Hosts that select it.
    pub(super) selectors: Vec<Selector>,
}

impl GroupKey {
    /// The group of this Mapping, given the selectors of Hosts that select it (sorted).
    pub(super) fn new(mapping: &Mapping, selectors: Vec<Selector>) -> Self {
        Self {
            host: mapping.host.clone(),
            path: mapping.path.clone(),
            headers: mapping.headers.clone(),
            query: mapping.query.clone(),
            precedence: mapping.precedence,
            selectors,
        }
    }

    /// The condition on the host name.
    pub(super) fn authority(&self) -> Option<StringMatch> {
        match &self.host {
            HostMatch::Unset => None,
            HostMatch::Glob(glob) => glob::string_match(glob),
            HostMatch::Regex(pattern) => Some(StringMatch::Regex(pattern.clone())),
        }
    }

    /// The path condition as text.
    pub(super) fn path_text(&self) -> &str {
        match &self.path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text) => text,
        }
    }

    /// Length of the conditions on headers, including the hostname: longer is more specific.
    fn header_weight(&self) -> usize {
        let authority = match &self.host {
            HostMatch::Unset => 0,
            HostMatch::Glob(text) => AUTHORITY.len() + text.chars().count(),
            HostMatch::Regex(text) => AUTHORITY.len() + text.chars().count() + 1,
        };
        authority
            + self
                .headers
                .iter()
                .map(|header| weight(&header.name, &header.value))
                .sum::<usize>()
    }

    fn query_weight(&self) -> usize {
        self.query
            .iter()
            .map(|query| weight(&query.name, &query.value))
            .sum()
    }

    /// `name-value` of each condition on a header, the host name before the method, the last of them.
    fn header_texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let (method, others): (Vec<_>, Vec<_>) = self
            .headers
            .iter()
            .partition(|header| header.name == ":method");
        let authority = match &self.host {
            HostMatch::Unset => None,
            HostMatch::Glob(text) | HostMatch::Regex(text) => Some((AUTHORITY, text.as_str())),
        };
        others
            .into_iter()
            .map(|header| (header.name.as_str(), text(&header.value)))
            .chain(authority)
            .chain(
                method
                    .into_iter()
                    .map(|header| (header.name.as_str(), text(&header.value))),
            )
    }
}

const AUTHORITY: &str = ":authority";

fn text(value: &StringMatch) -> &str {
    match value {
        StringMatch::Exact(text)
        | StringMatch::Prefix(text)
        | StringMatch::Suffix(text)
        | StringMatch::Regex(text) => text,
    }
}

fn weight(name: &str, value: &StringMatch) -> usize {
    let regex = usize::from(matches!(value, StringMatch::Regex(_)));
    name.chars().count() + text(value).chars().count() + regex
}

/// Place of a group among the routes of a virtual host: precedence, then the lengths of its conditions, then their text,
/// all descending. Total: different groups are never equal, so that the order depends on the Mappings only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteOrder {
    path_length: usize,
    header_weight: usize,
    query_weight: usize,
    key: Arc<GroupKey>,
}

impl RouteOrder {
    pub(super) fn new(key: Arc<GroupKey>) -> Self {
        Self {
            path_length: key.path_text().chars().count(),
            header_weight: key.header_weight(),
            query_weight: key.query_weight(),
            key,
        }
    }
}

impl Ord for RouteOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.key, &other.key);
        let descending = b
            .precedence
            .cmp(&a.precedence)
            .then(other.path_length.cmp(&self.path_length))
            .then(other.header_weight.cmp(&self.header_weight))
            .then(other.query_weight.cmp(&self.query_weight))
            .then_with(|| b.path_text().cmp(a.path_text()))
            .then_with(|| b.header_texts().cmp(a.header_texts()));
        // equal conditions of different kinds: exact before prefix before regex, then any fixed order
        descending.then_with(|| a.cmp(b))
    }
}

impl PartialOrd for RouteOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Groups by key.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_key: BTreeMap<Arc<GroupKey>, Group>,
    by_name: ByName<Arc<GroupKey>>,
    /// Groups without a hostname, or whose hostname is a regular expression.
    nameless: BTreeSet<Arc<GroupKey>>,
    pub(super) paths: Paths,
}

/// A group with what follows from its members.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) order: RouteOrder,
    /// In the order in which shares are assigned.
    pub(super) members: BTreeSet<ObjectRef>,
    /// One per member that gets requests.
    pub(super) routes: Arc<[Arc<Route>]>,
    /// Hosts that it is attached to.
    pub(super) hosts: BTreeSet<ObjectRef>,
    /// Problems of members within this group.
    pub(super) problems: BTreeMap<ObjectRef, Vec<Problem>>,
    /// Members without requests.
    pub(super) idle: BTreeSet<ObjectRef>,
}

impl Group {
    /// The group as a Host has it.
    pub(super) fn attached(&self, key: &Arc<GroupKey>) -> AttachedGroup {
        AttachedGroup {
            key: key.clone(),
            routes: self.routes.clone(),
        }
    }
}

impl Groups {
    /// The group of this key.
    pub(super) fn get(&self, key: &GroupKey) -> Option<&Group> {
        self.by_key.get(key)
    }

    /// The keys of all groups.
    pub(super) fn keys(&self) -> Box<dyn Iterator<Item = &Arc<GroupKey>> + '_> {
        Box::new(self.by_key.keys())
    }

    /// The keys of the groups that a Host with this hostname may take without a selector.
    pub(super) fn for_hostname<'a>(
        &'a self,
        hostname: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Arc<GroupKey>> + 'a> {
        Box::new(self.by_name.compatible(hostname).chain(&self.nameless))
    }

    /// Adds a Mapping to the group of this key.
    pub(super) fn join(&mut self, object: &ObjectRef, key: GroupKey) -> Arc<GroupKey> {
        if let Some((key, _)) = self.by_key.get_key_value(&key) {
            let key = key.clone();
            if let Some(group) = self.by_key.get_mut(&key) {
                group.members.insert(object.clone());
            }
            return key;
        }
        let key = Arc::new(key);
        self.paths.insert(&key);
        match &key.host {
            HostMatch::Glob(name) => self.by_name.insert(name, key.clone()),
            HostMatch::Unset | HostMatch::Regex(_) => {
                self.nameless.insert(key.clone());
            }
        }
        let group = Group {
            order: RouteOrder::new(key.clone()),
            members: BTreeSet::from([object.clone()]),
            routes: Arc::default(),
            hosts: BTreeSet::new(),
            problems: BTreeMap::new(),
            idle: BTreeSet::new(),
        };
        self.by_key.insert(key.clone(), group);
        key
    }

    /// Removes a group.
    fn remove(&mut self, key: &Arc<GroupKey>) -> Option<Group> {
        let group = self.by_key.remove(key)?;
        match &key.host {
            HostMatch::Glob(name) => self.by_name.remove(name, key),
            HostMatch::Unset | HostMatch::Regex(_) => {
                self.nameless.remove(key);
            }
        }
        Some(group)
    }

    /// Notes that a Host takes this group.
    pub(super) fn add_host(&mut self, key: &GroupKey, host: &ObjectRef) -> Option<&Group> {
        let group = self.by_key.get_mut(key)?;
        group.hosts.insert(host.clone());
        Some(group)
    }

    /// Notes that a Host no longer takes this group.
    pub(super) fn remove_host(&mut self, key: &GroupKey, host: &ObjectRef) -> Option<&Group> {
        let group = self.by_key.get_mut(key)?;
        group.hosts.remove(host);
        Some(group)
    }
}

impl Store {
    pub(super) fn leave_group(&mut self, object: &ObjectRef, key: Option<Arc<GroupKey>>) {
        if let Some(key) = key
            && let Some(group) = self.groups.by_key.get_mut(&key)
        {
            group.members.remove(object);
            self.dirty.groups.insert(key);
        }
    }

    pub(super) fn link_groups(&mut self) {
        for key in mem::take(&mut self.dirty.groups) {
            let Some(group) = self.groups.get(&key) else {
                continue;
            };
            self.dirty.reports.extend(group.members.iter().cloned());
            if group.members.is_empty() {
                self.drop_group(&key);
                continue;
            }
            let members: Vec<Member<'_>> = group
                .members
                .iter()
                .filter_map(|object| {
                    let state = self.mappings.state(object)?;
                    Some(Member {
                        object,
                        mapping: state.mapping.as_deref()?,
                        cluster: state.cluster.clone(),
                    })
                })
                .collect();
            let mut shared = share::share(&key, &members);
            let routes = reuse(&group.routes, mem::take(&mut shared.routes));
            let hosts = self.hosts_of(&key, group);
            self.attach(&key, routes, hosts, shared);
        }
    }

    fn drop_group(&mut self, key: &Arc<GroupKey>) {
        let Some(group) = self.groups.remove(key) else {
            return;
        };
        self.report_shadowed(key, shadowed::is_loose(key, &group));
        self.groups.paths.remove(key);
        for host in group.hosts {
            self.hosts.detach(&host, &group.order);
            self.dirty.route(&host, Difference::Match);
        }
    }

    /// The Hosts that take a group.
    fn hosts_of(&self, key: &GroupKey, group: &Group) -> BTreeSet<ObjectRef> {
        let takes = |object: &&ObjectRef| {
            let state = self.hosts.get(object);
            state.is_some_and(|state| self.takes(&state.host, key, group))
        };
        let everywhere = self.settings.loose_label_selectors;
        match &key.host {
            HostMatch::Glob(glob) if !everywhere => {
                let hosts = self.hosts.with_hostname_like(glob);
                hosts.filter(takes).cloned().collect()
            }
            _ => {
                let hosts = self.hosts.iter().map(|(host, _)| host);
                hosts.filter(takes).cloned().collect()
            }
        }
    }

    fn attach(
        &mut self,
        key: &Arc<GroupKey>,
        routes: Arc<[Arc<Route>]>,
        hosts: BTreeSet<ObjectRef>,
        shared: share::Shared,
    ) {
        let Some(group) = self.groups.by_key.get_mut(key) else {
            return;
        };
        let difference = difference(&group.routes, &routes);
        let was_loose = shadowed::is_loose(key, group);
        let old = mem::replace(&mut group.hosts, hosts);
        group.routes = routes;
        group.problems = shared.problems;
        group.idle = shared.idle;
        let attached = group.attached(key);
        for host in old.difference(&group.hosts) {
            self.hosts.detach(host, &group.order);
            self.dirty.route(host, Difference::Match);
        }
        for host in &group.hosts {
            let difference = if old.contains(host) {
                difference
            } else {
                Some(Difference::Match)
            };
            if let Some(difference) = difference {
                self.hosts.attach(host, &group.order, attached.clone());
                self.dirty.route(host, difference);
            }
        }
        self.report_shadowed(key, was_loose);
    }
}

/// In what the routes of a group differ from before.
fn difference(old: &[Arc<Route>], new: &[Arc<Route>]) -> Option<Difference> {
    if old == new {
        return None;
    }
    let same_match = old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(old, new)| old.is_same_when_redirected(new));
    Some(if same_match {
        Difference::Action
    } else {
        Difference::Match
    })
}

/// Keeps the old value of each route that is still the same, and with it its encoded bytes.
fn reuse(old: &Arc<[Arc<Route>]>, new: Vec<Arc<Route>>) -> Arc<[Arc<Route>]> {
    if old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| old == new) {
        return old.clone();
    }
    let by_name: BTreeMap<&str, &Arc<Route>> = old
        .iter()
        .map(|route| (route.name.as_str(), route))
        .collect();
    new.into_iter()
        .map(|route| match by_name.get(route.name.as_str()) {
            Some(known) if **known == route => (*known).clone(),
            _ => route,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(host: &str, path: PathMatch, precedence: i64, headers: &[(&str, &str)]) -> RouteOrder {
        RouteOrder::new(Arc::new(GroupKey {
            host: HostMatch::Glob(host.to_owned()),
            path,
            headers: headers
                .iter()
                .map(|(name, value)| HeaderMatch {
                    name: (*name).to_owned(),
                    value: StringMatch::Exact((*value).to_owned()),
                })
                .collect(),
            query: Vec::new(),
            precedence,
            selectors: Vec::new(),
        }))
    }

    #[test]
    fn routes_are_tried_by_precedence_then_by_how_much_they_say() {
        let prefix = |text: &str| PathMatch::Prefix(text.to_owned());
        let expected = [
            order("*", prefix("/"), 1, &[]),
            order("*", prefix("/xx/"), 0, &[]),
            order("*", PathMatch::Regex("/x.*".to_owned()), 0, &[]),
            order("*", prefix("/x/"), 0, &[(":method", "DELETE")]),
            order("*", prefix("/x/"), 0, &[(":method", "GET")]),
            order("a.com", prefix("/x/"), 0, &[]),
            order("*", prefix("/z/"), 0, &[]),
            order("*", prefix("/x/"), 0, &[]),
            order("*", PathMatch::Exact("/w/".to_owned()), 0, &[]),
            order("*", prefix("/w/"), 0, &[]),
            order("*", prefix("/"), 0, &[]),
            order("*", prefix("/xxxxx/"), -1, &[]),
        ];
        let mut sorted: Vec<_> = expected.iter().rev().cloned().collect();
        sorted.sort();
        assert_eq!(sorted, expected);
    }
}
