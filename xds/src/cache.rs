//! The current snapshot: one writer, many readers. Readers are notified of a new snapshot and fetch it when they can; slow
//! readers skip intermediate ones.

use std::{sync::Arc, time::Instant};

use tokio::sync::watch;

use crate::{
    Resource, ResourceType,
    encodings::Encodings,
    resource::Ref,
    snapshot::{Entry, Snapshot},
};

/// Changes to the current snapshot.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Resources that are new or may have changed.
    pub upserts: Vec<Resource>,
    /// Entries of earlier snapshots, to be served again.
    pub restored: Vec<(ResourceType, Arc<Entry>)>,
    /// Resources to remove.
    pub removals: Vec<Ref>,
}

impl Update {
    /// Whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.restored.is_empty() && self.removals.is_empty()
    }
}

/// The writer of a cache.
#[derive(Debug)]
pub struct Writer {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    encodings: Encodings,
}

/// The readers of a cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotCache {
    receiver: watch::Receiver<Option<Arc<Snapshot>>>,
}

/// A cache without a snapshot. The server sends no responses until the first [`Writer::apply`]: an incomplete snapshot
/// would delete resources that Envoys still have.
#[must_use]
pub fn channel() -> (Writer, SnapshotCache) {
    channel_of(Encodings::default())
}

/// As [`channel`], for one of several fleets.
#[must_use]
pub fn channel_of(encodings: Encodings) -> (Writer, SnapshotCache) {
    let (sender, receiver) = watch::channel(None);
    (Writer { sender, encodings }, SnapshotCache { receiver })
}

impl Writer {
    /// Publishes changes as one snapshot, and returns the number of the snapshot that contains them. Unchanged resources are
    /// left out; if nothing changed, there is no new snapshot.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers do not use the update again"
    )]
    pub fn apply(&mut self, update: Update) -> u64 {
        let current = self.sender.borrow().clone();
        let ready = current.is_some();
        let current = current.unwrap_or_default();
        let next = current.next_with(
            &update.upserts,
            &update.restored,
            &update.removals,
            &self.encodings,
        );
        match next {
            Some(mut next) => {
                next.published = Some(Instant::now());
                let seq = next.seq;
                self.sender.send_replace(Some(Arc::new(next)));
                seq
            }
            None => {
                if !ready {
                    self.sender.send_replace(Some(current.clone()));
                }
                current.seq
            }
        }
    }
}

impl Writer {
    /// The current snapshot; an empty one before the first.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.sender.borrow().clone().unwrap_or_default()
    }
}

impl SnapshotCache {
    /// The current snapshot; `None` before the first one.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.receiver.borrow().clone()
    }

    /// Receives every new snapshot, and the current one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut receiver = self.receiver.clone();
        receiver.mark_changed();
        receiver
    }
}
