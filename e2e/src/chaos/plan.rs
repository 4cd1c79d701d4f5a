//! What happens in which order. It depends on the seed alone.

use std::{fmt, time::Duration};

use fastrand::Rng;

use super::{
    change::Change,
    fault::{Fault, Place},
};

/// Longest pause between two steps, in milliseconds.
const PAUSE: u64 = 1200;
/// Most faults at a time.
const AT_ONCE: usize = 3;
/// Most steps that a fault lasts.
const LASTS: u64 = 6;
/// Most changes of objects in a step.
const CHANGES: usize = 4;

/// What happens together, and the pause after it.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) actions: Vec<Action>,
    pub(super) pause: Duration,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Begin(Fault),
    End(Fault),
    Change(Change),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(fault) => write!(f, "{fault}"),
            Self::End(fault) => write!(f, "  over: {fault}"),
            Self::Change(change) => write!(f, "    {change}"),
        }
    }
}

pub(super) struct Plan {
    random: Rng,
    /// Faults that are not over, with the number of steps that are left to them.
    open: Vec<(Fault, u64)>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            open: Vec::new(),
        }
    }

    /// The next step.
    pub(super) fn step(&mut self) -> Step {
        let mut actions = Vec::new();
        for (fault, left) in &mut self.open {
            *left -= 1;
            if *left == 0 {
                actions.push(Action::End(*fault));
            }
        }
        self.open.retain(|(_, left)| *left > 0);
        if self.random.u8(..3) == 0 {
            let fault = Fault::random(&mut self.random);
            let lasts = self.random.u64(1..=LASTS);
            let is_taken = |place: Place| {
                self.open
                    .iter()
                    .any(|(open, _)| open.place() == Some(place))
            };
            match fault.place() {
                None => actions.push(Action::Begin(fault)),
                Some(place) if !is_taken(place) && self.open.len() < AT_ONCE => {
                    actions.push(Action::Begin(fault));
                    self.open.push((fault, lasts));
                }
                Some(_) => {}
            }
        }
        for _ in 0..self.random.usize(..=CHANGES) {
            actions.push(Action::Change(Change::random(&mut self.random)));
        }
        let pause = Duration::from_millis(self.random.u64(..PAUSE));
        Step { actions, pause }
    }

    /// Faults that are not over.
    pub(super) fn open(&self) -> Vec<Fault> {
        self.open.iter().map(|(fault, _)| *fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        let mut plan = Plan::new(seed);
        (0..2000).map(|_| plan.step()).collect()
    }

    #[test]
    fn a_seed_repeats_everything() {
        assert!(steps(7) == steps(7));
        assert!(steps(7) != steps(8));
    }

    #[test]
    fn every_fault_happens_and_ends_and_no_place_has_two() {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Fault> = Vec::new();
        for action in steps(7).into_iter().flat_map(|step| step.actions) {
            match action {
                Action::Begin(fault) => {
                    let name = format!("{fault:?}");
                    seen.insert(name.split(['(', ' ']).next().unwrap().to_owned());
                    if fault.place().is_some() {
                        assert!(open.iter().all(|other| other.place() != fault.place()));
                        open.push(fault);
                    }
                    assert!(open.len() <= AT_ONCE);
                }
                Action::End(fault) => {
                    let at = open.iter().position(|other| *other == fault).unwrap();
                    open.remove(at);
                }
                Action::Change(_) => {}
            }
        }
        assert_eq!(seen.len(), 16, "{seen:?}");
    }
}
