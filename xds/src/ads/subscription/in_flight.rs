//! Responses without ACK or NACK.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::snapshot::{Entries, Entry};

/// How long a response without ACK or NACK holds back further ones.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of responses that are kept, for clients that never acknowledge.
const MAX_IN_FLIGHT: usize = 64;

/// A response without ACK or NACK.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: u64,
    pub(super) sent: Instant,
    /// No change in it is older than this snapshot.
    pub(super) since: u64,
    /// Resources in it that the client did not have, sorted by name.
    pub(super) fresh: Vec<Arc<Entry>>,
    pub(super) removed: BTreeSet<Arc<str>>,
    /// SotW: all resources in it, if it had the full state.
    pub(super) full_state: Option<Entries>,
}

impl InFlight {
    /// The resource with this name that the client did not have.
    pub(super) fn fresh(&self, name: &str) -> Option<&Arc<Entry>> {
        let place = self.fresh.binary_search_by(|entry| (*entry.name).cmp(name));
        self.fresh.get(place.ok()?)
    }
}

/// Responses without ACK or NACK, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    queue: VecDeque<InFlight>,
}

impl Window {
    pub(super) fn iter(&self) -> impl Iterator<Item = &InFlight> {
        self.queue.iter()
    }

    pub(super) fn last(&self) -> Option<&InFlight> {
        self.queue.back()
    }

    /// Whether one of them has this resource, or removes it.
    pub(super) fn contains(&self, name: &str) -> bool {
        let mut responses = self.queue.iter();
        responses.any(|sent| sent.fresh(name).is_some() || sent.removed.contains(name))
    }

    /// Whether one of them removes this resource. A later one that adds it again does not count.
    pub(super) fn is_removing(&self, name: &str) -> bool {
        self.queue.iter().any(|sent| {
            let is_gone = |full_state: &Entries| !full_state.contains_key(name);
            sent.full_state.as_ref().is_some_and(is_gone) || sent.removed.contains(name)
        })
    }

    /// No change in flight is older than this snapshot.
    pub(super) fn since(&self) -> Option<u64> {
        self.queue.iter().map(|sent| sent.since).min()
    }

    pub(super) fn push(&mut self, sent: InFlight) {
        self.queue.push_back(sent);
        if self.queue.len() > MAX_IN_FLIGHT
            && let Some(dropped) = self.queue.pop_front()
            && let Some(next) = self.queue.front_mut()
        {
            next.since = next.since.min(dropped.since);
        }
    }

    /// Removes the response with this nonce, and all older ones if the client responds in order.
    pub(super) fn take(&mut self, nonce: u64, in_order: bool) -> Option<InFlight> {
        let place = self.queue.iter().position(|sent| sent.nonce == nonce)?;
        let sent = self.queue.remove(place);
        if in_order {
            self.queue.drain(..place);
        }
        sent
    }

    /// Number of responses that hold back further ones.
    pub(super) fn waiting(&self, now: Instant) -> usize {
        let waits = |sent: &&InFlight| sent.sent + ACK_TIMEOUT > now;
        self.queue.iter().filter(waits).count()
    }

    /// When the next response stops to hold back further ones.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let timeouts = self.queue.iter().map(|sent| sent.sent + ACK_TIMEOUT);
        timeouts.filter(|timeout| *timeout > now).min()
    }
}
