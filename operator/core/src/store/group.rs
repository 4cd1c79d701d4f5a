//! Level of groups: Mappings with the same match share their requests by weight, and which Hosts take them.
//!
//! A Host takes Mappings one by one, by their own hostnames and labels. The members that a Host takes share the requests
//! among themselves; Hosts that take the same members share their routes, and with them the encoded bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use litemap::LiteMap;
use nuncio_ir::{HeaderMatch, PathMatch, QueryMatch, Route, StringMatch};

pub(super) use self::order::RouteOrder;
use self::{
    order::Siblings,
    share::{Member, Shared},
};
use super::{
    Store,
    by_name::ByName,
    dirty::Difference,
    host::AttachedGroup,
    overlap::Place,
    shadowed::{self, Paths},
};
use crate::{
    glob,
    object::ObjectRef,
    reconcile::{HostMatch, Mapping},
    report::Problem,
};

pub(super) mod combine;
mod label;
mod order;
pub(super) mod share;

/// The match that the members of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) host: HostMatch,
    pub(super) path: PathMatch,
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) query: Vec<QueryMatch>,
    pub(super) precedence: i64,
}

impl GroupKey {
    /// The group of this Mapping.
    pub(super) fn new(mapping: &Mapping) -> Self {
        Self {
            host: mapping.host.clone(),
            path: mapping.path.clone(),
            headers: mapping.headers.clone(),
            query: mapping.query.clone(),
            precedence: mapping.precedence,
        }
    }

    /// The condition on the hostname.
    pub(super) fn authority(&self) -> Option<StringMatch> {
        match &self.host {
            HostMatch::Unset => None,
            HostMatch::Glob(glob) => glob::string_match(glob),
            HostMatch::Regex(pattern) => Some(StringMatch::Regex(pattern.clone())),
        }
    }

    /// The condition on the path as text.
    pub(super) fn path_text(&self) -> &str {
        match &self.path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text) => text,
        }
    }
}

/// Groups by key.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_key: BTreeMap<Arc<GroupKey>, Group>,
    by_name: ByName<Arc<GroupKey>>,
    /// Groups without a hostname, or whose hostname is a regular expression.
    nameless: BTreeSet<Arc<GroupKey>>,
    siblings: Siblings,
    pub(super) paths: Paths,
}

/// The members that a Host takes, in the order in which shares are assigned.
pub(super) type Members = Arc<[ObjectRef]>;

/// A group with what follows from its members.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) order: RouteOrder,
    /// In the order in which shares are assigned.
    members: LiteMap<ObjectRef, ()>,
    /// What the members that any Host takes come to.
    shares: LiteMap<Members, Share>,
    /// The members that each Host takes; never none.
    hosts: LiteMap<ObjectRef, Members>,
}

/// What members come to that share the requests of a Host.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    /// One per member with requests.
    routes: Arc<[Arc<Route>]>,
    /// Problems of members within this group.
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
    /// Why members are not served, without the outcome.
    left_out: BTreeMap<ObjectRef, Problem>,
    /// Members without requests.
    idle: BTreeSet<ObjectRef>,
}

/// Why a group has to be linked again.
#[derive(Debug, Default)]
pub(super) struct GroupMarks {
    /// Members that changed, joined or left.
    pub(super) members: BTreeSet<ObjectRef>,
    /// Hosts that changed, came or went.
    pub(super) hosts: BTreeSet<ObjectRef>,
}

impl Group {
    /// The members, in the order in which shares are assigned.
    pub(super) fn members(&self) -> impl Iterator<Item = &ObjectRef> {
        self.members.keys()
    }

    /// The routes that a Host has.
    pub(super) fn routes_of(&self, host: &ObjectRef) -> Option<&Arc<[Arc<Route>]>> {
        let members = self.hosts.get(host)?;
        Some(&self.shares.get(members)?.routes)
    }

