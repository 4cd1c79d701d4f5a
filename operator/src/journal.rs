//! The journal of changes: what was published last, why, what each publication changed, and when Envoys had it.
//!
//! In: each snapshot, from the publish loop; how far Envoys are, from the [`Fleet`]. Out: [`Entry`]s for whoever asks. Metrics
//! ([`measure`]) are the first reader; diagnostics, traces and a timeline are meant to be others. Entries name objects, resources
//! and Envoys, and have no content of any: no Secret's data gets here.
//!
//! The journal is bounded in entries and in bytes ([`Limits`]), whatever is published: of a publication with very many causes or
//! resources, the first ones are listed and all are counted. Acknowledgements are not kept by publication and Envoy: see
//! [`Delivery`] for what is.
//!
//! Nothing is computed for readers before they ask. Recording costs a few allocations for each publication and none for each Envoy.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nuncio_xds::fleet::{Delivery, Fleet, Means, Step};
use tokio::sync::Notify;

pub use self::publication::{Cause, Causes, LISTED, Publication, Reason};
pub(crate) use self::{publication::Pending, round::Round};
use crate::metrics::Metrics;

mod publication;
mod round;

/// How much the journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Publications.
    pub entries: usize,
    /// Their size in bytes ([`Publication::size`]).
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: nuncio_xds::fleet::STEPS,
            bytes: 1 << 20,
        }
    }
}

/// A publication, and when Envoys had it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was published.
    pub publication: Arc<Publication>,
    /// The first and the slowest Envoy of this replica, as of when the entry was read.
    pub delivery: Delivery,
}

/// The journal. Cheap to clone: clones share their content. The publish loop writes it, and readers never wait for that loop: each
/// takes the lock for as long as it takes to copy pointers.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Arc<Mutex<Log>>,
    fleet: Fleet,
    /// Notified if Envoys acknowledge a snapshot before it is recorded.
    late: Arc<Notify>,
}

impl Journal {
    /// An empty journal. The fleet is the one that gets the snapshots.
    #[must_use]
    pub fn new(fleet: Fleet, limits: Limits) -> Self {
        let log = Log {
            limits,
            publications: VecDeque::new(),
            bytes: 0,
            newest: 0,
        };
        Self {
            log: Arc::new(Mutex::new(log)),
            fleet,
            late: Arc::default(),
        }
    }

    /// Adds a publication, which must be newer than those before.
    pub(crate) fn record(&self, publication: Publication) {
        let seq = publication.seq;
        self.lock().push(publication);
        if *self.fleet.subscribe_complete().borrow() >= seq {
            self.late.notify_one();
        }
    }

    /// The entries that are kept of snapshots after this one, oldest first; those of all with 0.
    #[must_use]
    pub fn entries_after(&self, seq: u64) -> Vec<Entry> {
        let publications: Vec<_> = self.lock().after(seq).cloned().collect();
        let entries = publications.into_iter();
        entries
            .map(|publication| Entry {
                delivery: self.fleet.delivery(publication.seq),
                publication,
            })
            .collect()
    }

    /// The entry of a snapshot, if it is kept.
    #[must_use]
    pub fn entry(&self, seq: u64) -> Option<Entry> {
        let publication = self.lock().get(seq)?.clone();
        Some(Entry {
            publication,
            delivery: self.fleet.delivery(seq),
        })
    }

    /// The snapshots that changed a resource, with what they changed: its history, as far as it is kept and listed; oldest first.
    #[must_use]
    pub fn history(&self, kind: nuncio_xds::ResourceType, name: &str) -> Vec<Entry> {
        let has = |entry: &Entry| {
            let mut changes = entry.publication.difference.changes.iter();
            changes.any(|change| change.kind == kind && *change.name == *name)
        };
        let mut entries = self.entries_after(0);
        entries.retain(has);
        entries
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The publications that are kept.
#[derive(Debug)]
struct Log {
    limits: Limits,
    /// By their numbers, oldest first.
    publications: VecDeque<Arc<Publication>>,
    bytes: usize,
    /// The last one, kept or not.
    newest: u64,
}

impl Log {
    fn push(&mut self, publication: Publication) {
        self.newest = publication.seq;
        self.bytes += publication.size();
        self.publications.push_back(Arc::new(publication));
        while self.bytes > self.limits.bytes || self.publications.len() > self.limits.entries {
            let Some(oldest) = self.publications.pop_front() else {
                return;
            };
            self.bytes -= oldest.size();
        }
    }

    fn after(&self, seq: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let before = |publication: &Arc<Publication>| publication.seq <= seq;
        self.publications
            .range(self.publications.partition_point(before)..)
    }

    fn get(&self, seq: u64) -> Option<&Arc<Publication>> {
        let found = self.after(seq.checked_sub(1)?).next();
        found.filter(|publication| publication.seq == seq)
    }
}

/// Measures how long it takes until all connected Envoys have acknowledged changes. Runs for ever.
pub async fn measure(journal: Journal, metrics: Metrics) {
    let mut complete = journal.fleet.subscribe_complete();
    let mut measured = 0;
    loop {
        for time in journal.delivered(&mut measured) {
            metrics.change_acknowledged.observe(time.as_secs_f64());
        }
        tokio::select! {
            changed = complete.changed() => if changed.is_err() {
                return;
            },
            () = journal.late.notified() => {}
        }
    }
}

impl Journal {
    /// Times from receiving changes to their acknowledgement by all Envoys, of the snapshots after this one; sets it to the last.
    fn delivered(&self, measured: &mut u64) -> Vec<Duration> {
        let steps = self.fleet.complete_after(*measured);
        let log = self.lock();
        let mut times = Vec::new();
        for Step { seq, at, means, .. } in steps {
            if seq > log.newest {
                // not recorded yet
                break;
            }
            let publications = log.after(*measured);
            *measured = seq;
            if means == Means::Joined {
                continue;
            }
            let publications = publications.take_while(|publication| publication.seq <= seq);
            let received = publications.filter_map(|publication| publication.received());
            times.extend(received.map(|received| at.saturating_duration_since(received)));
        }
        times
    }
}

#[cfg(test)]
mod tests;
