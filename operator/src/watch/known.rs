//! The objects of a kind that the watch knows: how many there are, and whether a new list lacks too many of them.
//!
//! A list that lacks more than half of what is known is used only if the list after it does, too: it may come from a
//! backup, from a cache that is not filled, or from another cluster, and it would take most of the traffic down. So is a
//! list without which more than half of the clusters would be lost, however few objects it lacks: a part of the Mappings
//! can have most of the clusters, and one resolver all of them. Only whole lists are held; a DELETE event is always
//! believed, and so are edits of files, which come as events.

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
    /// Whether a list lacks some objects and yet not most, and is not the one that confirms another.
    pub(crate) fn is_doubtful<'a>(&self, listed: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let listed = listed.map(|(namespace, name)| key(namespace, name));
        let listed: HashSet<u64> = listed.collect();
        let missing = self.objects.difference(&listed).count();
        !self.is_held && missing > 0 && missing * 2 <= self.objects.len()
    }

    /// Decides about a list, without which most clusters would be lost or not.
    pub(crate) fn list<'a>(
        &mut self,
        listed: impl Iterator<Item = (&'a str, &'a str)>,
        loses_most: bool,
    ) -> Verdict {
        let listed: HashSet<u64> = listed
            .map(|(namespace, name)| key(namespace, name))
            .collect();
        let missing = self.objects.difference(&listed).count();
        let is_short = missing * 2 > self.objects.len() || loses_most;
        if is_short && !self.is_held {
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

pub(super) fn key_of(metadata: &ObjectMeta) -> u64 {
    key(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

pub(super) fn key(namespace: &str, name: &str) -> u64 {
    xxh3_64(format!("{namespace}/{name}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 4] = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")];

    fn known() -> Known {
        let mut known = Known::default();
        assert_eq!(known.list(ALL.into_iter(), false), Verdict::Use);
        known
    }

    #[test]
    fn a_list_without_most_of_the_objects_needs_another_one() {
        let mut known = known();
        let short = || ALL.into_iter().take(1);
        assert_eq!(known.list(short(), false), Verdict::Hold(3));
        assert_eq!(known.len(), 4);
        assert_eq!(known.list(short(), false), Verdict::Use);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn a_list_that_is_not_confirmed_is_forgotten() {
        let mut known = known();
        assert_eq!(known.list([].into_iter(), false), Verdict::Hold(4));
        assert_eq!(known.list(ALL.into_iter(), false), Verdict::Use);
        assert_eq!(known.list([].into_iter(), false), Verdict::Hold(4));
    }

    #[test]
    fn half_of_the_objects_may_go_at_once_and_others_may_come() {
        let mut known = known();
        let half = ALL.into_iter().take(2).chain([("c", "1"), ("c", "2")]);
        assert_eq!(known.list(half, false), Verdict::Use);
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
        assert_eq!(known.list([].into_iter(), false), Verdict::Use);
    }

    #[test]
    fn a_list_that_takes_most_clusters_needs_another_one_however_little_it_lacks() {
        let mut known = known();
        let short = || ALL.into_iter().take(3);
        assert!(!known.is_doubtful(ALL.into_iter()));
        assert!(known.is_doubtful(short()));
        assert_eq!(known.list(short(), true), Verdict::Hold(1));
        assert!(!known.is_doubtful(short()), "it confirms the other one");
        assert_eq!(known.list(short(), false), Verdict::Use);
        assert_eq!(known.len(), 3);
    }
}
