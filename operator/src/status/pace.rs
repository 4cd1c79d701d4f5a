//! How many writes are under way at a time: as many as the apiserver answers soon. In: how long each answer took, and
//! whether the apiserver asked for a pause. No I/O and no clock: the time is an argument.
//!
//! The apiserver shares its time among its clients ("API priority and fairness"): requests beyond a client's share wait in
//! a queue, then get 429 with `Retry-After`. The watches and Leases of this process have the same share, so writes of
//! status stay far below it: one more at a time as long as answers are fast, half as many when they become slow, and none
//! until the time that an answer names.

use std::time::{Duration, Instant};

/// Most writes at a time.
const MOST: usize = 8;

/// An answer that takes no longer than this lets the number grow.
const FAST: Duration = Duration::from_millis(100);

/// An answer that takes longer than this halves it.
const SLOW: Duration = Duration::from_millis(400);

/// Longest pause that is taken from an answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Writes that may be under way.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How many may be.
    allowed: usize,
    /// How many are.
    under_way: usize,
    /// Fast answers since the number changed last.
    fast: usize,
    /// Answers to writes from before this time do not change the number: it has changed since.
    changed: Option<Instant>,
    /// No write before this time.
    pause: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            allowed: 2,
            under_way: 0,
            fast: 0,
            changed: None,
            pause: None,
        }
    }
}

impl Pace {
    /// When the next write may start; `None`: not before another one has ended.
    pub(crate) fn available_at(&self, now: Instant) -> Option<Instant> {
        let at = self.pause.map_or(now, |until| until.max(now));
        (self.under_way < self.allowed).then_some(at)
    }

    /// A write starts.
    pub(crate) fn start(&mut self) {
        self.under_way += 1;
    }

    /// A write that started at this time has ended. `pause`: how long the apiserver asks to wait, if it does.
    pub(crate) fn end(&mut self, started: Instant, pause: Option<Duration>, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(pause) = pause {
            let until = now + pause.min(LONGEST_PAUSE);
            self.pause = Some(self.pause.map_or(until, |before| before.max(until)));
            self.change(1, now);
            return;
        }
        if self.changed.is_some_and(|changed| started < changed) {
            return;
        }
        let taken = now.saturating_duration_since(started);
        if taken > SLOW {
            self.change((self.allowed / 2).max(1), now);
        } else if taken <= FAST {
            self.fast += 1;
            if self.fast >= self.allowed && self.allowed < MOST {
                self.change(self.allowed + 1, now);
            }
        }
    }

    fn change(&mut self, allowed: usize, now: Instant) {
        self.allowed = allowed;
        self.fast = 0;
        self.changed = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(5);

    /// Starts as many writes as may be under way, and ends them after this time; their number.
    fn round(
        pace: &mut Pace,
        now: &mut Instant,
        taken: Duration,
        pause: Option<Duration>,
    ) -> usize {
        let started = *now;
        let mut count = 0;
        while pace.available_at(started) == Some(started) {
            pace.start();
            count += 1;
        }
        *now += taken;
        for _ in 0..count {
            pace.end(started, pause, *now);
        }
        count
    }

    #[test]
    fn more_are_under_way_while_answers_are_fast_up_to_a_limit() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let counts: Vec<usize> = (0..9)
            .map(|_| round(&mut pace, &mut now, SOON, None))
            .collect();
        assert_eq!(counts, [2, 3, 4, 5, 6, 7, 8, 8, 8]);
    }

    #[test]
    fn a_slow_round_halves_the_number_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            round(&mut pace, &mut now, SOON, None);
        }
        let slow = SLOW + SOON;
        let counts: Vec<usize> = (0..5)
            .map(|_| round(&mut pace, &mut now, slow, None))
            .collect();
        assert_eq!(counts, [8, 4, 2, 1, 1]);
        assert_eq!(
            round(&mut pace, &mut now, FAST * 2, None),
            1,
            "neither fast nor slow"
        );
        round(&mut pace, &mut now, SOON, None);
        assert_eq!(round(&mut pace, &mut now, SOON, None), 2, "it recovers");
    }

    #[test]
    fn a_pause_is_as_long_as_the_apiserver_asks_for_and_one_write_follows() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            round(&mut pace, &mut now, SOON, None);
        }
        let pause = Duration::from_secs(7);
        assert_eq!(round(&mut pace, &mut now, SOON, Some(pause)), 8);
        assert_eq!(pace.available_at(now), Some(now + pause));
        assert_eq!(pace.available_at(now + SOON), Some(now + pause));
        now += pause;
        assert_eq!(round(&mut pace, &mut now, SOON, None), 1);
        assert_eq!(round(&mut pace, &mut now, SOON, None), 2);
    }

    #[test]
    fn a_shorter_pause_does_not_end_a_longer_one_and_none_is_for_ever() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.start();
        pace.start();
        assert_eq!(pace.available_at(now), None, "two are under way");
        pace.end(now, Some(Duration::from_secs(9)), now);
        pace.end(now, Some(Duration::from_secs(1)), now);
        assert_eq!(pace.available_at(now), Some(now + Duration::from_secs(9)));
        pace.start();
        pace.end(now, Some(Duration::from_secs(86_400)), now);
        assert_eq!(pace.available_at(now), Some(now + LONGEST_PAUSE));
    }
}
