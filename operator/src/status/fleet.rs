//! Progress of the fleet: for each connected Envoy, of this replica or another, the number of the newest snapshot that
//! it has acknowledged completely.

use std::collections::BTreeMap;

/// What the connected Envoys have acknowledged. Compares equal when no condition can differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Number of Envoys by snapshot. Few snapshots, however many Envoys.
    counts: BTreeMap<u64, usize>,
    total: usize,
}

impl Acknowledged {
    /// Numbers of Envoys by snapshot.
    pub(super) fn of_counts(counts: BTreeMap<u64, usize>) -> Self {
        let total = counts.values().sum();
        Self { counts, total }
    }

    /// One number for each connected Envoy, in any order.
    #[cfg(test)]
    pub(super) fn new(snapshots: impl IntoIterator<Item = u64>) -> Self {
        let mut counts = BTreeMap::new();
        for snapshot in snapshots {
            *counts.entry(snapshot).or_default() += 1;
        }
        Self::of_counts(counts)
    }

    /// How many Envoys are connected.
    #[must_use]
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// How many of them have acknowledged snapshot `seq` or a later one.
    #[must_use]
    pub(super) fn having(&self, seq: u64) -> usize {
        self.counts.range(seq..).map(|(_, count)| count).sum()
    }

    /// Whether as many Envoys are connected as before, and none of them is behind where it was.
    #[must_use]
    pub(super) fn is_ahead_of(&self, before: &Self) -> bool {
        self.total() == before.total() && self.pairs(before).all(|(now, then)| now >= then)
    }

    /// The objects whose count differs, as ranges of their snapshots: after the first number, up to and including the
    /// second. Only valid when the number of Envoys is the same.
    pub(super) fn differences<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (u64, u64)> + 'a {
        self.pairs(before)
            .filter(|(now, then)| now != then)
            .map(|(now, then)| (now.min(then), now.max(then)))
    }

    /// What Envoys have now and had before, both ascending, without repetitions.
    fn pairs<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (u64, u64)> + 'a {
        let (mut now, mut then) = (self.counts.iter(), before.counts.iter());
        let (mut left, mut right) = (None, None);
        std::iter::from_fn(move || {
            let (at, many) = left
                .take()
                .or_else(|| now.next().map(|(at, many)| (*at, *many)))?;
            let (was, few) = right
                .take()
                .or_else(|| then.next().map(|(at, many)| (*at, *many)))?;
            let both = many.min(few);
            left = (many > both).then_some((at, many - both));
            right = (few > both).then_some((was, few - both));
            Some((at, was))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envoy_has_what_it_acknowledged_and_all_before() {
        let acknowledged = Acknowledged::new([7, 3, 5]);
        assert_eq!(acknowledged.total(), 3);
        assert_eq!(acknowledged.having(3), 3);
        assert_eq!(acknowledged.having(4), 2);
        assert_eq!(acknowledged.having(7), 1);
        assert_eq!(acknowledged.having(8), 0);
    }

    #[test]
    fn a_stuck_envoy_does_not_change_the_count_of_others() {
        let before = Acknowledged::new([0, 100, 100]);
        let now = Acknowledged::new([101, 0, 101]);
        assert!(now.is_ahead_of(&before));
        assert_eq!(now.differences(&before).collect::<Vec<_>>(), [(100, 101)]);
    }

    #[test]
    fn another_number_of_envoys_is_not_ahead_and_neither_is_a_restarted_one() {
        let before = Acknowledged::new([7, 7]);
        assert!(!Acknowledged::new([7, 7, 7]).is_ahead_of(&before));
        assert!(!Acknowledged::new([0, 8]).is_ahead_of(&before));
        assert!(before.is_ahead_of(&before));
    }
}
