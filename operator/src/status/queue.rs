//! Which status to write next. In: reports, acknowledgements of Envoys, and the statuses that objects have. Out: writes,
//! each computed at the last moment, at most one of an object at a time. No I/O and no clock: the time is an argument.
//!
//! - One entry for each object: a newer report replaces an older one.
//! - An object whose status is behind its generation, which is one that a user has edited, is written before those whose
//!   status changes for another reason, and of these and of those the one that changed last: an edit of a Module changes
//!   the statuses of ten thousand Mappings, and its author waits for that of the Module.
//! - A new report waits for the Envoys' acknowledgement before it is written, but not for long ([`SETTLE`]), so that an
//!   edit costs one write and not two.
//! - A status that the object already has is not written.
//! - When Envoys connect and disconnect, every object's count changes. Objects are checked once the fleet has been stable
//!   for a while ([`STABLE`]), and where only the count differs, writes are slow ([`COUNT_RATE`]): scaling a fleet must
//!   not cause ten thousand writes. Until then no object loses `Programmed` because an Envoy is reconnecting.
//! - A new leader checks all objects, after the same pause.
//! - One call looks at a bounded number of objects ([`CHECKS`]), however many there are: the publish loop waits for calls.
//! - An object that several fleets serve has one status: a part of each, with its report, snapshot and acknowledgements.
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
use serde_json::Value;

use super::{
    bucket::Bucket,
    condition::{self, Facts, Gateway, Share},
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

/// Most writes a second, and the burst: ten thousand statuses in less than a minute. An apiserver that is busy gets fewer
/// (see [`super::pace`]).
const RATE: (u32, u32) = (200, 100);

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
    /// The status that the object has after this write, if nothing changes it on the way.
    pub(crate) desired: Observed,
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
    /// The apiserver has not tried it and asks for a pause, which the caller makes.
    Throttled,
}

/// Where an object is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not queued.
    Idle,
    /// In `later`, until then.
    Later(Instant),
    /// In `due`, with this order.
    Due(Order),
    /// In `counts`.
    Counts,
    /// Being written; true if something changed meanwhile.
    InFlight(bool),
}

/// What is written first: what a user has edited, then what changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    is_current: bool,
    round: Reverse<u64>,
}

/// The status that is being written.
#[derive(Debug)]
struct Writing {
    digest: u64,
    /// Whether the watch has shown it, so that what the watch shows is newer than the answer.
    is_shown: bool,
}

/// What a fleet has of an object.
#[derive(Debug)]
struct Part {
    fleet: usize,
    report: Arc<Report>,
    /// The snapshot of the report.
    seq: u64,
}

/// A fleet.
#[derive(Debug, Default)]
struct Fleet {
    /// Its ID, if there are several.
    id: Option<Arc<str>>,
    acknowledged: Acknowledged,
    /// Objects that its Envoys reject, with the message.
    rejected: BTreeMap<ObjectRef, String>,
}

#[derive(Debug)]
struct Entry {
    /// By fleet; nearly always one.
    parts: Vec<Part>,
    /// When a report was last recorded, as a number.
    round: u64,
    observed: Observed,
    place: Place,
    failures: usize,
    writing: Option<Writing>,
    /// A status that was written and became another one, as the essences of both: not written again.
    futile: Option<(u64, u64)>,
    /// Since when the status is left to another installation and behind the object's generation.
    outdated: Option<Instant>,
}

/// The objects whose status may have to be written.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: BTreeMap<ObjectRef, Entry>,
    /// Objects by the fleet and the snapshot of their report, to find those that an acknowledgement concerns.
    by_seq: BTreeMap<(usize, u64), BTreeSet<ObjectRef>>,
    fleets: Vec<Fleet>,
    /// The fleet and snapshot that reports were last recorded for, and the number of that: snapshots of different fleets have
    /// no order.
    round: ((usize, u64), u64),
    /// To be checked now.
    due: BTreeSet<(Order, ObjectRef)>,
    /// To be checked at a time.
    later: BTreeSet<(Instant, ObjectRef)>,
    /// Objects of which only the number of Envoys differs.
    counts: BTreeSet<ObjectRef>,
    /// When all objects are checked, and since when that is delayed.
    sweep: Option<(Instant, Instant)>,
    /// Where a check of all objects continues.
    rest: Option<Bound<ObjectRef>>,
    /// Whether all are checked once more after that.
    again: bool,
    /// Whether this is that check, which no write waits for: there could be one after the other.
    is_repeated: bool,
    is_leader: bool,
    /// The Service in front of the Envoys.
    gateway: Gateway,
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