    /// Every route that any Host has.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.shares.values().flat_map(|share| share.routes.iter())
    }

    /// The Hosts that take a member.
    pub(super) fn hosts_of(&self, member: &ObjectRef) -> impl Iterator<Item = &ObjectRef> {
        let hosts = self.hosts.iter();
        hosts
            .filter(move |(_, members)| members.contains(member))
            .map(|(host, _)| host)
    }

    /// The Hosts that take any member.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &ObjectRef> {
        self.hosts.keys()
    }

    /// The members that a Host takes.
    pub(super) fn members_of(&self, host: &ObjectRef) -> impl Iterator<Item = &ObjectRef> {
        let members = self.hosts.get(host).into_iter();
        members.flat_map(|members| members.iter())
    }

    /// The first member that a Host takes.
    pub(super) fn first_of(&self, host: &ObjectRef) -> Option<&ObjectRef> {
        self.hosts.get(host)?.first()
    }

    /// Problems of all members that a Host takes.
    fn problems_of(&self, host: &ObjectRef) -> Option<impl PartialEq> {
        let share = self.shares.get(self.hosts.get(host)?)?;
        Some((&share.problems, &share.left_out))
    }

    /// Problems of a member within this group.
    pub(super) fn problems(&self, member: &ObjectRef) -> impl Iterator<Item = &Problem> {
        let shares = self.shares.values();
        shares.flat_map(|share| share.problems.get(member).into_iter().flatten())
    }

    /// Why a member is not served on some Hosts that take it, without the outcome.
    pub(super) fn left_out(&self, member: &ObjectRef) -> BTreeSet<&Problem> {
        let shares = self.shares.values();
        shares
            .filter_map(|share| share.left_out.get(member))
            .collect()
    }

    /// Whether a member gets requests of a Host that takes it.
    pub(super) fn serves(&self, member: &ObjectRef, host: &ObjectRef) -> bool {
        let share = self
            .hosts
            .get(host)
            .and_then(|members| self.shares.get(members));
        share.is_some_and(|share| !share.idle.contains(member))
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

    /// Adds a Mapping to the group of this key. Returns the key, and other groups whose order may differ now.
    fn join(&mut self, object: &ObjectRef, key: GroupKey) -> (Arc<GroupKey>, Vec<Arc<GroupKey>>) {
        if let Some((key, _)) = self.by_key.get_key_value(&key) {
            let key = key.clone();
            if let Some(group) = self.by_key.get_mut(&key) {
                group.members.insert(object.clone(), ());
            }
            return (key, Vec::new());
        }
        let key = Arc::new(key);
        let siblings = self.siblings.insert(&key, object);
        self.paths.insert(&key);
        match &key.host {
            HostMatch::Glob(name) => self.by_name.insert(name, key.clone()),
            HostMatch::Unset | HostMatch::Regex(_) => {
                self.nameless.insert(key.clone());
            }
        }
        let mut members = LiteMap::with_capacity(1);
        members.insert(object.clone(), ());
        let group = Group {
            order: self.siblings.order(&key, object),
            members,
            shares: LiteMap::new(),
            hosts: LiteMap::new(),
        };
        self.by_key.insert(key.clone(), group);
        (key, siblings)
    }

    /// Removes a group. Returns it, and other groups whose order may differ now.
    fn remove(&mut self, key: &Arc<GroupKey>) -> Option<(Group, Vec<Arc<GroupKey>>)> {
        let group = self.by_key.remove(key)?;
        match &key.host {
            HostMatch::Glob(name) => self.by_name.remove(name, key),
            HostMatch::Unset | HostMatch::Regex(_) => {
                self.nameless.remove(key);
            }
        }
        Some((group, self.siblings.remove(key)))
    }
}

impl Store {
    /// Adds a Mapping to its group; the caller marks it.
    pub(super) fn join_group(&mut self, object: &ObjectRef, key: GroupKey) -> Arc<GroupKey> {
        let (key, siblings) = self.groups.join(object, key);
        for sibling in siblings {
            self.dirty.groups.entry(sibling).or_default();
        }
        key
    }

    pub(super) fn leave_group(&mut self, object: &ObjectRef, key: Option<Arc<GroupKey>>) {
        if let Some(key) = key
            && let Some(group) = self.groups.by_key.get_mut(&key)
        {
            group.members.remove(object);
            self.dirty.group_member(&key, object);
        }
    }

