//! Quarantine: what an Envoy rejects is replaced, for every Envoy, by the last good version. In: what the Store wants to
//! serve, what Envoys have acknowledged and rejected. Out: what the snapshot has.
//!
//! - A version is **good** once every connected Envoy has accepted it; one that Envoys can have skipped is not. One Envoy
//!   that rejects a version is enough for quarantine, even if others accept it: an Envoy that restarts must get something
//!   that it accepts, and a fleet that serves one version can be reasoned about. So while Envoys of several versions are
//!   connected, the pickiest one decides.
//! - While a version is new, the last good one is kept: until every connected Envoy has accepted the new one, or the resource
//!   is removed. If an Envoy rejects the new one, the good one goes back into the snapshot. Where changes are faster than
//!   Envoys, a few versions in between are kept, too ([`UNTRIED`]), so that one of them can become the good one.
//! - So does what the good one refers to, if it has been removed since: clusters, endpoints, secrets, route tables, filters.
//! - It ends with another version: that is tried, while the good one is still kept, and nothing of that is removed. The
//!   rejected version is not tried again, not even when the Envoy that rejected it is gone.
//! - Without a good version nothing is replaced: streams do not send again what their Envoy rejects ([`crate::ads`]). This is
//!   so if every Envoy has accepted a version, and another that connects later rejects it. Of a table that no Envoy accepts,
//!   the routes that are at fault are left out ([`Culprits`]).
//! - A Listener whose address cannot be bound is not quarantined, since that says nothing about its content.
//!
//! - What Envoys of other replicas reject counts as well, so that replicas serve the same: each replica tells the others
//!   ([`Elsewhere`]), and keeps a good version for a while ([`GRACE`]) after its own Envoys have accepted the next one.
//!
//! A change costs as much as the resources in it and what they refer to. In memory are the good versions of resources whose
//! current version is not acknowledged by all, [`LIMIT`] of them at most, and what they alone refer to; entries are shared
//! with snapshots.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use nuncio_ir::EnvoyVersion;
use tracing::{info, warn};

use crate::{
    Resource,
    cache::{Update, Writer},
    fleet::{AckedCounts, CANNOT_BIND, Fleet, Rejection, Suspects},
    resource::Ref,
    snapshot::{Difference, Entry, Snapshot},
};

mod culprits;

pub use culprits::{ANSWERED, Culprit, Culprits, LEFT_OUT};

/// Resources of which earlier versions are kept at most, besides those in quarantine.
const LIMIT: usize = 4096;

/// Versions of a resource that are kept at most, besides the good one, until it is known whether Envoys accept them.
const UNTRIED: usize = 4;

/// How long a good version is kept after all Envoys of this replica have accepted the next one. Other replicas may need it to
/// say that theirs reject it.
const GRACE: Duration = Duration::from_secs(5);

/// What Envoys of other replicas say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// What is rejected there.
    pub rejections: Vec<Rejection>,
    /// The snapshot of this replica up to which all of them have acknowledged or rejected everything, as far as that is known.
    pub acked: u64,
    /// The oldest version of an Envoy there.
    pub oldest: Option<EnvoyVersion>,
}

/// The writer of a cache, behind the quarantine.
#[derive(Debug)]
pub struct Quarantine {
    writer: Writer,
    fleet: Fleet,
    elsewhere: Elsewhere,
    state: State,
    recorder: Option<Recorder>,
}

/// A snapshot that was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its number.
    pub seq: u64,
    /// When.
    pub at: Instant,
    /// Whether it has only what replaces rejected versions, and no update.
    pub is_review: bool,
    /// What differs from the snapshot before it.
    pub difference: Difference,
}

/// Keeps what was published until it is taken.
#[derive(Debug)]
struct Recorder {
    /// Number of resources that are listed of a snapshot.
    limit: usize,
    published: Vec<Published>,
}

impl Quarantine {
    /// Nothing is in quarantine. The fleet is that of the cache's readers.
    #[must_use]
    pub fn new(writer: Writer, fleet: Fleet) -> Self {
        Self {
            writer,
            fleet,
            elsewhere: Elsewhere::default(),
            state: State::default(),
            recorder: None,
        }
    }

