//! Names of resources to send or remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Names of resources to send or remove.
#[derive(Debug, Default)]
pub(super) struct Pending {
    names: BTreeSet<Arc<str>>,
    /// To be sent after `names`, in responses of their own: large resources, and clusters that warm.
    later: BTreeSet<Arc<str>>,
    /// These wait for clusters, each since a change in this snapshot.
    held: BTreeMap<Arc<str>, u64>,
    /// No change of `names` and `later` is older than this snapshot.
    since: Option<u64>,
}

impl Pending {
    /// Adds a name because of a change in snapshot `since`.
    pub(super) fn insert(&mut self, name: Arc<str>, since: u64) {
        let since = self
            .held
            .remove(&name)
            .map_or(since, |held| held.min(since));
        self.since = Some(self.since.map_or(since, |before| before.min(since)));
        if !self.later.contains(&name) {
            self.names.insert(name);
        }
    }

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
        self.names.is_empty() && self.later.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len() + self.later.len() + self.held.len()
    }

    /// All names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter().chain(&self.later).chain(self.held.keys())
    }

    /// No change is older than this snapshot; `None` if nothing is pending.
    pub(super) fn since(&self) -> Option<u64> {
        self.held.values().copied().chain(self.since).min()
    }

    /// The next name, with its oldest possible change. Follow with [`Pending::forget_since`].
    pub(super) fn pop(&mut self) -> Option<Arc<str>> {
        self.names.pop_first()
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
    pub(super) fn release(&mut self) {
        for (name, since) in std::mem::take(&mut self.held) {
            self.insert(name, since);
        }
    }

    /// To be called after names were taken.
    pub(super) fn forget_since(&mut self) {
        if self.has_nothing_to_send() {
            self.since = None;
        }
    }
}