    pub(super) fn link_groups(&mut self) {
        // a group that goes may change the order of others
        while !self.dirty.groups.is_empty() {
            for (key, marks) in mem::take(&mut self.dirty.groups) {
                self.dirty.reports.extend(marks.members.iter().cloned());
                let Some(group) = self.groups.get(&key) else {
                    continue;
                };
                if group.members.is_empty() {
                    self.drop_group(&key);
                } else {
                    self.link_group(&key, &marks);
                }
            }
        }
    }

    fn drop_group(&mut self, key: &Arc<GroupKey>) {
        let Some((group, siblings)) = self.groups.remove(key) else {
            return;
        };
        self.report_shadowed(key, shadowed::is_loose(key, &group));
        self.groups.paths.remove(key);
        self.dirty.places.insert(Place::of(key));
        for host in group.hosts.keys() {
            self.hosts.detach(host, &group.order);
            self.dirty.route(host, Difference::Match);
        }
        for sibling in siblings {
            self.dirty.groups.entry(sibling).or_default();
        }
    }

    fn link_group(&mut self, key: &Arc<GroupKey>, marks: &GroupMarks) {
        let Some(group) = self.groups.get(key) else {
            return;
        };
        let Some((first, ())) = group.members.first() else {
            return;
        };
        let first = first.clone();
        for sibling in self.groups.siblings.insert(key, &first) {
            self.dirty.groups.entry(sibling).or_default();
        }
        let Some(group) = self.groups.get(key) else {
            return;
        };
        let order = self.groups.siblings.order(key, &first);
        let hosts = self.hosts_and_members(key, group, marks);
        let shares = self.shares(key, group, &hosts, &marks.members);
        let was_loose = shadowed::is_loose(key, group);
        let Some(group) = self.groups.by_key.get_mut(key) else {
            return;
        };
        let old = Group {
            order: mem::replace(&mut group.order, order),
            members: LiteMap::new(),
            shares: mem::replace(&mut group.shares, shares),
            hosts: mem::replace(&mut group.hosts, hosts),
        };
        self.attach_group(key, &old, marks);
        self.dirty.places.insert(Place::of(key));
        self.report_shadowed(key, was_loose);
    }

    /// The members that each Host takes, given what changed.
    fn hosts_and_members(
        &self,
        key: &GroupKey,
        group: &Group,
        marks: &GroupMarks,
    ) -> LiteMap<ObjectRef, Members> {
        let mut concerned: BTreeSet<&ObjectRef> = marks.hosts.iter().collect();
        for member in &marks.members {
            concerned.extend(group.hosts_of(member));
            if group.members.contains_key(member)
                && let Some(mapping) = self.mappings.get(member)
            {
                concerned.extend(self.hosts_taking(key, mapping));
            }
        }
        let mut hosts = match group.hosts.len() {
            // nearly always one
            0 => LiteMap::with_capacity(1),
            _ => group.hosts.clone(),
        };
        for host in concerned {
            let state = self.hosts.get(host);
            let takes = |member: &&ObjectRef| {
                let mapping = self.mappings.get(member);
                state
                    .zip(mapping)
                    .is_some_and(|(state, mapping)| self.takes(&state.host, mapping))
            };
            let members: Members = group.members().filter(takes).cloned().collect();
            if members.is_empty() {
                hosts.remove(host);
            } else {
                hosts.insert(host.clone(), members);
            }
        }
        hosts
    }