    /// Records each snapshot from now on, with this many of its resources at most, for [`Quarantine::take_published`].
    pub fn record(&mut self, limit: usize) {
        let published = Vec::new();
        self.recorder = Some(Recorder { limit, published });
    }

    /// The snapshots since the last call, in their order. Whoever records takes them after each call that may publish.
    pub fn take_published(&mut self) -> Vec<Published> {
        let recorder = self.recorder.as_mut();
        recorder.map_or_else(Vec::new, |recorder| mem::take(&mut recorder.published))
    }

    /// Publishes an update as it is.
    fn publish(&mut self, update: Update, is_review: bool) -> u64 {
        let before = self.writer.snapshot();
        let seq = self.writer.apply(update);
        if let Some(Recorder { limit, published }) = &mut self.recorder
            && seq != before.seq
        {
            let snapshot = self.writer.snapshot();
            published.push(Published {
                seq,
                at: snapshot.published.unwrap_or_else(Instant::now),
                is_review,
                difference: snapshot.difference(&before, *limit),
            });
        }
        seq
    }

    /// Takes note of what Envoys of other replicas say, for the next review.
    pub fn hear(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = elsewhere;
    }

    /// Publishes changes as one snapshot, except for what stays in quarantine, and returns the number of the snapshot that
    /// contains them.
    pub fn apply(&mut self, update: Update) -> u64 {
        self.review();
        let snapshot = self.writer.snapshot();
        let suspects = self.fleet.suspects();
        let update = self.state.admit(update, &snapshot, &suspects.borrow());
        self.publish(update, false)
    }

    /// Replaces what Envoys have rejected since the last call. Returns whether anything is replaced.
    pub fn review(&mut self) -> bool {
        // in this order: an Envoy's rejections are recorded before what it acknowledges
        let acked = self.fleet.acked_counts();
        let rejections = self.fleet.rejections();
        let snapshot = self.writer.snapshot();
        let suspects = self.fleet.suspects();
        let suspects = suspects.borrow().clone();
        let seen = Seen {
            snapshot: &snapshot,
            acked: &acked,
            rejections: &rejections,
            suspects: &suspects,
            elsewhere: &self.elsewhere,
            now: Instant::now(),
        };
        let update = self.state.review(&seen);
        let is_changed = !update.is_empty();
        if is_changed {
            self.publish(update, true);
        }
        is_changed
    }

    /// What Envoys reject, and what is replaced because they did, sorted by type and name.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        let mut all: BTreeMap<Ref, Rejection> = BTreeMap::new();
        let current = self.fleet.rejections();
        for rejection in self.state.rejected.values().chain(&current) {
            let key = (rejection.kind, rejection.name.clone());
            all.entry(key).or_insert_with(|| rejection.clone());
        }
        all.into_values().collect()
    }

    /// What all Envoys that looked at it reject, and of which no good version is known.
    #[must_use]
    pub fn unreplaced(&self) -> &[Rejection] {
        &self.state.unreplaced
    }

    /// Number of resources in quarantine.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.rejected.len()
    }

    /// Whether no resource is in quarantine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.rejected.is_empty()
    }

    /// Whether earlier versions of this resource are kept, because not every Envoy has accepted the current one.
    #[must_use]
    pub fn is_tried(&self, resource: &Ref) -> bool {
        let kept = self.state.kept.get(resource);
        kept.is_some_and(|kept| !kept.is_accepted)
    }
}

/// What is known of Envoys.
struct Seen<'a> {
    snapshot: &'a Snapshot,
    acked: &'a AckedCounts,
    rejections: &'a [Rejection],
    suspects: &'a Suspects,
    elsewhere: &'a Elsewhere,
    now: Instant,
}

