//! Names of resources to send or remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use crate::snapshot::TypeView;

/// Names of resources to send or remove.
#[derive(Debug, Default)]
pub(super) struct Pending {
    names: BTreeSet<Arc<str>>,
    /// Everything that is served after this name is pending, too. So a client that has nothing takes no memory for each name.
    rest: Option<Bound<Arc<str>>>,
    /// To be sent after `names`, in responses of their own: large resources, and clusters that warm.
    later: BTreeSet<Arc<str>>,
    /// These wait for clusters, each since a change in this snapshot.
    held: BTreeMap<Arc<str>, u64>,
    /// No change of `names` and `later` is older than this snapshot.
    since: Option<u64>,
}

impl Pending {
    /// Adds everything that is served, because of a change in snapshot `since`.
    pub(super) fn insert_all(&mut self, since: u64) {
        self.rest = Some(Bound::Unbounded);
        self.since = Some(self.since.map_or(since, |before| before.min(since)));
    }

    /// Lists what was added with [`Pending::insert_all`], before some of it is removed.
    pub(super) fn list(&mut self, view: &TypeView) {
        let rest = self.rest.take();
        let rest = rest.iter().flat_map(|after| after_in(view, after));
        self.names.extend(rest.cloned());
    }

    /// Adds a name because of a change in snapshot `since`. `view` is what is served, as in all other methods.
    pub(super) fn insert(&mut self, name: Arc<str>, since: u64, view: &TypeView) {
        let since = self
            .held
            .remove(&name)
            .map_or(since, |held| held.min(since));
        self.since = Some(self.since.map_or(since, |before| before.min(since)));
        if !self.later.contains(&name) && !self.is_in_rest(&name, view) {
            self.names.insert(name);
        }
    }

    fn is_in_rest(&self, name: &str, view: &TypeView) -> bool {
        let is_after = match &self.rest {
            None => false,
            Some(Bound::Excluded(last)) => **last < *name,
            Some(Bound::Unbounded | Bound::Included(_)) => true,
        };
        is_after && view.get(name).is_some()
    }

    pub(super) fn contains(&self, name: &str, view: &TypeView) -> bool {
        self.names.contains(name)
            || self.later.contains(name)
            || self.held.contains_key(name)
            || self.is_in_rest(name, view)
    }

    /// Removes a name, unless it was added with all others.
    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.later.remove(name);
        self.held.remove(name);
        self.forget_since();
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.names.retain(|name| is_kept(name));
        self.later.retain(|name| is_kept(name));
        self.held.retain(|name, _| is_kept(name));
        self.forget_since();
    }

    /// Whether nothing can be sent, although names can be held.
    pub(super) fn has_nothing_to_send(&self) -> bool {
        self.names.is_empty() && self.later.is_empty() && self.rest.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.has_nothing_to_send() && self.held.is_empty()
    }

    /// Number of names that are listed.
    pub(super) fn len(&self) -> usize {
        self.names.len() + self.later.len() + self.held.len()
    }

    /// All names.
    pub(super) fn iter<'a>(&'a self, view: &'a TypeView) -> impl Iterator<Item = &'a Arc<str>> {
        let rest = self.rest.iter().flat_map(|after| after_in(view, after));
        let listed = self.names.iter().chain(&self.later);
        listed.chain(self.held.keys()).chain(rest)
    }

    /// No change is older than this snapshot; `None` if nothing is pending.
    pub(super) fn since(&self) -> Option<u64> {
        self.held.values().copied().chain(self.since).min()
    }

    /// The next name, with its oldest possible change. Follow with [`Pending::forget_since`].
    pub(super) fn pop(&mut self, view: &TypeView) -> Option<Arc<str>> {
        let rest = self.rest.as_ref();
        let next = rest.and_then(|after| after_in(view, after).next());
        let Some(next) = next else {
            self.rest = None;
            return self.names.pop_first();
        };
        if self.names.first().is_some_and(|first| first < next) {
            return self.names.pop_first();
        }
        self.names.remove(next);
        self.rest = Some(Bound::Excluded(next.clone()));
        Some(next.clone())
    }

    /// The next name of those that are sent later.
    pub(super) fn pop_later(&mut self) -> Option<Arc<str>> {
        self.later.pop_first()
    }

    /// Returns a name that did not fit.
    pub(super) fn put_back(&mut self, name: Arc<str>) {
        self.names.insert(name);
    }

    /// Moves a name to those that are sent later.
    pub(super) fn put_later(&mut self, name: Arc<str>) {
        self.later.insert(name);
    }

    /// Takes everything that can be sent.
    pub(super) fn take(&mut self) -> BTreeSet<Arc<str>> {
        let mut names = std::mem::take(&mut self.names);
        names.append(&mut self.later);
        names
    }

    /// Holds a name back until [`Pending::release`].
    pub(super) fn hold(&mut self, name: Arc<str>, since: u64) {
        self.held.insert(name, since);
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Releases all names that are held.
    pub(super) fn release(&mut self, view: &TypeView) {
        for (name, since) in std::mem::take(&mut self.held) {
            self.insert(name, since, view);
        }
    }

    /// To be called after names were taken.
    pub(super) fn forget_since(&mut self) {
        if self.has_nothing_to_send() {
            self.since = None;
        }
    }
}

/// Names that are served after this one.
fn after_in<'a>(
    view: &'a TypeView,
    after: &Bound<Arc<str>>,
) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
    let bounds = (after.as_ref(), Bound::Unbounded);
    view.entries()
        .range::<_, Arc<str>>(bounds)
        .map(|(name, _)| name)
}
