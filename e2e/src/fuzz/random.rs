//! Random numbers that a seed repeats, for as long as Cargo.lock keeps the version of fastrand.

use fastrand::Rng;

/// A source of numbers.
#[derive(Debug)]
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// Any number.
    pub(super) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number below this one; 0 if there is none.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end.max(1))
    }

    /// True so many times of a hundred.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these, of which there is at least one.
    pub(super) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.next())
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }
}