/// The quarantine without its surroundings.
#[derive(Debug, Default)]
struct State {
    /// Up to this snapshot all Envoys that were connected at a time had acknowledged or rejected everything.
    confirmed: u64,
    /// The same of those that are connected now; 0 if none is.
    settled: u64,
    /// Up to this snapshot one of those that are connected now has; at least `settled`.
    furthest: u64,
    /// What connected Envoys reject of the snapshot.
    current: BTreeSet<Ref>,
    /// Earlier versions of resources whose wanted version not every Envoy has accepted.
    kept: BTreeMap<Ref, Kept>,
    /// The same without those in quarantine, by [`Kept::next`].
    order: BTreeSet<(u64, Ref)>,
    /// The same whose wanted version all have accepted, with its snapshot and the time; the oldest first.
    accepted: VecDeque<(Instant, Ref, u64)>,
    /// Rejected versions that are wanted. Their good versions are served.
    rejected: BTreeMap<Ref, Rejection>,
    /// See [`Quarantine::unreplaced`].
    unreplaced: Vec<Rejection>,
    /// Resources that are not wanted any more, and that earlier versions of others refer to.
    retired: BTreeMap<Ref, Arc<Entry>>,
    /// Whether earlier versions have been dropped since it was found out which of these are needed.
    has_dropped: bool,
}

/// Earlier versions of a resource.
#[derive(Debug, Default)]
struct Kept {
    /// The last good one.
    good: Option<Arc<Entry>>,
    /// Later ones that all Envoys may be about to accept, each with the snapshot that replaced it. Oldest first.
    untried: Vec<(Arc<Entry>, u64)>,
    /// The snapshot that brought the current one.
    since: u64,
    /// Whether all Envoys of this replica have accepted that.
    is_accepted: bool,
}

impl Kept {
    /// The snapshot whose acknowledgement says more.
    fn next(&self) -> u64 {
        let first = self.untried.first();
        first.map_or(self.since, |(entry, _)| entry.since)
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.good
            .iter()
            .chain(self.untried.iter().map(|(entry, _)| entry))
    }
}

impl State {
    /// What to publish of this update, after this snapshot.
    fn admit(&mut self, update: Update, snapshot: &Snapshot, suspects: &Suspects) -> Update {
        let seq = snapshot.seq + 1;
        let mut admitted = Update {
            restored: update.restored,
            ..Update::default()
        };
        for resource in update.upserts {
            let key = (resource.kind, resource.name.clone());
            self.retired.remove(&key);
            if let Some(rejection) = self.rejected.get(&key) {
                if rejection.version == resource.version {
                    continue;
                }
                self.release(&key, &resource, seq);
            } else if let Some(current) = snapshot.get(&key)
                && current.version != resource.version
                && let Some(good) = self.supersede(&key, current, &resource, seq, suspects)
            {
                admitted.restored.push((resource.kind, good));
                continue;
            }
            admitted.upserts.push(resource);
        }
        let mut removed: BTreeMap<Ref, Arc<Entry>> = BTreeMap::new();
        for key in update.removals {
            let good = self.forget(&key).and_then(|kept| kept.good);
            self.rejected.remove(&key);
            if let Some(last) = good.as_ref().or_else(|| snapshot.get(&key)) {
                removed.insert(key, last.clone());
            }
        }
        self.retire(removed, snapshot, &mut admitted);
        self.limit();
        admitted
    }

    /// Another version than the rejected one is wanted: it is tried.
    fn release(&mut self, key: &Ref, wanted: &Resource, seq: u64) {
        self.rejected.remove(key);
        let (kind, name) = key;
        info!(%kind, %name, "trying another version of a quarantined resource");
        let Some(mut kept) = self.forget(key) else {
            return;
        };
        let is_good = kept
            .good
            .as_ref()
            .is_some_and(|good| good.version == wanted.version);
        if !is_good {
            kept.since = seq;
            kept.is_accepted = false;
            self.keep(key, kept);
        }
    }

