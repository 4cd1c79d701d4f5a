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
use tracing::warn;

use self::{fleet::Acknowledged, queue::Queue};
use nuncio_core::{
    object::{Kind, ObjectRef},
    report::{Report, Severity},
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
        let mut differing = Vec::new();
        self.change(|queue| {
            for (object, report) in reports {
                let before = if object.kind.has_status() {
                    queue.record(seq, &object, report.as_deref().cloned(), now)
                } else {
                    None
                };
                if let Some(report) = report
                    && before.is_none_or(|before| before.problems != report.problems)
                {
                    differing.push((object, report));
                }
            }
        });
        log(&differing);
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

/// Objects whose problems are logged at a time.
const LOGGED: usize = 50;

/// Logs what is wrong with objects: without a cluster there is nowhere else to look.
fn log(reports: &[(ObjectRef, Arc<Report>)]) {
    let wrong = || reports.iter().filter(|(_, report)| !report.is_clean());
    for (object, report) in wrong().take(LOGGED) {
        for problem in &report.problems {
            let (path, text) = (&problem.path, &problem.message);
            match problem.severity {
                Severity::Error => warn!(%object, path, text, "nothing of the object is served"),
                Severity::Warning => warn!(%object, path, text, "the object has a problem"),
                Severity::Notice => {}
            }
        }
    }
    let more = wrong().count().saturating_sub(LOGGED);
    if more > 0 {
        warn!(more, "further objects have problems");
    }
}