/// Of one fleet.
impl Default for Queue {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            fleets: vec![Fleet::default()],
            round: ((0, 0), 0),
            due: BTreeSet::new(),
            later: BTreeSet::new(),
            counts: BTreeSet::new(),
            sweep: None,
            rest: None,
            again: false,
            is_repeated: false,
            is_leader: false,
            gateway: Gateway::Unknown,
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
    /// Of several fleets, with these IDs.
    pub(crate) fn of_fleets(ids: impl Iterator<Item = Arc<str>>) -> Self {
        let fleet = |id| Fleet {
            id: Some(id),
            ..Fleet::default()
        };
        Self {
            fleets: ids.map(fleet).collect(),
            ..Self::default()
        }
    }

    /// Records a fleet's report of the object as of its snapshot `seq`; `None` when the object was deleted or is not for the
    /// fleet. Returns the previous report.
    pub(crate) fn record(
        &mut self,
        fleet: usize,
        seq: u64,
        object: &ObjectRef,
        report: Option<Arc<Report>>,
        now: Instant,
    ) -> Option<Arc<Report>> {
        let Some(report) = report else {
            return self.withdraw(fleet, object);
        };
        if self.round.0 != (fleet, seq) {
            self.round = ((fleet, seq), self.round.1 + 1);
        }
        let round = self.round.1;
        let entry = self
            .entries
            .entry(object.clone())
            .or_insert_with(Entry::new);
        let place = entry.place;
        let before = entry.set(fleet, report, seq);
        // `due` is ordered by the number that is about to change
        self.leave(object, place);
        if let Some(before) = &before {
            self.leave_seq(fleet, before.seq, object);
        }
        let entry = self.entries.get_mut(object).expect("it was inserted above");
        entry.round = round;
        entry.failures = 0;
        if !matches!(place, Place::InFlight(_)) {
            entry.place = Place::Idle;
        }
        let of_seq = self.by_seq.entry((fleet, seq)).or_default();
        of_seq.insert(object.clone());
        let acknowledged = &self.fleets[fleet].acknowledged;
        if acknowledged.total() > 0 && acknowledged.having(seq) == acknowledged.total() {
            self.check(object);
        } else {
            self.check_later(object, now + SETTLE);
        }
        before.map(|before| before.report)
    }

    /// A fleet has the object no more. What the watch shows of it stays as long as another fleet may have it.
    fn withdraw(&mut self, fleet: usize, object: &ObjectRef) -> Option<Arc<Report>> {
        let entry = self.entries.get_mut(object)?;
        let before = entry.remove(fleet);
        let place = entry.place;
        let is_served = !entry.parts.is_empty();
        let is_kept = is_served || self.fleets.len() > 1 && entry.observed != Observed::default();
        if !is_served && !matches!(place, Place::InFlight(_)) {
            entry.place = Place::Idle;
        }
        if let Some(before) = &before {
            self.leave_seq(fleet, before.seq, object);
        }
        if is_served {
            self.check(object);
        } else {
            self.leave(object, place);
        }
        if !is_kept {
            self.entries.remove(object);
        }
        before.map(|before| before.report)
    }

    /// Replaces the set of objects that an Envoy of a fleet rejected, with its messages.
    pub(crate) fn reject(&mut self, fleet: usize, rejected: Vec<(ObjectRef, String)>) {
        let now: BTreeMap<ObjectRef, String> = rejected.into_iter().collect();
        let before = std::mem::replace(&mut self.fleets[fleet].rejected, now);
        let now = &self.fleets[fleet].rejected;
        let differ = now
            .iter()
            .filter(|(object, message)| before.get(*object) != Some(message));
        let differ = differ.map(|(object, _)| object);
        let gone = before.keys().filter(|object| !now.contains_key(*object));
        let differ: Vec<ObjectRef> = differ.chain(gone).cloned().collect();
        for object in differ {
            self.check(&object);
        }
    }

    /// Records the status that the object has.
    pub(crate) fn observe(&mut self, object: &ObjectRef, observed: Observed) {
        let entry = self
            .entries
            .entry(object.clone())
            .or_insert_with(Entry::new);
        if entry.observed == observed {
            return;
        }
        let mut is_written = false;
        if let Some(writing) = &mut entry.writing
            && writing.digest == observed.digest
        {
            is_written = true;
            writing.is_shown = true;
        }
        entry.observed = observed;
        if !is_written {
            self.check(object);
        }
    }