    /// Another version than the current one is wanted. Keeps the current one, if it is good or may be. Returns the good version
    /// before it, if that is wanted again.
    fn supersede(
        &mut self,
        key: &Ref,
        current: &Arc<Entry>,
        wanted: &Resource,
        seq: u64,
        suspects: &Suspects,
    ) -> Option<Arc<Entry>> {
        let is_suspect = suspects.contains(key.0, &key.1, current.version);
        let before = self.forget(key).filter(|kept| !kept.is_accepted);
        let is_wanted = |good: &Arc<Entry>| good.version == wanted.version;
        if let Some(good) = before.as_ref().and_then(|kept| kept.good.clone())
            && is_wanted(&good)
        {
            return Some(good);
        }
        // an Envoy that rejected it can be gone, and with it what is known of others
        let is_good = before.is_none()
            && !self.current.contains(key)
            && (current.since <= self.settled || current.since <= self.confirmed && !is_suspect);
        let mut kept = before.unwrap_or_default();
        if is_good {
            kept.good = Some(current.clone());
        } else if !is_suspect && kept.untried.len() < UNTRIED {
            kept.untried.push((current.clone(), seq));
        }
        kept.since = seq;
        if kept.entries().next().is_some() {
            self.keep(key, kept);
        }
        None
    }

    fn keep(&mut self, key: &Ref, kept: Kept) {
        self.order.insert((kept.next(), key.clone()));
        self.kept.insert(key.clone(), kept);
    }

    /// Does not keep earlier versions any more.
    fn forget(&mut self, key: &Ref) -> Option<Kept> {
        let kept = self.kept.remove(key)?;
        self.has_dropped = true;
        self.order.remove(&(kept.next(), key.clone()));
        Some(kept)
    }

    /// Keeps what is removed, in its last good version, while a good version refers to it. It stays in the snapshot if that
    /// version is served. What was kept for another reason is removed.
    fn retire(
        &mut self,
        removed: BTreeMap<Ref, Arc<Entry>>,
        snapshot: &Snapshot,
        admitted: &mut Update,
    ) {
        let has_dropped = mem::take(&mut self.has_dropped);
        let new: Vec<Ref> = removed.keys().cloned().collect();
        self.retired.extend(removed);
        if self.retired.is_empty() || new.is_empty() && !has_dropped {
            return;
        }
        let kept = used(self.kept.values().flat_map(Kept::entries), &self.retired);
        let served = self.rejected.keys().filter_map(|key| self.kept.get(key));
        let served = used(served.flat_map(Kept::entries), &self.retired);
        for key in new.into_iter().filter(|key| kept.contains(key)) {
            if served.contains(&key) {
                let last = self.retired.get(&key).cloned();
                admitted.restored.extend(last.map(|last| (key.0, last)));
            } else {
                admitted.removals.push(key);
            }
        }
        let gone = self.retired.extract_if(.., |key, _| !kept.contains(key));
        let gone = gone.map(|(key, _)| key);
        let is_in_snapshot = |key: &Ref| snapshot.get(key).is_some();
        admitted.removals.extend(gone.filter(is_in_snapshot));
    }

    fn limit(&mut self) {
        while self.order.len() > LIMIT
            && let Some((_, key)) = self.order.pop_first()
        {
            self.kept.remove(&key);
            self.has_dropped = true;
        }
    }

    /// What to publish because of what Envoys have acknowledged and rejected.
    fn review(&mut self, seen: &Seen<'_>) -> Update {
        let mut update = Update::default();
        let (snapshot, acked) = (seen.snapshot, seen.acked);
        let oldest = acked.first_key_value();
        self.settled = oldest.map_or(seen.elsewhere.acked, |(oldest, _)| *oldest);
        let furthest = acked.last_key_value();
        self.furthest = furthest.map_or(self.settled, |(furthest, _)| *furthest);
        self.confirmed = self.confirmed.max(self.settled);
        let accepted = self.settle(seen.suspects);
        self.current.clear();
        self.unreplaced.clear();
        for rejection in seen.rejections {
            let key = (rejection.kind, rejection.name.clone());
            let current = snapshot.get(&key);
            let current = current.filter(|current| current.version == rejection.version);
            if let Some(current) = current
                && !rejection.message.contains(CANNOT_BIND)
            {
                self.current.insert(key.clone());
                let looked: usize = acked.range(current.since..).map(|(_, count)| count).sum();
                if !self.reject(key, rejection, snapshot, &mut update) && rejection.envoys >= looked
                {
                    self.unreplaced.push(rejection.clone());
                }
            }
        }
        for rejection in &seen.elsewhere.rejections {
            let key = (rejection.kind, rejection.name.clone());
            let current = snapshot.get(&key);
            if current.is_some_and(|current| current.version == rejection.version)
                && !rejection.message.contains(CANNOT_BIND)
            {
                self.reject(key, rejection, snapshot, &mut update);
            }
        }
        for key in accepted {
            if let Some(kept) = self.kept.get_mut(&key)
                && !self.rejected.contains_key(&key)
            {
                kept.is_accepted = true;
                self.accepted.push_back((seen.now, key, kept.since));
            }
        }
        self.expire(seen.now);
        self.retire(BTreeMap::new(), snapshot, &mut update);
        update
    }

