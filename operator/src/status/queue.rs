//! Which status to write next. In: reports, acknowledgements of Envoys, and the statuses that objects have. Out: writes,
//! one at a time, each computed at the last moment. No I/O and no clock: the time is an argument.
//!
//! - One entry for each object: a newer report replaces an older one, and the object that changed last is written first.
//! - A new report waits for the Envoys' acknowledgement before it is written, but not for long ([`SETTLE`]), so that an
//!   edit costs one write and not two.
//! - A status that the object already has is not written.
//! - When Envoys connect and disconnect, every object's count changes. Objects are checked once the fleet has been stable
//!   for a while ([`STABLE`]), and where only the count differs, writes are slow ([`COUNT_RATE`]): scaling a fleet must
//!   not cause ten thousand writes. Until then no object loses `Programmed` because an Envoy is reconnecting.
//! - A new leader checks all objects, after the same pause.
//! - One call looks at a bounded number of objects ([`CHECKS`]), however many there are: the publish loop waits for calls.
//! - A status that another installation with the same id writes, and which precedes this one by name, is left to it. It is
//!   gone if a status stays behind its object's generation for long ([`YIELD`]): from then on this installation writes,
//!   until the other one does again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    bucket::Bucket,
    condition::{self, Facts},
    fleet::Acknowledged,
    observed::Observed,
};
use nuncio_core::{
    object::{Kind, ObjectRef},
    report::Report,
};

/// How long a new report waits for acknowledgement before its status is written.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the fleet must be stable before objects lose `Programmed` because of it.
const STABLE: Duration = Duration::from_secs(5);

/// Longest such delay while Envoys keep connecting and disconnecting.
const STABLE_LIMIT: Duration = Duration::from_secs(60);

/// Writes a second, and the burst.
const RATE: (u32, u32) = (50, 100);

/// The same for writes that only change the number of Envoys.
const COUNT_RATE: (u32, u32) = (5, 5);

/// Pauses after failed writes; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times()
    .with_jitter();

/// Longest pause after a failed write, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long another installation may take to write a status.
const YIELD: Duration = Duration::from_secs(600);

/// Objects that one call checks, and as many that it queues for a check.
const CHECKS: usize = 64;

/// What to do now.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Write this, then call [`Queue::done`].
    Write(Write),
    /// There is more to check: call again, after others had their turn.
    Continue,
    /// Nothing before this time, unless something changes.
    Wait(Option<Instant>),
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    /// The object.
    pub(crate) object: ObjectRef,
    /// The part of its status that Nuncio owns.
    pub(crate) status: Value,
}

/// Result of a write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The status that the object has now.
    Written(Observed),
    /// The object does not exist, or its kind has no status.
    Gone,
    /// The write failed and is retried.
    Failed,
}

/// Where an object is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not queued.
    Idle,
    /// In `later`, until then.
    Later(Instant),
    /// In `due`.
    Due,
    /// In `counts`.
    Counts,
    /// Being written; true if something changed meanwhile.
    InFlight(bool),
}

#[derive(Debug)]
struct Entry {
    report: Option<Arc<Report>>,
    /// The snapshot of the report.
    seq: u64,
    rejected: Option<String>,
    observed: Observed,
    place: Place,
    failures: usize,
    /// A status that was written and became another one, as the essences of both: not written again.
    futile: Option<(u64, u64)>,
    /// Since when the status is left to another installation and behind the object's generation.
    outdated: Option<Instant>,
}