    /// The status that the object has.
    #[cfg(test)]
    pub(crate) fn observed(&self, object: &ObjectRef) -> Option<Observed> {
        let entry = self.entries.get(object)?;
        Some(entry.observed.clone())
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
            for part in &entry.parts {
                self.leave_seq(part.fleet, part.seq, object);
            }
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

    /// Records what the connected Envoys of a fleet have acknowledged.
    pub(crate) fn acknowledge(&mut self, fleet: usize, acknowledged: Acknowledged, now: Instant) {
        if acknowledged == self.fleets[fleet].acknowledged {
            return;
        }
        let before = std::mem::replace(&mut self.fleets[fleet].acknowledged, acknowledged);
        if !self.fleets[fleet].acknowledged.is_ahead_of(&before) {
            self.sweep_after(STABLE, now);
        }
        let acknowledged = &self.fleets[fleet].acknowledged;
        if acknowledged.total() != before.total() {
            return;
        }
        // those that changed last
        let of_seqs = |(after, up_to): (u64, u64)| {
            let seqs = (fleet, after.saturating_add(1))..=(fleet, up_to);
            self.by_seq.range(seqs).rev()
        };
        let mut concerned: Vec<ObjectRef> = acknowledged
            .differences(&before)
            .flat_map(of_seqs)
            .flat_map(|(_seq, objects)| objects)
            .take(CHECKS + 1)
            .cloned()
            .collect();
        if concerned.len() > CHECKS {
            concerned.truncate(CHECKS);
            self.check_all();
        }
        for object in concerned {
            let part = self.entries.get(&object).and_then(|entry| entry.of(fleet));
            let seq = part.map_or(0, |part| part.seq);
            let acknowledged = &self.fleets[fleet].acknowledged;
            if acknowledged.having(seq) == acknowledged.total() {
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
        self.is_repeated = false;
        self.due.clear();
        self.later.clear();
        self.counts.clear();
        for entry in self.entries.values_mut() {
            if !matches!(entry.place, Place::InFlight(_)) {
                entry.place = Place::Idle;
            }
        }
    }

    /// Sets the Service in front of the Envoys, which some statuses show.
    pub(crate) fn set_gateway(&mut self, gateway: Gateway) {
        if self.gateway == gateway {
            return;
        }
        self.gateway = gateway;
        for object in self.objects(Kind::KnativeIngress) {
            self.check(&object);
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
        if self.rest.is_some() && !self.is_repeated {
            // what is written first may not be queued yet
            return Next::Continue;
        }
        let mut checks = 0;
        while checks < CHECKS
            && self.bucket.available_at(now) <= now
            && let Some((_seq, object)) = self.due.pop_first()
        {
            checks += 1;
            let Some(write) = self.evaluate(object, clock) else {
                continue;
            };
            if self.yields(&write.object, now) {
                continue;
            }
            if self.is_count_only(&write) {
                self.place(&write.object, Place::Counts);
                self.counts.insert(write.object);
            } else if !self.is_premature(&write, now) && self.bucket.take(now) {
                return self.write(write);
            }
        }
        let is_settled = self.sweep.is_none() && self.rest.is_none();
        while checks < CHECKS
            && is_settled
            && self.count_bucket.available_at(now) <= now
            && let Some(object) = self.counts.pop_first()
        {
            checks += 1;
            if let Some(write) = self.evaluate(object, clock)
                && self.count_bucket.take(now)
            {
                return self.write(write);
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
        let is_shown = entry.writing.take().is_some_and(|writing| writing.is_shown);
        let desired = &write.desired;
        match outcome {
            Outcome::Written(observed) => {
                entry.failures = 0;
                entry.futile = (desired.essence != observed.essence)
                    .then_some((desired.essence, observed.essence));
                if !is_shown {
                    entry.observed = Observed {
                        has_tls_secret: entry.observed.has_tls_secret,
                        ..observed
                    };
                }
            }
            Outcome::Gone => {
                entry.futile = Some((desired.essence, entry.observed.essence));
            }
            Outcome::Throttled => {
                self.check(&write.object);
                return;
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

    /// The write of the status that the object should have, unless it has it. Leaves the object idle.
    fn evaluate(&mut self, object: ObjectRef, clock: Timestamp) -> Option<Write> {
        self.look();
        let entry = self.entries.get_mut(&object)?;
        entry.place = Place::Idle;
        let is_early = object.kind == Kind::KnativeIngress && self.gateway == Gateway::Unknown;
        if entry.parts.is_empty() || is_early {
            return None;
        }
        let mut shares = Vec::with_capacity(entry.parts.len());
        for part in &entry.parts {
            let fleet = &self.fleets[part.fleet];
            shares.push(Share {
                fleet: fleet.id.as_deref(),
                report: &part.report,
                seq: part.seq,
                rejected: fleet.rejected.get(&object).map(String::as_str),
                acknowledged: &fleet.acknowledged,
            });
        }
        let status = condition::status(
            object.kind,
            Facts {
                shares: &shares,
                observed: &entry.observed,
                gateway: &self.gateway,
            },
            clock,
        );
        let desired = Observed::of_status(object.kind, &status);
        let is_futile = entry.futile == Some((desired.essence, entry.observed.essence));
        (desired.digest != entry.observed.digest && !is_futile).then_some(Write {
            object,
            status,
            desired,
        })
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
            .generation()
            .is_some_and(|generation| entry.observed.generation < generation);
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

    fn is_count_only(&self, write: &Write) -> bool {
        self.entries
            .get(&write.object)
            .is_some_and(|entry| entry.observed.essence == write.desired.essence)
    }

    /// Whether the status would take `Programmed` away while the fleet is not stable yet. The sweep that follows checks
    /// the object again.
    fn is_premature(&self, write: &Write, now: Instant) -> bool {
        let Some(entry) = self.entries.get(&write.object) else {
            return true;
        };
        let Some(generation) = entry.generation() else {
            return true;
        };
        let is_served = |part: &Part| {
            let rejected = &self.fleets[part.fleet].rejected;
            part.report.in_service && !rejected.contains_key(&write.object)
        };
        self.sweep.is_some_and(|(at, _since)| now < at)
            && entry.parts.iter().all(is_served)
            && entry.observed.is_programmed_at(generation)
            && !write.desired.is_programmed_at(generation)
    }

    fn write(&mut self, write: Write) -> Next {
        if let Some(entry) = self.entries.get_mut(&write.object) {
            entry.place = Place::InFlight(false);
            entry.writing = Some(Writing {
                digest: write.desired.digest,
                is_shown: false,
            });
        }
        Next::Write(write)
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
        } else {
            self.is_repeated = std::mem::take(&mut self.again);
            self.rest = self.is_repeated.then_some(Bound::Unbounded);
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
        let Some(generation) = entry.generation() else {
            return;
        };
        let order = Order {
            is_current: entry.observed.generation >= generation,
            round: Reverse(entry.round),
        };
        let place = entry.place;
        if let Place::InFlight(_) = place {
            entry.place = Place::InFlight(true);
            return;
        }
        // a failed write is retried at its own time
        if entry.failures > 0 && matches!(place, Place::Later(_)) {
            return;
        }
        entry.place = Place::Due(order);
        self.leave(object, place);
        self.due.insert((order, object.clone()));
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
    fn leave_seq(&mut self, fleet: usize, seq: u64, object: &ObjectRef) {
        let key = (fleet, seq);
        if let Some(objects) = self.by_seq.get_mut(&key) {
            objects.remove(object);
            if objects.is_empty() {
                self.by_seq.remove(&key);
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
            Place::Due(order) => {
                self.due.remove(&(order, object.clone()));
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
            parts: Vec::new(),
            round: 0,
            observed: Observed::default(),
            place: Place::Idle,
            failures: 0,
            writing: None,
            futile: None,
            outdated: None,
        }
    }

    /// The part of a fleet.
    fn of(&self, fleet: usize) -> Option<&Part> {
        self.parts.iter().find(|part| part.fleet == fleet)
    }

    /// Sets the part of a fleet, and returns the one before.
    fn set(&mut self, fleet: usize, report: Arc<Report>, seq: u64) -> Option<Part> {
        let part = Part { fleet, report, seq };
        match self.parts.binary_search_by_key(&fleet, |part| part.fleet) {
            Ok(at) => Some(std::mem::replace(&mut self.parts[at], part)),
            Err(at) => {
                // most objects never have another one
                self.parts.reserve_exact(1);
                self.parts.insert(at, part);
                None
            }
        }
    }

    /// Removes the part of a fleet.
    fn remove(&mut self, fleet: usize) -> Option<Part> {
        let at = self.parts.iter().position(|part| part.fleet == fleet)?;
        Some(self.parts.remove(at))
    }

    /// The generation that a status is of: that which each fleet has seen. `None` if no fleet has the object.
    fn generation(&self) -> Option<i64> {
        let generations = self.parts.iter().map(|part| part.report.generation);
        generations.min()
    }
}

#[cfg(test)]
mod tests;
