//! When Envoys acknowledged which snapshots. In: how far each Envoy is. Out: the first Envoy that had a snapshot, and the last.
//!
//! Two lists of steps have all of that: when the newest snapshot that any Envoy has acknowledged became another one, and when
//! the newest that all have did. An Envoy between the first and the last leaves nothing behind. So an acknowledgement costs
//! the same whatever the size of the fleet, a fleet of 500 takes as much memory as one of two, and a table of Envoys for each
//! snapshot, which nobody would read, is not needed: who is behind now is in [`super::FleetState`].
//!
//! An Envoy that loads its first configuration is not waited for: it is not behind with any change.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{AckedCounts, recount};

/// Steps that are kept of each kind; the oldest are forgotten.
pub const STEPS: usize = 1 << 10;

/// Why a step was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The Envoy acknowledged or rejected everything.
    Acknowledged,
    /// The Envoy was the last one behind, and disconnected.
    Left,
    /// There was no Envoy before this one, so nobody was waited for.
    Joined,
}

/// A snapshot, and all before it since the step before, reached an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The snapshot.
    pub seq: u64,
    /// When.
    pub at: Instant,
    /// `node.id` of the Envoy.
    pub node: Arc<str>,
    /// How.
    pub means: Means,
    /// How many Envoys were connected that had a configuration, with this one unless it left.
    pub envoys: usize,
}

/// Who had a snapshot when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The first Envoy that acknowledged it or a later one; `None`: there is none yet, or it is forgotten.
    pub first: Option<Step>,
    /// The Envoy after whose step all connected ones had done so: the slowest. `None`: not all have, or it is forgotten.
    pub last: Option<Step>,
}

/// Steps in the order of their snapshots and of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    steps: VecDeque<Step>,
    /// The last one that was forgotten.
    forgotten: u64,
}

impl Steps {
    fn newest(&self) -> u64 {
        self.steps.back().map_or(0, |step| step.seq)
    }

    fn push(&mut self, step: Step) {
        if self.steps.len() == STEPS
            && let Some(oldest) = self.steps.pop_front()
        {
            self.forgotten = oldest.seq;
        }
        self.steps.push_back(step);
    }

    /// The step that reached a snapshot.
    fn of(&self, seq: u64) -> Option<&Step> {
        if seq <= self.forgotten {
            return None;
        }
        let at = self.steps.partition_point(|step| step.seq < seq);
        self.steps.get(at)
    }

    /// Steps to snapshots after this one, in their order.
    fn after(&self, seq: u64) -> impl Iterator<Item = &Step> {
        let at = self.steps.partition_point(|step| step.seq <= seq);
        self.steps.range(at..)
    }
}

/// How far the fleet is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Number of Envoys by the newest snapshot that each has ever acknowledged; without those that load their first configuration.
    reached: AckedCounts,
    envoys: usize,
    first: Steps,
    last: Steps,
}

impl Progress {
    /// An Envoy got from one snapshot to another; 0: to its first configuration; `None`: it disconnects. Returns whether all
    /// Envoys have a newer snapshot now than before.
    pub(super) fn advance(&mut self, node: &Arc<str>, from: u64, to: Option<u64>) -> bool {
        let was_empty = self.reached.is_empty();
        recount(&mut self.reached, from, to);
        self.envoys += usize::from(to.is_some());
        self.envoys -= usize::from(from > 0);
        let means = match to {
            None => Means::Left,
            Some(_) if was_empty => Means::Joined,
            Some(_) => Means::Acknowledged,
        };
        let step = |seq| Step {
            seq,
            at: Instant::now(),
            node: node.clone(),
            means,
            envoys: self.envoys,
        };
        let newest = self.reached.last_key_value().map_or(0, |(seq, _)| *seq);
        if newest > self.first.newest() {
            self.first.push(step(newest));
        }
        let oldest = self.reached.first_key_value().map_or(0, |(seq, _)| *seq);
        let is_further = oldest > self.last.newest();
        if is_further {
            self.last.push(step(oldest));
        }
        is_further
    }

    pub(super) fn of(&self, seq: u64) -> Delivery {
        Delivery {
            first: self.first.of(seq).cloned(),
            last: self.last.of(seq).cloned(),
        }
    }

    pub(super) fn complete_after(&self, seq: u64) -> Vec<Step> {
        self.last.after(seq).cloned().collect()
    }