/// The objects whose status may have to be written.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: BTreeMap<ObjectRef, Entry>,
    /// Objects by the snapshot of their report, to find those that an acknowledgement concerns.
    by_seq: BTreeMap<u64, BTreeSet<ObjectRef>>,
    rejected: BTreeSet<ObjectRef>,
    /// To be checked now, newest first.
    due: BTreeSet<(Reverse<u64>, ObjectRef)>,
    /// To be checked at a time.
    later: BTreeSet<(Instant, ObjectRef)>,
    /// Objects of which only the number of Envoys differs.
    counts: BTreeSet<ObjectRef>,
    acknowledged: Acknowledged,
    /// When all objects are checked, and since when that is delayed.
    sweep: Option<(Instant, Instant)>,
    /// Where a check of all objects continues.
    rest: Option<Bound<ObjectRef>>,
    /// Whether all are checked once more after that.
    again: bool,
    is_leader: bool,
    bucket: Bucket,
    count_bucket: Bucket,
    /// Objects whose status is left to another installation.
    yielded: BTreeSet<ObjectRef>,
    /// Installations that are gone, and when they last wrote.
    gone: BTreeMap<String, i64>,
    /// Installations that were met, each with the first object.
    met: BTreeMap<String, Option<ObjectRef>>,
    /// Objects that were looked at.
    #[cfg(test)]
    looks: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            rejected: BTreeSet::new(),
            due: BTreeSet::new(),
            later: BTreeSet::new(),
            counts: BTreeSet::new(),
            acknowledged: Acknowledged::default(),
            sweep: None,
            rest: None,
            again: false,
            is_leader: false,
            bucket: Bucket::new(RATE.0, RATE.1),
            count_bucket: Bucket::new(COUNT_RATE.0, COUNT_RATE.1),
            yielded: BTreeSet::new(),
            gone: BTreeMap::new(),
            met: BTreeMap::new(),
            #[cfg(test)]
            looks: 0,
        }
    }
}

impl Queue {
    /// Records the object's report as of snapshot `seq`; `None` when it was deleted or belongs to another instance.
    /// Returns the previous report.
    pub(crate) fn record(
        &mut self,
        seq: u64,
        object: &ObjectRef,
        report: Option<Arc<Report>>,
        now: Instant,
    ) -> Option<Arc<Report>> {
        let entry = self
            .entries
            .entry(object.clone())
            .or_insert_with(Entry::new);
        let (place, before) = (entry.place, entry.seq);
        // `due` and `by_seq` are ordered by the number that is about to change
        self.leave_seq(before, object);
        self.leave(object, place);
        let entry = self.entries.get_mut(object).expect("it was inserted above");
        let before = std::mem::replace(&mut entry.report, report);
        entry.seq = seq;
        entry.failures = 0;
        if entry.report.is_none() {
            self.entries.remove(object);
            return before;
        }
        if !matches!(place, Place::InFlight(_)) {
            entry.place = Place::Idle;
        }
        self.by_seq.entry(seq).or_default().insert(object.clone());
        if self.acknowledged.total() > 0
            && self.acknowledged.having(seq) == self.acknowledged.total()
        {
            self.check(object);
        } else {
            self.check_later(object, now + SETTLE);
        }
        before
    }

    /// Replaces the set of objects that an Envoy rejected, with its messages.
    pub(crate) fn reject(&mut self, rejected: Vec<(ObjectRef, String)>) {
        let mut before = std::mem::take(&mut self.rejected);
        for (object, message) in rejected {
            before.remove(&object);
            self.rejected.insert(object.clone());
            let Some(entry) = self.entries.get_mut(&object) else {
                continue;
            };
            if entry.rejected.as_ref() != Some(&message) {
                entry.rejected = Some(message);
                self.check(&object);
            }
        }
        for object in before {
            if let Some(entry) = self.entries.get_mut(&object) {
                entry.rejected = None;
                self.check(&object);
            }
        }
    }

    /// Records the status that the object has.
    pub(crate) fn observe(&mut self, object: &ObjectRef, observed: Observed) {
        let entry = self
            .entries
            .entry(object.clone())
            .or_insert_with(Entry::new);
        if entry.observed != observed {
            entry.observed = observed;
            self.check(object);
        }
    }

