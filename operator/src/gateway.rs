//! The gateway for readers: the model of all that is served and every object's report, as of one round of the publish loop.
//!
//! A reader gets immutable values that share what is equal with those of other rounds. It takes no lock of the publish loop, and can
//! keep them for as long as it wants. Nothing is kept for readers while there are none: the loop shows what it has when the first
//! one subscribes, and after each round as long as there is one. That makes a change copy the paths to what it changes, some
//! kilobytes at 10,000 Mappings, instead of changing it in place.
//!
//! What Envoys get can be less than this for a while, because of the quarantine: see [`nuncio_xds::cache::SnapshotCache`] for it.

use std::sync::Arc;

use nuncio_core::store::{AllReports, Store};
use nuncio_xds::ir::Ir;
use tokio::sync::{Notify, futures::Notified, watch};

/// The gateway after a round of the publish loop.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The snapshot that was published last; see [`crate::journal`] for what it changed and why.
    pub seq: u64,
    /// What is served.
    pub ir: Ir,
    /// What there is to say about each object.
    pub reports: AllReports,
}

/// Where readers get the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateways {
    current: watch::Sender<Option<Arc<Gateway>>>,
    wanted: Arc<Notify>,
}

impl Default for Gateways {
    fn default() -> Self {
        Self {
            current: watch::Sender::new(None),
            wanted: Arc::default(),
        }
    }
}

impl Gateways {
    /// Receives the gateway now and after each round. It is `None` until the publish loop has noticed that there is a reader, or
    /// has published something; `wait_for(Option::is_some)` waits for that.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Gateway>>> {
        let receiver = self.current.subscribe();
        self.wanted.notify_one();
        receiver
    }

    /// Completes when there is a new reader.
    pub(crate) fn wanted(&self) -> Notified<'_> {
        self.wanted.notified()
    }

    /// Shows what the Store has, if there is a reader.
    pub(crate) fn show(&self, seq: u64, store: &Store) {
        let is_read = self.current.receiver_count() > 0;
        if !is_read && self.current.borrow().is_none() {
            return;
        }
        let gateway = is_read.then(|| {
            Arc::new(Gateway {
                seq,
                ir: store.ir().clone(),
                reports: store.reports().clone(),
            })
        });
        self.current.send_replace(gateway);
    }
}