    /// The newest snapshot that all have.
    pub(super) fn complete(&self) -> u64 {
        self.last.newest()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn advance(progress: &mut Progress, node: &str, from: u64, to: impl Into<Option<u64>>) -> bool {
        progress.advance(&node.into(), from, to.into())
    }

    fn shown(step: Option<Step>) -> Option<(String, Means, usize)> {
        step.map(|step| (step.node.to_string(), step.means, step.envoys))
    }

    #[test]
    fn the_first_and_the_slowest_are_known() {
        let mut progress = Progress::default();
        assert!(advance(&mut progress, "a", 0, 1));
        assert!(!advance(&mut progress, "b", 0, 1));
        assert!(!advance(&mut progress, "c", 0, 1));
        assert_eq!(
            shown(progress.of(1).last),
            Some(("a".into(), Means::Joined, 1))
        );
        assert!(!advance(&mut progress, "b", 1, 3));
        assert!(!advance(&mut progress, "a", 1, 2));
        assert_eq!(progress.of(2).last, None);
        assert!(advance(&mut progress, "c", 1, 3));
        let acknowledged = |node: &str| Some((node.to_owned(), Means::Acknowledged, 3));
        assert_eq!(shown(progress.of(2).first), acknowledged("b"));
        assert_eq!(shown(progress.of(3).first), acknowledged("b"));
        assert_eq!(shown(progress.of(2).last), acknowledged("c"));
        assert_eq!(progress.of(3).last, None);
        assert!(advance(&mut progress, "a", 2, 3));
        assert_eq!(shown(progress.of(3).last), acknowledged("a"));
        assert_eq!(progress.of(4), Delivery::default());
        let seqs = |after| {
            let steps = progress.complete_after(after).into_iter();
            steps.map(|step| step.seq).collect::<Vec<_>>()
        };
        assert_eq!(seqs(0), [1, 2, 3]);
        assert_eq!(seqs(2), [3]);
    }

    #[test]
    fn an_envoy_that_leaves_is_not_waited_for_and_neither_is_a_new_one() {
        let mut progress = Progress::default();
        advance(&mut progress, "a", 0, 1);
        advance(&mut progress, "b", 0, 1);
        advance(&mut progress, "a", 1, 2);
        assert!(advance(&mut progress, "b", 1, None));
        assert_eq!(
            shown(progress.of(2).last),
            Some(("b".into(), Means::Left, 1))
        );
        // what was complete stays so
        assert!(!advance(&mut progress, "c", 0, 1));
        assert_eq!(progress.complete(), 2);
        assert!(!advance(&mut progress, "a", 2, 3));
        assert!(advance(&mut progress, "c", 1, 3));
        assert!(!advance(&mut progress, "c", 3, None));
        assert!(!advance(&mut progress, "a", 3, None));
        // nobody was there
        assert!(advance(&mut progress, "d", 0, 9));
        assert_eq!(
            shown(progress.of(5).last),
            Some(("d".into(), Means::Joined, 1))
        );
    }

    #[test]
    fn old_steps_are_forgotten() {
        let mut progress = Progress::default();
        let count = STEPS as u64 + 10;
        for seq in 1..=count {
            advance(&mut progress, "a", seq - 1, seq);
        }
        assert_eq!(progress.of(10), Delivery::default());
        assert_eq!(progress.of(11).last.map(|step| step.seq), Some(11));
        assert_eq!(progress.complete_after(0).len(), STEPS);
        assert!(progress.first.steps.len() <= STEPS);
    }

    proptest! {
        /// Whatever Envoys do: steps ascend, and a snapshot is complete exactly once all that have a configuration have it.
        #[test]
        fn a_snapshot_is_complete_once_all_have_it(
            events in prop::collection::vec((0usize..4, prop::option::weighted(0.8, 0u64..4)), 1..80),
        ) {
            let mut progress = Progress::default();
            let mut reached = [0u64; 4];
            for (envoy, by) in events {
                let from = reached[envoy];
                let to = by.map(|by| from + by);
                reached[envoy] = to.unwrap_or(0);
                if to == Some(from) || from == 0 && to.is_none() {
                    continue;
                }
                let before = progress.complete();
                advance(&mut progress, &envoy.to_string(), from, to);
                let all = reached.iter().filter(|seq| **seq > 0).min().copied();
                prop_assert_eq!(progress.complete(), before.max(all.unwrap_or(0)));
                prop_assert_eq!(progress.envoys, reached.iter().filter(|seq| **seq > 0).count());
                for steps in [&progress.first, &progress.last] {
                    let mut pairs = steps.steps.iter().zip(steps.steps.iter().skip(1));
                    prop_assert!(pairs.all(|(one, next)| one.seq < next.seq && one.at <= next.at));
                }
                for seq in 1..=progress.complete() {
                    let Delivery { first, last } = progress.of(seq);
                    prop_assert!(first.is_some_and(|first| last.is_some_and(|last| first.at <= last.at)));
                }
            }
        }
    }
}