    /// Objects whose status says that Envoy rejects them.
    pub(crate) fn observed_rejected(&self) -> BTreeSet<ObjectRef> {
        let rejected = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.observed.is_rejected);
        rejected.map(|(object, _)| object.clone()).collect()
    }

    /// Forgets a deleted object.
    pub(crate) fn forget(&mut self, object: &ObjectRef) {
        if let Some(entry) = self.entries.remove(object) {
            self.leave_seq(entry.seq, object);
            self.due.remove(&(Reverse(entry.seq), object.clone()));
            self.leave(object, entry.place);
            self.yielded.remove(object);
        }
    }

    /// The objects of a kind.
    pub(crate) fn objects(&self, kind: Kind) -> Vec<ObjectRef> {
        self.entries
            .keys()
            .filter(|object| object.kind == kind)
            .cloned()
            .collect()
    }

    /// Records what the connected Envoys have acknowledged.
    pub(crate) fn acknowledge(&mut self, acknowledged: Acknowledged, now: Instant) {
        if acknowledged == self.acknowledged {
            return;
        }
        let before = std::mem::replace(&mut self.acknowledged, acknowledged);
        if !self.acknowledged.is_ahead_of(&before) {
            self.sweep_after(STABLE, now);
        }
        if self.acknowledged.total() != before.total() {
            return;
        }
        // those that changed last
        let mut concerned: Vec<ObjectRef> = self
            .acknowledged
            .differences(&before)
            .flat_map(|(after, up_to)| self.by_seq.range(after.saturating_add(1)..=up_to).rev())
            .flat_map(|(_seq, objects)| objects)
            .take(CHECKS + 1)
            .cloned()
            .collect();
        if concerned.len() > CHECKS {
            concerned.truncate(CHECKS);
            self.check_all();
        }
        for object in concerned {
            let seq = self.entries.get(&object).map_or(0, |entry| entry.seq);
            if self.acknowledged.having(seq) == self.acknowledged.total() {
                self.check(&object);
            }
        }
    }

    /// Sets whether this replica is the leader. A new leader checks all objects.
    pub(crate) fn lead(&mut self, is_leader: bool, now: Instant) {
        if is_leader == self.is_leader {
            return;
        }
        self.is_leader = is_leader;
        if is_leader {
            self.sweep_after(STABLE, now);
            self.check_all();
            return;
        }
        self.rest = None;
        self.again = false;
        self.due.clear();
        self.later.clear();
        self.counts.clear();
        for entry in self.entries.values_mut() {
            if !matches!(entry.place, Place::InFlight(_)) {
                entry.place = Place::Idle;
            }
        }
    }

    /// Number of objects that are queued.
    pub(crate) fn pending(&self) -> usize {
        self.due.len() + self.later.len() + self.counts.len()
    }

    /// Number of objects whose status is left to another installation.
    pub(crate) fn yielded(&self) -> usize {
        self.yielded.len()
    }

    /// Installations that statuses are left to, if they are new, each with the first object.
    pub(crate) fn take_met(&mut self) -> Vec<(ObjectRef, String)> {
        let new = self.met.iter_mut();
        new.filter_map(|(name, object)| Some((object.take()?, name.clone())))
            .collect()
    }

    /// What to do now. `clock` is the time for timestamps in the status.
    pub(crate) fn next(&mut self, now: Instant, clock: Timestamp) -> Next {
        if !self.is_leader {
            return Next::Wait(None);
        }
        self.promote(now);
        let mut checks = 0;
        while checks < CHECKS
            && self.bucket.available_at(now) <= now
            && let Some((_seq, object)) = self.due.pop_first()
        {
            checks += 1;
            let Some(status) = self.evaluate(&object, clock) else {
                continue;
            };
            if self.yields(&object, now) {
                continue;
            }
            if self.is_count_only(&object, &status) {
                self.place(&object, Place::Counts);
                self.counts.insert(object);
            } else if !self.is_premature(&object, &status, now) && self.bucket.take(now) {
                return self.write(object, status);
            }
        }
        let is_settled = self.sweep.is_none() && self.rest.is_none();
        while checks < CHECKS
            && is_settled
            && self.count_bucket.available_at(now) <= now
            && let Some(object) = self.counts.pop_first()
        {
            checks += 1;
            if let Some(status) = self.evaluate(&object, clock)
                && self.count_bucket.take(now)
            {
                return self.write(object, status);
            }
        }
        let has_come = self.later.first().is_some_and(|(at, _object)| *at <= now);
        if checks == CHECKS || self.rest.is_some() || has_come {
            return Next::Continue;
        }
        let due = (!self.due.is_empty()).then(|| self.bucket.available_at(now));
        // before a pending sweep the counts may still change
        let counts =
            (is_settled && !self.counts.is_empty()).then(|| self.count_bucket.available_at(now));
        let later = self.later.first().map(|(at, _object)| *at);
        let sweep = self.sweep.map(|(at, _since)| at);
        Next::Wait([due, counts, later, sweep].into_iter().flatten().min())
    }

    /// Records the result of a write that [`Queue::next`] returned.
    pub(crate) fn done(&mut self, write: &Write, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(&write.object) else {
            return;
        };
        let has_changed = entry.place == Place::InFlight(true);
        entry.place = Place::Idle;
        match outcome {
            Outcome::Written(observed) => {
                let desired = observed_of(write);
                entry.failures = 0;
                entry.futile = (desired.essence != observed.essence)
                    .then_some((desired.essence, observed.essence));
                entry.observed = Observed {
                    has_tls_secret: entry.observed.has_tls_secret,
                    ..observed
                };
            }
            Outcome::Gone => {
                entry.futile = Some((observed_of(write).essence, entry.observed.essence));
            }
            Outcome::Failed => {
                // only the count is kept: most objects never fail
                let pause = BACKOFF.build().nth(entry.failures).unwrap_or(LONGEST_PAUSE);
                entry.failures = entry.failures.saturating_add(1);
                self.check_later(&write.object, now + pause);
                return;
            }
        }
        if has_changed {
            self.check(&write.object);
        }
    }

    /// The status that the object should have, unless it has it. Leaves the object idle.
    fn evaluate(&mut self, object: &ObjectRef, clock: Timestamp) -> Option<Value> {
        self.look();
        let entry = self.entries.get_mut(object)?;
        entry.place = Place::Idle;
        let status = condition::status(
            object.kind,
            Facts {
                report: entry.report.as_deref()?,
                seq: entry.seq,
                rejected: entry.rejected.as_deref(),
                acknowledged: &self.acknowledged,
                observed: &entry.observed,
            },
            clock,
        );
        let desired = Observed::of(object.kind, &json!({ "status": status }));
        let is_futile = entry.futile == Some((desired.essence, entry.observed.essence));
        (desired.digest != entry.observed.digest && !is_futile).then_some(status)
    }

    /// Whether the status is left to another installation.
    fn yields(&mut self, object: &ObjectRef, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(object) else {
            return false;
        };
        let rival = entry.observed.rival.clone();
        let Some(rival) = rival.filter(|rival| self.gone.get(&rival.name) < Some(&rival.wrote))
        else {
            entry.outdated = None;
            self.yielded.remove(object);
            return false;
        };
        let is_behind = entry
            .report
            .as_ref()
            .is_some_and(|report| entry.observed.generation < report.generation);
        if self.yielded.insert(object.clone()) {
            let first = self.met.entry(rival.name.clone());
            first.or_insert_with(|| Some(object.clone()));
        }
        if !is_behind {
            entry.outdated = None;
            return true;
        }
        let since = *entry.outdated.get_or_insert(now);
        if now < since + YIELD {
            self.check_later(object, since + YIELD);
            return true;
        }
        entry.outdated = None;
        self.gone.insert(rival.name, rival.wrote);
        let waiting = std::mem::take(&mut self.yielded);
        for other in waiting.iter().filter(|other| *other != object) {
            self.check(other);
        }
        false
    }

    /// Counts the objects that are looked at, for tests.
    fn look(&mut self) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
    }

    fn is_count_only(&self, object: &ObjectRef, status: &Value) -> bool {
        let desired = Observed::of(object.kind, &json!({ "status": status }));
        self.entries
            .get(object)
            .is_some_and(|entry| entry.observed.essence == desired.essence)
    }

    /// Whether the status would take `Programmed` away while the fleet is not stable yet. The sweep that follows checks
    /// the object again.
    fn is_premature(&self, object: &ObjectRef, status: &Value, now: Instant) -> bool {
        let Some(entry) = self.entries.get(object) else {
            return true;
        };
        let Some(report) = entry.report.as_ref() else {
            return true;
        };
        let desired = Observed::of(object.kind, &json!({ "status": status }));
        self.sweep.is_some_and(|(at, _since)| now < at)
            && report.in_service
            && entry.rejected.is_none()
            && entry.observed.is_programmed_at(report.generation)
            && !desired.is_programmed_at(report.generation)
    }

    fn write(&mut self, object: ObjectRef, status: Value) -> Next {
        self.place(&object, Place::InFlight(false));
        Next::Write(Write { object, status })
    }

    /// Moves objects whose time has come.
    fn promote(&mut self, now: Instant) {
        for _ in 0..CHECKS {
            if self.later.first().is_none_or(|(at, _object)| *at > now) {
                break;
            }
            if let Some((_at, object)) = self.later.pop_first() {
                self.place(&object, Place::Idle);
                self.check(&object);
            }
        }
        if self.sweep.is_some_and(|(at, _since)| at <= now) {
            self.sweep = None;
            self.check_all();
        }
        self.check_rest();
    }

    /// Starts a check of all objects, after the one that is going on.
    fn check_all(&mut self) {
        match self.rest {
            Some(_) => self.again = true,
            None => self.rest = Some(Bound::Unbounded),
        }
    }

    /// Queues the next objects of a check of all.
    fn check_rest(&mut self) {
        let Some(after) = self.rest.take() else {
            return;
        };
        let next = self.entries.range((after, Bound::Unbounded));
        let next: Vec<ObjectRef> = next
            .take(CHECKS)
            .map(|(object, _)| object.clone())
            .collect();
        for object in &next {
            self.check(object);
        }
        if next.len() == CHECKS {
            self.rest = next.into_iter().next_back().map(Bound::Excluded);
        } else if std::mem::take(&mut self.again) {
            self.rest = Some(Bound::Unbounded);
        }
    }

    fn sweep_after(&mut self, pause: Duration, now: Instant) {
        let since = self.sweep.map_or(now, |(_at, since)| since);
        self.sweep = Some(((now + pause).min(since + STABLE_LIMIT), since));
    }

    fn place(&mut self, object: &ObjectRef, place: Place) {
        if let Some(entry) = self.entries.get_mut(object) {
            entry.place = place;
        }
    }

    /// Queues an object for a check as soon as the bucket allows a write.
    fn check(&mut self, object: &ObjectRef) {
        self.look();
        if !self.is_leader {
            return;
        }
        let Some(entry) = self.entries.get_mut(object) else {
            return;
        };
        if entry.report.is_none() {
            return;
        }
        let place = entry.place;
        if let Place::InFlight(_) = place {
            entry.place = Place::InFlight(true);
            return;
        }
        // a failed write is retried at its own time
        if entry.failures > 0 && matches!(place, Place::Later(_)) {
            return;
        }
        entry.place = Place::Due;
        let seq = entry.seq;
        self.leave(object, place);
        self.due.insert((Reverse(seq), object.clone()));
    }

    fn check_later(&mut self, object: &ObjectRef, at: Instant) {
        if !self.is_leader {
            return;
        }
        let Some(entry) = self.entries.get_mut(object) else {
            return;
        };
        let place = entry.place;
        if let Place::InFlight(_) = place {
            entry.place = Place::InFlight(true);
            return;
        }
        entry.place = Place::Later(at);
        self.leave(object, place);
        self.later.insert((at, object.clone()));
    }

    /// Removes the object from those of a snapshot.
    fn leave_seq(&mut self, seq: u64, object: &ObjectRef) {
        if let Some(objects) = self.by_seq.get_mut(&seq) {
            objects.remove(object);
            if objects.is_empty() {
                self.by_seq.remove(&seq);
            }
        }
    }

    /// Removes the object from its queue.
    fn leave(&mut self, object: &ObjectRef, place: Place) {
        match place {
            Place::Idle | Place::InFlight(_) => {}
            Place::Later(at) => {
                self.later.remove(&(at, object.clone()));
            }
            Place::Due => {
                let seq = self.entries.get(object).map_or(0, |entry| entry.seq);
                self.due.remove(&(Reverse(seq), object.clone()));
            }
            Place::Counts => {
                self.counts.remove(object);
            }
        }
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            report: None,
            seq: 0,
            rejected: None,
            observed: Observed::default(),
            place: Place::Idle,
            failures: 0,
            futile: None,
            outdated: None,
        }
    }
}

/// The status after this write, if nothing changes it on the way.
fn observed_of(write: &Write) -> Observed {
    Observed::of(write.object.kind, &json!({ "status": write.status }))
}

#[cfg(test)]
mod tests;
