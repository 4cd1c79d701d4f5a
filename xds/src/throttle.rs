//! A token bucket: an event is permitted a few times at once, then at intervals.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A token bucket.
#[derive(Debug)]
pub struct Throttle {
    burst: u32,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the bucket is full again.
    full: Instant,
    /// Events that were not permitted since the last one that was.
    suppressed: u64,
}

impl Throttle {
    /// Permits `burst` events at once, then one per `interval`.
    #[must_use]
    pub fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            state: Mutex::new(State {
                full: Instant::now(),
                suppressed: 0,
            }),
        }
    }

    /// Whether an event may happen now; if so, how many before it were not permitted.
    pub fn permit(&self) -> Option<u64> {
        self.permit_at(Instant::now())
    }

    fn permit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full = state.full.max(now) + self.interval;
        if full > now + self.interval * self.burst {
            state.suppressed += 1;
            return None;
        }
        state.full = full;
        Some(std::mem::take(&mut state.suppressed))
    }

    /// Whether nothing has happened lately, so that a new one would permit as much.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.full <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_permitted_and_then_one_per_interval() {
        let throttle = Throttle::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| throttle.permit_at(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0), at(9)], [Some(0), Some(0), None, None]);
        assert_eq!([at(11), at(11)], [Some(2), None]);
        assert_eq!([at(100), at(100), at(100)], [Some(1), Some(0), None]);
    }
}
