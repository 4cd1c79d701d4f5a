//! A token bucket: a burst at once, then a rate.

use std::time::{Duration, Instant};

/// Tokens that are refilled at a constant rate.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Time in which one token is refilled.
    interval: Duration,
    /// Time in which an empty bucket is filled.
    capacity: Duration,
    /// The time at which the bucket was, or will be, empty.
    empty_at: Option<Instant>,
}

impl Bucket {
    /// `burst` at once, then `per_second`; both at least 1.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            capacity: interval * burst.max(1),
            empty_at: None,
        }
    }

    /// When the next token is available; not after `now` if one is.
    pub(crate) fn available_at(&self, now: Instant) -> Instant {
        self.empty_at
            .map_or(now, |empty_at| empty_at + self.interval)
    }

    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.available_at(now) > now {
            return false;
        }
        // a bucket that was not used for long holds no more than its capacity
        let full = now.checked_sub(self.capacity).unwrap_or(now);
        self.empty_at =
            Some(self.empty_at.map_or(full, |empty_at| empty_at.max(full)) + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_its_burst_at_once_and_then_its_rate() {
        let start = Instant::now() + Duration::from_secs(3600);
        let mut bucket = Bucket::new(10, 3);
        let at_once = (0..10).filter(|_| bucket.take(start)).count();
        assert_eq!(at_once, 3);
        assert_eq!(
            bucket.available_at(start),
            start + Duration::from_millis(100)
        );
        let in_a_second = (1..=1000)
            .filter(|milli| bucket.take(start + Duration::from_millis(*milli)))
            .count();
        assert_eq!(in_a_second, 10);
    }

    #[test]
    fn idle_time_fills_no_more_than_the_burst() {
        let start = Instant::now() + Duration::from_secs(3600);
        let mut bucket = Bucket::new(10, 3);
        assert!(bucket.take(start));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3);
    }
}
