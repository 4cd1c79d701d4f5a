//! Mappings of different namespaces that match some of the same requests without being a group: on one Host, with the same
//! hostname and the same path, where other conditions or the precedence differ. The group that is tried first has the
//! requests that both match, which is reported on both.
//!
//! Only equal hostnames and paths are compared. That `/` leaves `/shop/` to another namespace is how namespaces share a
//! Host; a Mapping that takes everything from another is found by [`super::shadowed`].

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use super::{
    Store,
    group::{Group, GroupKey, RouteOrder},
    neighbour,
};
use crate::{object::ObjectRef, reconcile::HostMatch, report::Problem};

/// A hostname and the text of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    host: HostMatch,
    path: String,
}

impl Place {
    pub(super) fn of(key: &GroupKey) -> Self {
        Self {
            host: key.host.clone(),
            path: key.path_text().to_owned(),
        }
    }
}

/// Where groups of several namespaces overlap.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    by_place: BTreeMap<Place, BTreeMap<ObjectRef, Firsts>>,
}

/// On one Host, the Mapping that is tried first, and the first one of another namespace.
#[derive(Debug, PartialEq)]
struct Firsts {
    first: Tried,
    other: Tried,
}

/// A Mapping with the place of its group.
#[derive(Clone, Debug, PartialEq)]
struct Tried {
    order: RouteOrder,
    mapping: ObjectRef,
}

impl Firsts {
    /// Of members with the places of their groups, which are in order.
    fn of(mut all: impl Iterator<Item = Tried>) -> Option<Self> {
        let first = all.next()?;
        let other = all.find(|other| other.mapping.namespace != first.mapping.namespace)?;
        Some(Self { first, other })
    }

    /// The first that is of another namespace.
    fn beside(&self, mapping: &ObjectRef) -> &Tried {
        if self.first.mapping.namespace == mapping.namespace {
            &self.other
        } else {
            &self.first
        }
    }
}

impl Store {
    pub(super) fn link_overlaps(&mut self) {
        for place in mem::take(&mut self.dirty.places) {
            let groups = self.groups.paths.at(&place.host, &place.path);
            let new = self.overlaps_of(groups);
            let old = self.overlaps.by_place.remove(&place).unwrap_or_default();
            let hosts: BTreeSet<&ObjectRef> = old.keys().chain(new.keys()).collect();
            let differs = |host: &&ObjectRef| old.get(*host) != new.get(*host);
            let changed: Vec<&ObjectRef> = hosts.into_iter().filter(differs).collect();
            let members: Vec<ObjectRef> = self
                .groups_at(&place)
                .flat_map(|group| changed.iter().flat_map(|host| group.members_of(host)))
                .cloned()
                .collect();
            self.dirty.reports.extend(members);
            if !new.is_empty() {
                self.overlaps.by_place.insert(place, new);
            }
        }
    }

    fn groups_at(&self, place: &Place) -> impl Iterator<Item = &Group> {
        let keys = self.groups.paths.at(&place.host, &place.path);
        keys.into_iter()
            .flatten()
            .filter_map(|key| self.groups.get(key))
    }

    fn overlaps_of(&self, keys: Option<&BTreeSet<Arc<GroupKey>>>) -> BTreeMap<ObjectRef, Firsts> {
        let Some(keys) = keys.filter(|keys| keys.len() > 1) else {
            return BTreeMap::new();
        };
        let mut groups: Vec<&Group> = keys.iter().filter_map(|key| self.groups.get(key)).collect();
        groups.sort_by(|one, other| one.order.cmp(&other.order));
        let mut by_host: BTreeMap<&ObjectRef, Vec<&Group>> = BTreeMap::new();
        for group in groups {
            for host in group.hosts() {
                by_host.entry(host).or_default().push(group);
            }
        }
        let firsts = |(host, groups): (&ObjectRef, Vec<&Group>)| {
            let tried = groups.iter().flat_map(|group| {
                group.members_of(host).map(|mapping| Tried {
                    order: group.order.clone(),
                    mapping: mapping.clone(),
                })
            });
            let firsts = Firsts::of(tried).filter(|_| groups.len() > 1)?;
            Some((host.clone(), firsts))
        };
        by_host.into_iter().filter_map(firsts).collect()
    }

    /// The notice of a Mapping that overlaps with one of another namespace, on any of these Hosts.
    pub(super) fn overlap(
        &self,
        object: &ObjectRef,
        key: &GroupKey,
        group: &Group,
        hosts: &BTreeSet<&ObjectRef>,
    ) -> Option<Problem> {
        let by_host = self.overlaps.by_place.get(&Place::of(key))?;
        let found = hosts.iter().filter_map(|host| by_host.get(host));
        let mut found = found.map(|firsts| firsts.beside(object));
        // members of the same group share its requests, which is reported there
        let other = found.find(|other| other.order != group.order)?;
        let fact = if other.order < group.order {
            "has the same hostname and prefix and is tried first; requests that match both go to it"
        } else {
            "has the same hostname and prefix and is tried later; requests that match both go to this Mapping"
        };
        Some(neighbour::notice("spec.prefix", &other.mapping, fact))
    }
}
