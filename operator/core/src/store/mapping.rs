//! Level of Mappings: which group a Mapping belongs to, and which cluster its upstream is.

use std::{mem, sync::Arc};

use super::{GroupKey, MappingState, Store};
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
}
