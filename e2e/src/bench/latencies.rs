//! How long changes took.

use std::{fmt, time::Duration};

use super::quantile::quantile;

/// How long changes took, in milliseconds, from sending them and from the answer to them.
#[derive(Default)]
pub(super) struct Latencies {
    from_sending: Vec<f64>,
    from_answer: Vec<f64>,
}

impl Latencies {
    /// Adds a change.
    pub(super) fn add(&mut self, from_sending: Duration, from_answer: Duration) {
        self.from_sending.push(from_sending.as_secs_f64() * 1e3);
        self.from_answer.push(from_answer.as_secs_f64() * 1e3);
    }
}

/// The latencies as they stand in a table: p50 / p99 / max (p50 from the answer).
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50, 99, 100].map(|percent| quantile(percent, &self.from_sending));
        let answered = quantile(50, &self.from_answer);
        write!(f, "{p50:.1} / {p99:.1} / {max:.1} ({answered:.1})")
    }
}
