//! A set of names that a client subscribes to. Envoy subscribes by name to the endpoints of all clusters: to everything, or
//! nearly so. Such a set is remembered by what it lacks, so that it takes no memory for each name.

use std::{collections::BTreeSet, sync::Arc};

use crate::snapshot::TypeView;

/// A set of names, relative to what is served.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Whether the set has all names that are served, except for those in `without`.
    has_most: bool,
    /// Served names that are not in the set, if that has most.
    without: BTreeSet<Arc<str>>,
    /// Names in the set: all of them, or those that are not served if it has most.
    listed: BTreeSet<Arc<str>>,
    /// How many of `listed` are served.
    served: usize,
}

impl Names {
    /// Whether the set has this name. `view` is what is served, as in all other methods.
    pub(super) fn contains(&self, name: &str, view: &TypeView) -> bool {
        self.listed.contains(name)
            || (self.has_most && view.get(name).is_some() && !self.without.contains(name))
    }

    /// All names, those that are served in order.
    pub(super) fn iter<'a>(&'a self, view: &'a TypeView) -> impl Iterator<Item = &'a Arc<str>> {
        let most = self.has_most.then(|| view.iter().map(|entry| &entry.name));
        let most = most.into_iter().flatten();
        most.filter(|name| !self.without.contains(*name))
            .chain(&self.listed)
    }

    /// The served names that the set lacks; `None` if it has not most of them.
    pub(super) fn lacking(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.has_most.then_some(&self.without)
    }

    /// Adds a name, and returns it.
    pub(super) fn insert(&mut self, name: &str, view: &TypeView) -> Arc<str> {
        let Some(entry) = view.get(name) else {
            let name: Arc<str> = name.into();
            self.listed.insert(name.clone());
            return name;
        };
        if self.has_most {
            self.without.remove(name);
        } else if self.listed.insert(entry.name.clone()) {
            self.served += 1;
        }
        entry.name.clone()
    }

    /// Removes a name, and returns it if the set had it.
    pub(super) fn remove(&mut self, name: &str, view: &TypeView) -> Option<Arc<str>> {
        let entry = view.get(name);
        if self.has_most
            && let Some(entry) = entry
        {
            let is_new = self.without.insert(entry.name.clone());
            return is_new.then(|| entry.name.clone());
        }
        let removed = self.listed.take(name)?;
        self.served -= usize::from(entry.is_some());
        Some(removed)
    }

    /// The first view is there; so far nothing was served.
    pub(super) fn start(&mut self, view: &TypeView) {
        let listed = self.listed.iter();
        self.served = listed.filter(|name| view.get(name).is_some()).count();
    }

    /// The names that are served change from `before` to `view`, by those that are `changed` at most.
    pub(super) fn update<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a Arc<str>>,
        before: &TypeView,
        view: &TypeView,
    ) {
        if !self.has_most && self.listed.is_empty() {
            return;
        }
        let is_served = |name: &str| view.get(name).is_some();
        let changed = changed.filter(|name| before.get(name).is_some() != is_served(name));
        // the log of changes has duplicates
        let changed: BTreeSet<&Arc<str>> = changed.collect();
        for name in changed {
            match (self.has_most, is_served(name)) {
                (false, true) => self.served += usize::from(self.listed.contains(name)),
                (false, false) => self.served -= usize::from(self.listed.contains(name)),
                (true, true) => {
                    if !self.listed.remove(name) {
                        self.without.insert(name.clone());
                    }
                }
                (true, false) => {
                    if !self.without.remove(name) {
                        self.listed.insert(name.clone());
                    }
                }
            }
        }
    }

    /// Chooses the smaller of the two ways to remember the set. To be called after changes; it costs nothing on most calls.
    pub(super) fn shrink(&mut self, view: &TypeView) {
        if !self.has_most && self.served * 2 > view.len() {
            let listed = std::mem::take(&mut self.listed);
            let names = view.iter().map(|entry| &entry.name);
            self.without = names
                .filter(|name| !listed.contains(*name))
                .cloned()
                .collect();
            let others = listed.into_iter().filter(|name| view.get(name).is_none());
            self.listed = others.collect();
            self.served = 0;
            self.has_most = true;
        } else if self.has_most && self.without.len() * 4 > view.len() * 3 {
            let names: BTreeSet<Arc<str>> = self.iter(view).cloned().collect();
            self.served = names.len() - self.listed.len();
            self.listed = names;
            self.without = BTreeSet::new();
            self.has_most = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Resource, ResourceType, snapshot::Snapshot};

    const KIND: ResourceType = ResourceType::Endpoints;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Remove(u8),
        /// These are served, and these no longer.
        Serve(Vec<u8>, Vec<u8>),
        Shrink,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..12_u8).prop_map(Step::Insert),
            2 => (0..12_u8).prop_map(Step::Remove),
            2 => (vec(0..12_u8, 0..6), vec(0..12_u8, 0..4)).prop_map(|(put, gone)| Step::Serve(put, gone)),
            2 => Just(Step::Shrink),
        ]
    }

    proptest! {
        #[test]
        fn the_set_has_what_was_added_and_not_removed(steps in vec(step(), 0..60)) {
            let mut names = Names::default();
            let mut expected: BTreeSet<Arc<str>> = BTreeSet::new();
            let mut snapshot = Snapshot::default();
            for step in steps {
                let view = snapshot.of(KIND);
                match step {
                    Step::Insert(name) => {
                        let name = name.to_string();
                        prop_assert_eq!(&*names.insert(&name, view), &*name);
                        expected.insert(name.into());
                    }
                    Step::Remove(name) => {
                        let name = name.to_string();
                        prop_assert_eq!(names.remove(&name, view).is_some(), expected.remove(&*name));
                    }
                    Step::Serve(put, gone) => {
                        let put: Vec<Resource> = put
                            .iter()
                            .map(|name| Resource::new(KIND, name.to_string(), Bytes::new()))
                            .collect();
                        let gone: Vec<(ResourceType, Arc<str>)> =
                            gone.iter().map(|name| (KIND, name.to_string().into())).collect();
                        if let Some(next) = snapshot.next(&put, &gone) {
                            let changed = next.of(KIND).changed_since(snapshot.seq).unwrap();
                            names.update(changed, view, next.of(KIND));
                            snapshot = next;
                        }
                    }
                    Step::Shrink => names.shrink(view),
                }
                let view = snapshot.of(KIND);
                let found: BTreeSet<Arc<str>> = names.iter(view).cloned().collect();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(names.iter(view).count(), expected.len(), "duplicates");
                for name in (0..12_u8).map(|name| name.to_string()) {
                    prop_assert_eq!(names.contains(&name, view), expected.contains(&*name));
                }
            }
        }
    }

    #[test]
    fn nearly_all_names_are_remembered_by_what_is_missing() {
        let all = (0..1000).map(|n| Resource::new(KIND, n.to_string(), Bytes::new()));
        let all: Vec<Resource> = all.collect();
        let snapshot = Snapshot::default().next(&all, &[]).unwrap();
        let view = snapshot.of(KIND);
        let mut names = Names::default();
        for resource in &all[..990] {
            names.insert(&resource.name, view);
            names.shrink(view);
        }
        names.insert("other", view);
        assert_eq!((names.without.len(), names.listed.len()), (10, 1));
        for resource in &all[100..] {
            names.remove(&resource.name, view);
            names.shrink(view);
        }
        assert_eq!((names.without.len(), names.listed.len()), (0, 101));
        assert_eq!(names.iter(view).count(), 101);
    }
}
