//! How far the Envoys are: for each connected one the sequence number of the newest snapshot that it has acknowledged
//! in full, whether it is connected to this replica or to another.

/// What the connected Envoys have acknowledged. Compares equal when no condition can differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Ascending, one for each connected Envoy.
    snapshots: Vec<u64>,
}

impl Acknowledged {
    /// One number for each connected Envoy, in any order.
    pub(super) fn new(snapshots: impl IntoIterator<Item = u64>) -> Self {
        let mut snapshots: Vec<u64> = snapshots.into_iter().collect();
        snapshots.sort_unstable();
        Self { snapshots }
    }

    /// How many Envoys are connected.
    #[must_use]
    pub(super) const fn total(&self) -> usize {
        self.snapshots.len()
    }

    /// How many of them have acknowledged snapshot `sequence` or a later one.
    #[must_use]
    pub(super) fn having(&self, sequence: u64) -> usize {
        self.snapshots.len() - self.snapshots.partition_point(|acked| *acked < sequence)
    }

    /// Whether as many Envoys are connected as before, and none of them is behind where it was.
    #[must_use]
    pub(super) fn is_ahead_of(&self, before: &Self) -> bool {
        self.total() == before.total()
            && self
                .snapshots
                .iter()
                .zip(&before.snapshots)
                .all(|(now, then)| now >= then)
    }

    /// For which objects the count differs, as ranges of the snapshot that they came with: after the first, up to
    /// and including the second. Meaningful when the number of Envoys is the same.
    pub(super) fn differences<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (u64, u64)> + 'a {
        self.snapshots
            .iter()
            .zip(&before.snapshots)
            .filter(|(now, then)| now != then)
            .map(|(now, then)| (*now.min(then), *now.max(then)))
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
    fn an_envoy_that_is_stuck_makes_no_difference_for_others() {
        let before = Acknowledged::new([0, 100, 100]);
        let now = Acknowledged::new([101, 0, 101]);
        assert!(now.is_ahead_of(&before));
        assert_eq!(
            now.differences(&before).collect::<Vec<_>>(),
            [(100, 101), (100, 101)]
        );
    }

    #[test]
    fn another_number_of_envoys_is_not_ahead_and_neither_is_one_that_starts_anew() {
        let before = Acknowledged::new([7, 7]);
        assert!(!Acknowledged::new([7, 7, 7]).is_ahead_of(&before));
        assert!(!Acknowledged::new([0, 8]).is_ahead_of(&before));
        assert!(before.is_ahead_of(&before));
    }
}
