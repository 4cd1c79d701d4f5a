//! Level of Mappings: which group a Mapping belongs to, and which cluster its upstream is.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use super::{Store, group::GroupKey};
use crate::{
    object::ObjectRef,
    reconcile::{HostMatch, Mapping, Role},
    report::{Problem, Reason, Report},
    selector::{LabelSet, Selector},
};

/// Mappings with what they are linked to.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    states: BTreeMap<ObjectRef, MappingState>,
    /// Mappings without a hostname.
    hostless: BTreeSet<ObjectRef>,
    /// Mappings that override error responses.
    overriding_errors: BTreeSet<ObjectRef>,
}

/// A Mapping with its group and its cluster.
#[derive(Debug, Default)]
pub(super) struct MappingState {
    /// `None`: deleted, but still linked.
    pub(super) mapping: Option<Arc<Mapping>>,
    group: Option<Arc<GroupKey>>,
    /// `None` for a redirect.
    pub(super) cluster: Option<Arc<str>>,
    problems: Vec<Problem>,
}

impl Mappings {
    /// The state of a Mapping.
    pub(super) fn state(&self, object: &ObjectRef) -> Option<&MappingState> {
        self.states.get(object)
    }

    /// The fragment of a Mapping.
    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Arc<Mapping>> {
        self.states.get(object)?.mapping.as_ref()
    }

    /// Mappings without a hostname.
    pub(super) fn hostless(&self) -> impl Iterator<Item = &ObjectRef> {
        self.hostless.iter()
    }

    /// Whether any Mapping overrides error responses.
    pub(super) fn override_errors(&self) -> bool {
        !self.overriding_errors.is_empty()
    }
}

impl Store {
    pub(super) fn set_mapping(&mut self, object: &ObjectRef, mapping: Option<Arc<Mapping>>) {
        if let Some(old) = self.mappings.get(object).cloned() {
            self.mappings.hostless.remove(object);
            self.forget_references(object, &old.upstream);
        }
        if let Some(mapping) = &mapping {
            if mapping.host == HostMatch::Unset {
                self.mappings.hostless.insert(object.clone());
            }
            self.note_references(object, &mapping.upstream);
        }
        self.note_error_overrides(object, mapping.as_deref());
        let state = self.mappings.states.entry(object.clone()).or_default();
        state.mapping = mapping;
        self.dirty.mappings.insert(object.clone());
    }

    /// The first Mapping that overrides error responses, and the last, change the filters of listeners.
    fn note_error_overrides(&mut self, object: &ObjectRef, mapping: Option<&Mapping>) {
        let before = self.mappings.override_errors();
        let overriding = &mut self.mappings.overriding_errors;
        if mapping.is_some_and(|mapping| !mapping.forward.error_bodies.is_empty()) {
            overriding.insert(object.clone());
        } else {
            overriding.remove(object);
        }
        if before != self.mappings.override_errors() {
            self.dirty.sockets.extend(self.listeners.sockets());
        }
    }

    pub(super) fn link_mappings(&mut self) {
        for object in mem::take(&mut self.dirty.mappings) {
            self.dirty.reports.insert(object.clone());
            let Some(state) = self.mappings.states.get(&object) else {
                continue;
            };
            let (old_group, old_cluster) = (state.group.clone(), state.cluster.clone());
            let Some(mapping) = state.mapping.clone() else {
                self.leave_group(&object, old_group);
                self.release_cluster(&object, old_cluster.as_ref());
                self.mappings.states.remove(&object);
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
                Some(self.groups.join(&object, key))
            };
            self.dirty.groups.extend(group.clone());
            let state = MappingState {
                mapping: Some(mapping),
                group,
                cluster,
                problems,
            };
            self.mappings.states.insert(object, state);
        }
    }

    /// The selectors of Hosts that select a Mapping without a hostname.
    fn selecting(&self, mapping: &Mapping) -> Vec<Selector> {
        if mapping.host != HostMatch::Unset {
            return Vec::new();
        }
        let labels = LabelSet::union([&mapping.labels]);
        let loose = self.settings.loose_label_selectors;
        let selectors = self.hosts.selectors();
        selectors
            .filter(|selector| selector.matches(&labels, loose))
            .cloned()
            .collect()
    }

    pub(super) fn report_mapping(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.mappings.states.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        let Some((key, group)) = state
            .group
            .as_ref()
            .and_then(|key| Some((key, self.groups.get(key)?)))
        else {
            return;
        };
        let problems = group.problems.get(object).into_iter().flatten();
        report.problems.extend(problems.cloned());
        let served = group.hosts.iter().any(|host| self.hosts.is_served(host));
        report.in_service = served && !group.idle.contains(object);
        if group.hosts.is_empty() {
            report.problems.push(Problem::ignored(
                Reason::NO_MATCHING_HOST,
                "",
                "no Host matches; set hostname, or the labels that a Host's mappingSelector requires",
            ));
        } else if served {
            report.summary = format!("attached to {}", some(&group.hosts));
            report.problems.extend(self.shadowed(key, group));
        } else {
            report.problems.push(Problem::ignored(
                Reason::NO_LISTENER,
                "",
                format!("no Listener serves {}", some(&group.hosts)),
            ));
        }
    }
}

/// One Host by name, several by number.
fn some(hosts: &BTreeSet<ObjectRef>) -> String {
    match hosts.first() {
        Some(only) if hosts.len() == 1 => only.to_string(),
        _ => format!("{} Hosts", hosts.len()),
    }
}
