//! Clusters that Envoy has been sent and may not use yet: it looks up a name, checks health, or waits for a Secret. It
//! acknowledges no clusters meanwhile, so an ACK means that they are warm.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long routes to a cluster wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Clusters that are new to the client and have not been acknowledged.
#[derive(Debug, Default)]
pub(super) struct Warming {
    /// The response in which each was sent, and until when routes wait for it.
    clusters: BTreeMap<Arc<str>, (u64, Instant)>,
}

impl Warming {
    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.clusters.keys()
    }

    /// The cluster is sent.
    pub(super) fn insert(&mut self, name: Arc<str>, nonce: u64, now: Instant) {
        self.clusters
            .entry(name)
            .and_modify(|(sent, _)| *sent = nonce)
            .or_insert((nonce, now + TIMEOUT));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.clusters.remove(name);
    }

    /// The response is acknowledged or rejected.
    pub(super) fn finish(&mut self, nonce: u64) {
        self.clusters.retain(|_, (sent, _)| *sent != nonce);
    }

    /// Gives up waiting for those that take too long; whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.clusters.len();
        self.clusters.retain(|_, (_, until)| *until > now);
        self.clusters.len() != before
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clusters.values().map(|(_, until)| *until).min()
    }
}
