//! Removals that are deferred: first until routes and listeners that do not use the resource are acknowledged, then for a
//! grace period, for requests in flight.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Where a removal stands; each has the snapshot with the removal.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Until routes and listeners of the snapshot are acknowledged.
    Waiting(u64),
    /// Until the end of the grace period.
    Due(u64, Instant),
    /// Until the client accepts another version of what uses the resource.
    InUse(u64),
}

/// Deferred removals by name. Polling costs nothing while none changes its stage.
#[derive(Debug, Default)]
pub(super) struct Removals {
    stages: BTreeMap<Arc<str>, Stage>,
    waiting: BTreeSet<(u64, Arc<str>)>,
    due: BTreeSet<(Instant, Arc<str>)>,
    in_use: BTreeSet<Arc<str>>,
}

impl Removals {
    pub(super) fn len(&self) -> usize {
        self.stages.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.stages.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.stages.keys()
    }

    /// Defers the removal of a resource that snapshot `seq` does not have any more.
    pub(super) fn defer(&mut self, name: Arc<str>, seq: u64) {
        self.cancel(&name);
        self.waiting.insert((seq, name.clone()));
        self.stages.insert(name, Stage::Waiting(seq));
    }

    pub(super) fn cancel(&mut self, name: &str) {
        match self.stages.remove_entry(name) {
            Some((name, Stage::Waiting(seq))) => drop(self.waiting.remove(&(seq, name))),
            Some((name, Stage::Due(_, at))) => drop(self.due.remove(&(at, name))),
            Some((name, Stage::InUse(_))) => drop(self.in_use.remove(&name)),
            None => {}
        }
    }

    /// When the next grace period ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Starts the grace period of removals up to snapshot `acked`, and returns whether one has ended.
    pub(super) fn advance(&mut self, acked: u64, grace: Duration, now: Instant) -> bool {
        while self.waiting.first().is_some_and(|(seq, _)| *seq <= acked)
            && let Some((seq, name)) = self.waiting.pop_first()
        {
            let at = now + grace;
            self.due.insert((at, name.clone()));
            self.stages.insert(name, Stage::Due(seq, at));
        }
        self.deadline().is_some_and(|at| at <= now)
    }

    /// Takes the removals whose grace period is over, except for resources that are in use.
    pub(super) fn take_due(
        &mut self,
        acked: u64,
        now: Instant,
        is_in_use: impl Fn(&Arc<str>) -> bool,
    ) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while self.deadline().is_some_and(|at| at <= now)
            && let Some((_, name)) = self.due.pop_first()
        {
            let Some(Stage::Due(seq, _)) = self.stages.remove(&name) else {
                continue;
            };
            if seq > acked {
                // the client has subscribed to routes or listeners since, and not acknowledged them yet
                self.defer(name, seq);
            } else if is_in_use(&name) {
                self.in_use.insert(name.clone());
                self.stages.insert(name, Stage::InUse(seq));
            } else {
                taken.push(name);
            }
        }
        taken
    }

    /// Starts again with removals of resources that were in use.
    pub(super) fn recheck(&mut self) {
        for name in std::mem::take(&mut self.in_use) {
            if let Some(Stage::InUse(seq)) = self.stages.remove(&name) {
                self.defer(name, seq);
            }
        }
    }
}
