//! Versions that the client has rejected on this stream.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Version, snapshot::Entry};

/// Maximum number of rejected versions that are remembered although they are not current.
const PAST: usize = 1024;
/// Maximum size of an error message in bytes.
const MESSAGE_BYTES: usize = 2048;

/// A version that the client has rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ads) struct Rejected {
    pub(in crate::ads) version: Version,
    pub(in crate::ads) message: Arc<str>,
    /// Whether the client may accept the same version later.
    pub(in crate::ads) is_temporary: bool,
}

/// A change of what the client rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ads) struct RejectionChange {
    pub(in crate::ads) name: Arc<str>,
    /// `None` if the name is not rejected any more.
    pub(in crate::ads) rejected: Option<Rejected>,
}

/// Versions that the client has rejected.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    /// Those that are the current versions of resources that the client subscribes to.
    current: BTreeMap<Arc<str>, Rejected>,
    /// The last rejected version of other resources, which is not sent again either.
    past: BTreeMap<Arc<str>, Rejected>,
    changes: Vec<RejectionChange>,
    generation: u64,
}

impl Rejections {
    /// Rejected versions that are current, by name.
    pub(super) const fn current(&self) -> &BTreeMap<Arc<str>, Rejected> {
        &self.current
    }

    /// Whether the client has rejected this version.
    pub(super) fn contains(&self, entry: &Entry) -> bool {
        let rejects = |rejections: &BTreeMap<Arc<str>, Rejected>| {
            let rejected = rejections.get(&entry.name);
            rejected.is_some_and(|rejected| rejected.version == entry.version)
        };
        rejects(&self.current) || rejects(&self.past)
    }

    /// Grows with every change of [`Rejections::current`].
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes of [`Rejections::current`] since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<RejectionChange> {
        std::mem::take(&mut self.changes)
    }

    /// The client rejects this version. `current` is the version that is served now, if the client subscribes to it.
    pub(super) fn reject(
        &mut self,
        entry: &Entry,
        message: &str,
        is_temporary: bool,
        current: Option<Version>,
    ) {
        let rejected = Rejected {
            version: entry.version,
            message: bounded(message).into(),
            is_temporary,
        };
        if current != Some(entry.version) {
            self.remember(entry.name.clone(), rejected);
            return;
        }
        self.past.remove(&entry.name);
        match self.current.insert(entry.name.clone(), rejected.clone()) {
            Some(before) if before == rejected => return,
            Some(_) => self.note(&entry.name, None),
            None => {}
        }
        self.note(&entry.name, Some(rejected));
    }

    /// The client accepts this version.
    pub(super) fn accept(&mut self, entry: &Entry) {
        if !self.contains(entry) {
            return;
        }
        self.past.remove(&entry.name);
        if self.current.remove(&entry.name).is_some() {
            self.note(&entry.name, None);
        }
    }

    /// The version that is served now; `None` if there is none, or the client does not subscribe to it.
    pub(super) fn update(&mut self, name: &Arc<str>, current: Option<Version>) {
        let is_rejected = self.current.get(name);
        if is_rejected.is_some_and(|rejected| Some(rejected.version) != current)
            && let Some(rejected) = self.current.remove(name)
        {
            self.remember(name.clone(), rejected);
            self.note(name, None);
        }
        let was_rejected = self.past.get(name);
        if was_rejected.is_some_and(|rejected| Some(rejected.version) == current)
            && let Some(rejected) = self.past.remove(name)
        {
            self.current.insert(name.clone(), rejected.clone());
            self.note(name, Some(rejected));
        }
    }

    fn remember(&mut self, name: Arc<str>, rejected: Rejected) {
        if rejected.is_temporary {
            return;
        }
        self.past.insert(name, rejected);
        if self.past.len() > PAST {
            self.past.pop_first();
        }
    }

    fn note(&mut self, name: &Arc<str>, rejected: Option<Rejected>) {
        self.generation += 1;
        let name = name.clone();
        self.changes.push(RejectionChange { name, rejected });
    }
}

fn bounded(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
