//! Status: what there is to say about objects, written back to them.
//!
//! The [`Book`] keeps the newest report of each object, who is connected, and what the objects' status says now;
//! [`write`] writes what differs, on the leader only. Nothing here can hold traffic up: the publish loop leaves its
//! reports and goes on.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::Timestamp;
use tokio::sync::Notify;

use self::{fleet::Acknowledged, queue::Queue};
use crate::{
    object::{Kind, ObjectRef},
    report::Report,
};

mod bucket;
mod condition;
mod fleet;
mod observed;
mod queue;
pub mod replica;
mod writer;

pub use observed::Observed;
pub use writer::write;

/// What there is to say about objects. Cheap to clone: clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct Book {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Book {
    /// These objects have these reports as of snapshot `seq`; `None`: the object is gone.
    pub fn record(&self, seq: u64, reports: Vec<(ObjectRef, Option<Arc<Report>>)>) {
        let now = Instant::now();
        self.change(|queue| {
            for (object, report) in reports {
                if object.kind.has_status() {
                    let report = report.map(|report| report.as_ref().clone());
                    queue.record(seq, &object, report, now);
                }
            }
        });
    }

    /// The whole set of objects of which an Envoy refuses something, with its words.
    pub fn reject(&self, rejected: Vec<(ObjectRef, String)>) {
        let of_status = rejected
            .into_iter()
            .filter(|(object, _)| object.kind.has_status());
        self.change(|queue| queue.reject(of_status.collect()));
    }

    /// What an object's status says now.
    pub fn observe(&self, object: &ObjectRef, observed: Observed) {
        self.change(|queue| queue.observe(object, observed));
    }

    /// What the status of all objects of a kind says now; others of the kind are gone.
    pub fn observe_all(&self, kind: Kind, all: Vec<(ObjectRef, Observed)>) {
        self.change(|queue| {
            let mut gone = queue.objects(kind);
            let present: std::collections::BTreeSet<&ObjectRef> =
                all.iter().map(|(object, _)| object).collect();
            gone.retain(|object| !present.contains(object));
            for (object, observed) in all {
                queue.observe(&object, observed);
            }
            for object in gone {
                queue.forget(&object);
            }
        });
    }

    /// An object is gone.
    pub fn forget(&self, object: &ObjectRef) {
        self.change(|queue| queue.forget(object));
    }

    /// Whether this replica writes.
    pub fn lead(&self, is_leader: bool) {
        self.change(|queue| queue.lead(is_leader, Instant::now()));
    }

    /// Who is connected, and how far they are.
    fn acknowledge(&self, acknowledged: Acknowledged) {
        self.change(|queue| queue.acknowledge(acknowledged, Instant::now()));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let result = change(&mut self.lock());
        self.inner.changed.notify_one();
        result
    }

    fn next(&self) -> queue::Next {
        self.lock().next(Instant::now(), Timestamp::now())
    }

    fn done(&self, write: &queue::Write, outcome: queue::Outcome) {
        self.lock().done(write, outcome, Instant::now());
    }

    fn pending(&self) -> usize {
        self.lock().pending()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.inner
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