    /// The Hosts that take a Mapping.
    fn hosts_taking<'a>(
        &'a self,
        key: &'a GroupKey,
        mapping: &'a Mapping,
    ) -> Box<dyn Iterator<Item = &'a ObjectRef> + 'a> {
        let takes = |host: &&ObjectRef| {
            let state = self.hosts.get(host);
            state.is_some_and(|state| self.takes(&state.host, mapping))
        };
        let everywhere = self.settings.loose_label_selectors;
        match &key.host {
            HostMatch::Glob(glob) if !everywhere => {
                Box::new(self.hosts.with_hostname_like(glob).filter(takes))
            }
            _ => Box::new(self.hosts.iter().map(|(host, _)| host).filter(takes)),
        }
    }

    /// What each set of members comes to. Those without a changed member stay as they are.
    fn shares(
        &self,
        key: &GroupKey,
        group: &Group,
        hosts: &LiteMap<ObjectRef, Members>,
        changed: &BTreeSet<ObjectRef>,
    ) -> LiteMap<Members, Share> {
        let mut shares = LiteMap::with_capacity(group.shares.len().max(1));
        for members in hosts.values() {
            if shares.contains_key(members) {
                continue;
            }
            let is_same = !members.iter().any(|member| changed.contains(member));
            let share = match group.shares.get(members).filter(|_| is_same) {
                Some(share) => share.clone(),
                None => {
                    let Shared {
                        routes,
                        problems,
                        left_out,
                        idle,
                    } = share::share(
                        key,
                        &self.members(members),
                        &self.defaults,
                        self.rate_limits.domain(),
                    );
                    Share {
                        routes: reuse(group, group.shares.get(members), routes),
                        problems,
                        left_out,
                        idle,
                    }
                }
            };
            shares.insert(members.clone(), share);
        }
        shares
    }

    fn members<'a>(&'a self, members: &'a Members) -> Vec<Member<'a>> {
        let member = |object: &'a ObjectRef| {
            let state = self.mappings.state(object)?;
            Some(Member {
                object,
                mapping: state.mapping.as_deref()?,
                cluster: state.cluster.clone(),
            })
        };
        members.iter().filter_map(member).collect()
    }

    /// Attaches a group to its Hosts, and marks what differs from before.
    fn attach_group(&mut self, key: &Arc<GroupKey>, old: &Group, marks: &GroupMarks) {
        let Some(group) = self.groups.by_key.get(key) else {
            return;
        };
        let moved = old.order != group.order;
        for host in old.hosts.keys() {
            if moved || !group.hosts.contains_key(host) {
                self.hosts.detach(host, &old.order);
                self.dirty.route(host, Difference::Match);
                self.dirty.reports.extend(old.members_of(host).cloned());
            }
        }
        for (host, members) in group.hosts.iter() {
            let Some(routes) = group.routes_of(host) else {
                continue;
            };
            let before = old.routes_of(host).filter(|_| !moved);
            // a Host that came back has nothing attached
            let before = before
                .filter(|_| !marks.hosts.contains(host) || self.hosts.has(host, &group.order));
            let difference = match before {
                None => Some(Difference::Match),
                Some(before) => difference(before, routes),
            };
            let is_same = old.hosts.get(host) == Some(members)
                && old.problems_of(host) == group.problems_of(host);
            if !is_same || difference.is_some() {
                self.dirty.reports.extend(members.iter().cloned());
                self.dirty.reports.extend(old.members_of(host).cloned());
            }
            if let Some(difference) = difference {
                let attached = AttachedGroup {
                    key: key.clone(),
                    routes: routes.clone(),
                };
                self.hosts.attach(host, &group.order, attached);
                self.dirty.route(host, difference);
            }
        }
    }
}

/// In what the routes of a group differ from before.
fn difference(old: &Arc<[Arc<Route>]>, new: &Arc<[Arc<Route>]>) -> Option<Difference> {
    if Arc::ptr_eq(old, new) || old == new {
        return None;
    }
    let mut pairs = old.iter().zip(new.iter());
    let same_match =
        old.len() == new.len() && pairs.all(|(old, new)| old.is_same_when_redirected(new));
    Some(if same_match {
        Difference::Action
    } else {
        Difference::Match
    })
}

/// Keeps the old value of each route that is still the same, and with it its encoded bytes.
fn reuse(group: &Group, old: Option<&Share>, new: Vec<Arc<Route>>) -> Arc<[Arc<Route>]> {
    if let Some(old) = old
        && *old.routes == *new
    {
        return old.routes.clone();
    }
    let kept = |route: Arc<Route>| {
        let mut routes = group.routes();
        routes
            .find(|old| ***old == *route)
            .cloned()
            .unwrap_or(route)
    };
    new.into_iter().map(kept).collect()
}
