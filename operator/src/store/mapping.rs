//! Levels of Mappings and groups: which group a Mapping belongs to, which cluster its upstream is, and which Hosts
//! take the group.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_xds::{ir::Route, render::is_same_when_redirected};

use super::{
    Difference, Group, GroupKey, MappingState, RouteOrder, Store,
    group::{self, Member},
    shadowed,
};
use crate::{
    object::ObjectRef,
    reconcile::{HostMatch, Mapping, Role},
    selector::{LabelSet, Selector},
};

impl Store {
    /// The fragment of a Mapping that is there.
    pub(super) fn mapping(&self, object: &ObjectRef) -> Option<&Arc<Mapping>> {
        self.mappings.get(object)?.mapping.as_ref()
    }

    pub(super) fn set_mapping(&mut self, object: &ObjectRef, mapping: Option<Arc<Mapping>>) {
        if let Some(old) = self.mapping(object).cloned() {
            self.hostless.remove(object);
            self.unfile_upstream(object, &old.upstream);
        }
        if let Some(mapping) = &mapping {
            if mapping.host == HostMatch::Unset {
                self.hostless.insert(object.clone());
            }
            self.file_upstream(object, &mapping.upstream);
        }
        self.note_error_bodies(object, mapping.as_deref());
        self.mappings.entry(object.clone()).or_default().mapping = mapping;
        self.dirty.mappings.insert(object.clone());
    }

    /// The first Mapping that replaces the bodies of errors, and the last, change what listeners need.
    fn note_error_bodies(&mut self, object: &ObjectRef, mapping: Option<&Mapping>) {
        let had_any = !self.replacing_errors.is_empty();
        if mapping.is_some_and(|mapping| !mapping.forward.error_bodies.is_empty()) {
            self.replacing_errors.insert(object.clone());
        } else {
            self.replacing_errors.remove(object);
        }
        if had_any == self.replacing_errors.is_empty() {
            self.dirty.sockets.extend(self.sockets.keys().copied());
        }
    }

    pub(super) fn link_mappings(&mut self) {
        for object in mem::take(&mut self.dirty.mappings) {
            self.dirty.reports.insert(object.clone());
            let Some(state) = self.mappings.get(&object) else {
                continue;
            };
            let (old_group, old_cluster) = (state.group.clone(), state.cluster.clone());
            let Some(mapping) = state.mapping.clone() else {
                self.leave_group(&object, old_group);
                self.release_cluster(&object, old_cluster.as_ref());
                self.mappings.remove(&object);
                continue;
            };
            let key = GroupKey::new(&mapping, self.selecting(&mapping));
            let (cluster, problems) = if matches!(mapping.role, Role::Redirect(_)) {
                self.release_cluster(&object, old_cluster.as_ref());
                (None, Vec::new())
            } else {
                let (cluster, problems) =
                    self.link_upstream(&object, &mapping.upstream, old_cluster.as_ref());
                (Some(cluster), problems)
            };
            let group = if old_group.as_deref() == Some(&key) {
                old_group
            } else {
                self.leave_group(&object, old_group);
                Some(self.join_group(&object, key))
            };
            self.dirty.groups.extend(group.clone());
            self.mappings.insert(
                object,
                MappingState {
                    mapping: Some(mapping),
                    group,
                    cluster,
                    problems,
                },
            );
        }
    }

    /// The selectors of Hosts that select this Mapping, if it needs them to be told from others.
    fn selecting(&self, mapping: &Mapping) -> Vec<Selector> {
        if mapping.host != HostMatch::Unset {
            return Vec::new();
        }
        let labels = LabelSet::union([&mapping.labels]);
        let loose = self.settings.loose_label_selectors;
        self.selectors
            .keys()
            .filter(|selector| selector.matches(&labels, loose))
            .cloned()
            .collect()
    }

    fn join_group(&mut self, object: &ObjectRef, key: GroupKey) -> Arc<GroupKey> {
        let key = Arc::new(key);
        if let Some((found, group)) = self.groups.get_key_value(&key) {
            let found = found.clone();
            let _ = group;
            if let Some(group) = self.groups.get_mut(&found) {
                group.members.insert(object.clone());
            }
            return found;
        }
        self.paths.insert(&key);
        match &key.host {
            HostMatch::Glob(name) => self.groups_by_name.insert(name, key.clone()),
            HostMatch::Unset | HostMatch::Regex(_) => {
                self.nameless_groups.insert(key.clone());
            }
        }
        self.groups.insert(
            key.clone(),
            Group {
                order: RouteOrder::new(key.clone()),
                members: BTreeSet::from([object.clone()]),
                routes: Arc::default(),
                hosts: BTreeSet::new(),
                problems: BTreeMap::new(),
                idle: BTreeSet::new(),
            },
        );
        key
    }

    fn leave_group(&mut self, object: &ObjectRef, key: Option<Arc<GroupKey>>) {
        if let Some(key) = key
            && let Some(group) = self.groups.get_mut(&key)
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
                    let state = self.mappings.get(object)?;
                    Some(Member {
                        object,
                        mapping: state.mapping.as_deref()?,
                        cluster: state.cluster.clone(),
                    })
                })
                .collect();
            let mut shared = group::share(&key, &members);
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
        self.paths.remove(key);
        match &key.host {
            HostMatch::Glob(name) => self.groups_by_name.remove(name, key),
            HostMatch::Unset | HostMatch::Regex(_) => {
                self.nameless_groups.remove(key);
            }
        }
        for host in group.hosts {
            if let Some(state) = self.hosts.get_mut(&host) {
                state.routes.remove(&group.order);
                self.dirty.route(&host, Difference::Match);
            }
        }
    }

    /// The Hosts that take a group.
    fn hosts_of(&self, key: &GroupKey, group: &Group) -> BTreeSet<ObjectRef> {
        let takes = |object: &&ObjectRef| {
            self.hosts
                .get(*object)
                .is_some_and(|state| self.takes(&state.host, key, group))
        };
        let everywhere = self.settings.loose_label_selectors;
        match &key.host {
            HostMatch::Glob(glob) if !everywhere => {
                let hosts = self.hosts_by_name.compatible(glob);
                hosts.filter(takes).cloned().collect()
            }
            _ => self.hosts.keys().filter(takes).cloned().collect(),
        }
    }

    fn attach(
        &mut self,
        key: &Arc<GroupKey>,
        routes: Arc<[Arc<Route>]>,
        hosts: BTreeSet<ObjectRef>,
        shared: group::Shared,
    ) {
        let Some(group) = self.groups.get_mut(key) else {
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
            if let Some(state) = self.hosts.get_mut(host) {
                state.routes.remove(&group.order);
                self.dirty.route(host, Difference::Match);
            }
        }
        for host in &group.hosts {
            let difference = if old.contains(host) {
                difference
            } else {
                Some(Difference::Match)
            };
            if let Some(difference) = difference
                && let Some(state) = self.hosts.get_mut(host)
            {
                state.routes.insert(group.order.clone(), attached.clone());
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
            .all(|(old, new)| is_same_when_redirected(old, new));
    Some(if same_match {
        Difference::Forward
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
