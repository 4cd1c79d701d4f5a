//! The current snapshot: one writer, many readers. Readers are notified of a new snapshot and fetch it when they can; slow
//! readers skip intermediate ones.

use std::{sync::Arc, time::Instant};

use tokio::sync::watch;

use crate::{Resource, ResourceType, snapshot::Snapshot};

/// Changes to the current snapshot.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Resources that are new or may have changed.
    pub upserts: Vec<Resource>,
    /// Resources to remove.
    pub removals: Vec<(ResourceType, Arc<str>)>,
}

/// The writer of a cache.
#[derive(Debug)]
pub struct Writer {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
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
    let (sender, receiver) = watch::channel(None);
    (Writer { sender }, SnapshotCache { receiver })
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
        match current.next(&update.upserts, &update.removals) {
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