    /// Does not keep what all have accepted for long enough.
    fn expire(&mut self, now: Instant) {
        let is_over = |(since, ..): &(Instant, Ref, u64)| now.duration_since(*since) >= GRACE;
        while self.accepted.front().is_some_and(is_over)
            && let Some((_, key, since)) = self.accepted.pop_front()
        {
            let kept = self.kept.get(&key);
            if kept.is_some_and(|kept| kept.is_accepted && kept.since == since) {
                self.kept.remove(&key);
                self.has_dropped = true;
            }
        }
    }

    /// Puts a version into quarantine. False if there is no good one.
    fn reject(
        &mut self,
        key: Ref,
        rejection: &Rejection,
        snapshot: &Snapshot,
        update: &mut Update,
    ) -> bool {
        if self.rejected.contains_key(&key) {
            // what is rejected now is the good one
            return true;
        }
        let Some(kept) = self.kept.get_mut(&key) else {
            return false;
        };
        let Some(good) = kept.good.clone() else {
            return false;
        };
        let (kind, name) = &key;
        warn!(%kind, %name, version = %rejection.version, "quarantined; the last good version is served");
        self.order.remove(&(kept.next(), key.clone()));
        kept.untried.clear();
        kept.is_accepted = false;
        self.has_dropped = true;
        for used in used([&good].into_iter(), &self.retired) {
            if let Some(entry) = self.retired.get(&used)
                && snapshot.get(&used).is_none()
            {
                update.restored.push((used.0, entry.clone()));
            }
        }
        update.restored.push((*kind, good));
        self.rejected.insert(key, rejection.clone());
        true
    }

    /// Learns from what every connected Envoy has acknowledged or rejected. Returns the resources of which that is the current
    /// version.
    fn settle(&mut self, suspects: &Suspects) -> Vec<Ref> {
        let mut accepted = Vec::new();
        let settled = self.settled;
        while self.order.first().is_some_and(|(next, _)| *next <= settled)
            && let Some((_, key)) = self.order.pop_first()
        {
            let Some(kept) = self.kept.get_mut(&key) else {
                continue;
            };
            let known = kept.untried.iter();
            let known = known.take_while(|(entry, _)| entry.since <= settled);
            let known = known.count();
            self.has_dropped |= known > 0;
            for (entry, until) in kept.untried.drain(..known) {
                // an Envoy that is further can have skipped it
                if self.furthest < until && !suspects.contains(key.0, &key.1, entry.version) {
                    kept.good = Some(entry);
                }
            }
            if kept.since <= settled {
                accepted.push(key);
            } else if kept.entries().next().is_some() {
                self.order.insert((kept.next(), key));
            } else {
                self.kept.remove(&key);
            }
        }
        accepted
    }
}

/// Of `gone`, what these entries refer to, directly or through others that are gone. What is not gone refers to nothing that
/// is.
fn used<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    gone: &'a BTreeMap<Ref, Arc<Entry>>,
) -> BTreeSet<Ref> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Arc<Entry>> = entries.collect();
    while let Some(entry) = open.pop() {
        for reference in entry.refs.iter() {
            if let Some(next) = gone.get(reference)
                && found.insert(reference.clone())
            {
                open.push(next);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
