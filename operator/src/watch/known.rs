//! The objects of a kind that the watch knows: how many there are, and whether a new list lacks too many of them.
//!
//! A list that lacks more than half of what is known is used only if the list after it does, too: it may come from a
//! backup, from a cache that is not filled, or from another cluster, and it would take most of the traffic down. Only
//! whole lists are held; a DELETE event is always believed. Known objects stand for the clusters made of them.

use std::collections::HashSet;

use kube::api::ObjectMeta;
use xxhash_rust::xxh3::xxh3_64;

/// The known objects, as hashes of their names.
#[derive(Debug, Default)]
pub(crate) struct Known {
    objects: HashSet<u64>,
    /// Whether the last list was held.
    is_held: bool,
}

/// What to do with a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It replaces what is known.
    Use,
    /// It lacks this many known objects; another list must confirm that.
    Hold(usize),
}

impl Known {
    /// Decides about a list.
    pub(crate) fn list<'a>(&mut self, listed: impl Iterator<Item = (&'a str, &'a str)>) -> Verdict {
        let listed: HashSet<u64> = listed
            .map(|(namespace, name)| key(namespace, name))
            .collect();
        let missing = self.objects.difference(&listed).count();
        if missing * 2 > self.objects.len() && !self.is_held {
            self.is_held = true;
            return Verdict::Hold(missing);
        }
        self.is_held = false;
        self.objects = listed;
        Verdict::Use
    }

    pub(crate) fn apply(&mut self, metadata: &ObjectMeta) {
        self.objects.insert(key_of(metadata));
    }

    pub(crate) fn delete(&mut self, metadata: &ObjectMeta) {
        self.objects.remove(&key_of(metadata));
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }
}

fn key_of(metadata: &ObjectMeta) -> u64 {
    key(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn key(namespace: &str, name: &str) -> u64 {
    xxh3_64(format!("{namespace}/{name}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 4] = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")];

    fn known() -> Known {
        let mut known = Known::default();
        assert_eq!(known.list(ALL.into_iter()), Verdict::Use);
        known
    }

    #[test]
    fn a_list_without_most_of_the_objects_needs_another_one() {
        let mut known = known();
        let short = || ALL.into_iter().take(1);
        assert_eq!(known.list(short()), Verdict::Hold(3));
        assert_eq!(known.len(), 4);
        assert_eq!(known.list(short()), Verdict::Use);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn a_list_that_is_not_confirmed_is_forgotten() {
        let mut known = known();
        assert_eq!(known.list([].into_iter()), Verdict::Hold(4));
        assert_eq!(known.list(ALL.into_iter()), Verdict::Use);
        assert_eq!(known.list([].into_iter()), Verdict::Hold(4));
    }

    #[test]
    fn half_of_the_objects_may_go_at_once_and_others_may_come() {
        let mut known = known();
        let half = ALL.into_iter().take(2).chain([("c", "1"), ("c", "2")]);
        assert_eq!(known.list(half), Verdict::Use);
    }

    #[test]
    fn deletions_one_by_one_are_never_held() {
        let mut known = known();
        for (namespace, name) in ALL {
            known.delete(&ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            });
        }
        assert_eq!(known.len(), 0);
        assert_eq!(known.list([].into_iter()), Verdict::Use);
    }
}
