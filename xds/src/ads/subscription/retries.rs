//! Listeners that the client has rejected because it could not bind their addresses. It has no version of them and does not
//! try again by itself, so the same version is sent again, alone and with growing pauses: an address that is taken can
//! become free.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Version, snapshot::Entry};

/// First and longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Rejected versions to send again.
#[derive(Debug, Default)]
pub(super) struct Retries {
    retries: BTreeMap<Arc<str>, Retry>,
}

#[derive(Debug)]
struct Retry {
    version: Version,
    pause: Duration,
    /// When to send it again; `None` from then until the client has responded.
    at: Option<Instant>,
}

impl Retries {
    /// The client has rejected this version, which was sent at this time.
    pub(super) fn failed(&mut self, entry: &Entry, sent: Instant) {
        let before = self.retries.get(&entry.name);
        let before = before.filter(|before| before.version == entry.version);
        let pause = before.map_or(PAUSE.0, |before| (before.pause * 2).min(PAUSE.1));
        let retry = Retry {
            version: entry.version,
            pause,
            at: Some(sent + pause),
        };
        self.retries.insert(entry.name.clone(), retry);
    }

    /// Stops to send any version of this name again.
    pub(super) fn remove(&mut self, name: &str) {
        self.retries.remove(name);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.retries.is_empty()
    }

    /// When to send the next one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retries.values().filter_map(|retry| retry.at).min()
    }

    /// Takes the names whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let due = self.retries.iter_mut();
        due.filter(|(_, retry)| retry.at.is_some_and(|at| at <= now))
            .map(|(name, retry)| {
                retry.at = None;
                name.clone()
            })
            .collect()
    }

    /// Whether this version may be sent although it was rejected.
    pub(super) fn is_due(&self, entry: &Entry) -> bool {
        let retry = self.retries.get(&entry.name);
        retry.is_some_and(|retry| retry.version == entry.version && retry.at.is_none())
    }
}
