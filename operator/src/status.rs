//! Status of objects: reports and the progress of Envoys, written back as conditions.
//!
//! The [`Book`] holds the newest report of each object, what the connected Envoys acknowledged, and the status that each
//! object has now; [`write`] writes what differs, on the leader only. Nothing here delays traffic: the publish loop never
//! waits for a write.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::Timestamp;
use tokio::sync::Notify;
use tracing::warn;

use self::{fleet::Acknowledged, queue::Queue};
use crate::api::Versions;
use nuncio_core::{
    object::{Kind, ObjectRef},
    report::{Report, Severity},
    settings::Fleets,
};

mod bucket;
mod condition;
mod fleet;
mod manager;
mod observed;
mod pace;
mod queue;
pub mod replica;
mod request;
mod writer;

pub use condition::Gateway;
pub use manager::Manager;
pub use observed::Observed;
pub use writer::write;

/// Reports and statuses of objects. Cheap to clone: clones share their content.
///
/// Reports, rejections and acknowledgements that it records are those of one fleet; see [`Book::of_fleets`].
#[derive(Clone, Debug, Default)]
pub struct Book {
    inner: Arc<Inner>,
    fleet: usize,
    /// ID of the fleet, if there are several.
    id: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    changed: Notify,
    versions: Versions,
}

impl Book {
    /// A book for each of these fleets, in their order. They share their content, so that an object has one status.
    #[must_use]
    pub fn of_fleets(fleets: &Fleets) -> Vec<Self> {
        if !fleets.are_several() {
            return vec![Self::default()];
        }
        let ids: Vec<Arc<str>> = fleets.ids().map(Into::into).collect();
        let inner = Arc::new(Inner {
            queue: Mutex::new(Queue::of_fleets(ids.iter().cloned())),
            ..Inner::default()
        });
        let book = |(fleet, id)| Self {
            inner: inner.clone(),
            fleet,
            id: Some(id),
        };
        ids.into_iter().enumerate().map(book).collect()
    }

    /// The version in which each kind is read and written: a status is written to the version that is read.
    #[must_use]
    pub fn versions(&self) -> &Versions {
        &self.inner.versions
    }

    /// Records the reports of objects as of snapshot `seq`; `None` for a deleted object.
    pub fn record(&self, seq: u64, reports: Vec<(ObjectRef, Option<Arc<Report>>)>) {
        let now = Instant::now();
        let mut differing = Vec::new();
        self.change(|queue| {
            for (object, report) in reports {
                let before = if object.kind.has_status() {
                    // what an Ingress stands for is not in the cluster
                    let own = report.clone().filter(|report| report.owner.is_none());
                    queue.record(self.fleet, seq, &object, own, now)
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
        log(self.id.as_deref(), &differing);
    }

    /// Replaces the set of objects that an Envoy rejected, with its messages.
    pub fn reject(&self, rejected: Vec<(ObjectRef, String)>) {
        let of_status = rejected
            .into_iter()
            .filter(|(object, _)| object.kind.has_status());
        self.change(|queue| queue.reject(self.fleet, of_status.collect()));
    }

    /// Objects whose status says that Envoy rejects them.
    #[must_use]
    pub fn observed_rejected(&self) -> BTreeSet<ObjectRef> {
        self.lock().observed_rejected()
    }

    /// Records the status that an object has.
    pub fn observe(&self, object: &ObjectRef, observed: Observed) {
        self.change(|queue| queue.observe(object, observed));
    }

    /// The status that an object has.
    #[cfg(test)]
    pub(crate) fn observed(&self, object: &ObjectRef) -> Option<Observed> {
        self.lock().observed(object)
    }

    /// Records the statuses of all objects of a kind; other objects of the kind were deleted.
    pub fn observe_all(&self, kind: Kind, all: Vec<(ObjectRef, Observed)>) {
        let mut gone = self.lock().objects(kind);
        let present: BTreeSet<&ObjectRef> = all.iter().map(|(object, _)| object).collect();
        gone.retain(|object| !present.contains(object));
        for object in gone {
            self.forget(&object);
        }
        let mut all = all.into_iter();
        loop {
            // others have their turn between these
            let some: Vec<_> = all.by_ref().take(OBSERVED).collect();
            if some.is_empty() {
                return;
            }
            self.change(|queue| {
                for (object, observed) in some {
                    queue.observe(&object, observed);
                }
            });
        }
    }

    /// Forgets a deleted object.
    pub fn forget(&self, object: &ObjectRef) {
        self.change(|queue| queue.forget(object));
    }

    /// Sets whether this replica is the leader, which writes.
    pub fn lead(&self, is_leader: bool) {
        self.change(|queue| queue.lead(is_leader, Instant::now()));
    }

    /// Sets the Service in front of the Envoys, which some statuses show.
    pub fn set_gateway(&self, gateway: Gateway) {
        self.change(|queue| queue.set_gateway(gateway));
    }

    /// Records what the connected Envoys have acknowledged.
    fn acknowledge(&self, acknowledged: Acknowledged) {
        self.change(|queue| queue.acknowledge(self.fleet, acknowledged, Instant::now()));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let result = change(&mut self.lock());
        self.inner.changed.notify_one();
        result
    }

    fn next(&self) -> queue::Next {
        let (next, met) = {
            let mut queue = self.lock();
            let next = queue.next(Instant::now(), Timestamp::now());
            (next, queue.take_met())
        };
        for (object, other) in met {
            warn!(%object, other, "another installation with the same ambassador_id writes status; leaving it to that one");
        }
        next
    }

    /// Number of objects whose status is left to another installation.
    fn yielded(&self) -> usize {
        self.lock().yielded()
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

/// Objects that are observed at once.
const OBSERVED: usize = 64;

/// Objects whose problems are logged for one snapshot.
const LOGGED: usize = 50;

/// Logs the problems of objects: without a cluster they are shown nowhere else.
fn log(fleet: Option<&str>, reports: &[(ObjectRef, Arc<Report>)]) {
    let with_problems = || reports.iter().filter(|(_, report)| !report.is_clean());
    for (object, report) in with_problems().take(LOGGED) {
        for problem in &report.problems {
            let path = (!problem.path.is_empty()).then_some(problem.path.as_str());
            let (severity, problem) = (problem.severity, problem.message.as_str());
            match severity {
                Severity::Error => warn!(%object, fleet, path, problem, "object not served"),
                Severity::Warning => warn!(%object, fleet, path, problem, "object has a problem"),
                Severity::Notice => {}
            }
        }
    }
    let more = with_problems().count().saturating_sub(LOGGED);
    if more > 0 {
        warn!(fleet, more, "more objects have problems");
    }
}
