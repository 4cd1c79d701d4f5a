//! The newest snapshot: one writer, many readers. Readers are told that there is a new one and fetch it when they
//! can; whoever is slow skips what is in between.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Resource, ResourceType, snapshot::Snapshot};

/// What differs from the snapshot before.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Resources that are new or may differ.
    pub upserts: Vec<Resource>,
    /// Resources that are gone.
    pub removals: Vec<(ResourceType, Arc<str>)>,
}

/// The one who makes snapshots.
#[derive(Debug)]
pub struct Writer {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
}

/// Those who read them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotCache {
    receiver: watch::Receiver<Option<Arc<Snapshot>>>,
}

/// A cache without a snapshot. Until the first [`Writer::apply`] nobody is answered: half a view would delete what
/// an Envoy still has from before.
#[must_use]
pub fn channel() -> (Writer, SnapshotCache) {
    let (sender, receiver) = watch::channel(None);
    (Writer { sender }, SnapshotCache { receiver })
}

impl Writer {
    /// Publishes what differs, as one snapshot, and returns the number of the snapshot that has it. What is the same
    /// as before is left out; if that is everything, there is no new snapshot.
    #[expect(clippy::needless_pass_by_value, reason = "the writer is done with it")]
    pub fn apply(&mut self, update: Update) -> u64 {
        let current = self.sender.borrow().clone();
        let ready = current.is_some();
        let current = current.unwrap_or_default();
        match current.next(&update.upserts, &update.removals) {
            Some(next) => {
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
    /// The newest snapshot, if there is any yet.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.receiver.borrow().clone()
    }

    /// Told of every new snapshot, the present one included.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut receiver = self.receiver.clone();
        receiver.mark_changed();
        receiver
    }
}
