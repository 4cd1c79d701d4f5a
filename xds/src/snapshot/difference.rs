//! What differs between two snapshots: names and versions, without content.

use std::sync::Arc;

use super::{Snapshot, TypeView};
use crate::{ResourceType, Version};

/// A resource that differs between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange {
    /// Type of the resource.
    pub kind: ResourceType,
    /// Name of the resource. [`crate::Unit::parse`] has the key of what it is rendered from.
    pub name: Arc<str>,
    /// Its version in the snapshot before; `None`: it is new.
    pub before: Option<Version>,
    /// Its version now; `None`: it is gone.
    pub now: Option<Version>,
}

/// What differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The resources that differ, by type and name; no more than were asked for.
    pub changes: Vec<ResourceChange>,
    /// How many differ.
    pub total: usize,
    /// Encoded size of those that are not gone, as an Envoy gets them that subscribes to all.
    pub bytes: usize,
}

impl Snapshot {
    /// What differs from an earlier snapshot; lists this many resources at most. Costs as much as there are changes between the two.
    #[must_use]
    pub fn difference(&self, before: &Self, limit: usize) -> Difference {
        let mut difference = Difference::default();
        for kind in ResourceType::ALL {
            let (then, now) = (before.of(kind), self.of(kind));
            for name in changed(then, now, before.seq) {
                let entry = now.get(name);
                let change = ResourceChange {
                    kind,
                    name: name.clone(),
                    before: then.get(name).map(|entry| entry.version),
                    now: entry.map(|entry| entry.version),
                };
                if change.before == change.now {
                    continue;
                }
                difference.total += 1;
                difference.bytes += entry.map_or(0, |entry| entry.len());
                if difference.changes.len() < limit {
                    difference.changes.push(change);
                }
            }
        }
        difference
    }
}

/// Names that may differ, sorted and without duplicates.
fn changed<'a>(then: &'a TypeView, now: &'a TypeView, since: u64) -> Vec<&'a Arc<str>> {
    let mut names: Vec<&Arc<str>> = match now.changed_since(since) {
        Some(names) => names.collect(),
        None => now.differences(then).collect(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::Resource;

    fn resource(name: &str, body: &str) -> Resource {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Resource::new(ResourceType::Cluster, name, body)
    }

    fn shown(difference: &Difference) -> Vec<String> {
        let sign = |change: &ResourceChange| match (change.before, change.now) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        };
        let changes = difference.changes.iter();
        changes
            .map(|change| format!("{}{}", sign(change), change.name))
            .collect()
    }

    #[test]
    fn what_is_new_or_other_or_gone_differs() {
        let all = [resource("a", "1"), resource("b", "1"), resource("c", "1")];
        let first = Snapshot::default().next(&all, &[]).unwrap();
        let next = [resource("a", "22"), resource("b", "1"), resource("d", "1")];
        let removals = [(ResourceType::Cluster, "c".into())];
        let second = first.next(&next, &removals).unwrap();
        let difference = second.difference(&first, 10);
        assert_eq!(shown(&difference), ["~a", "-c", "+d"]);
        let size = |name: &str| second.of(ResourceType::Cluster).get(name).unwrap().len();
        assert_eq!(difference.bytes, size("a") + size("d"));
        let few = second.difference(&first, 1);
        assert_eq!(shown(&few), ["~a"]);
        assert_eq!((few.total, few.bytes), (3, difference.bytes));
        // there and back is no difference
        let third = second.next(&[resource("a", "1")], &[]).unwrap();
        assert_eq!(shown(&third.difference(&first, 10)), ["-c", "+d"]);
        assert_eq!(third.difference(&third, 10), Difference::default());
    }

    #[test]
    fn more_changes_than_the_log_has_are_found() {
        let many: Vec<Resource> = (0..10_000)
            .map(|n| resource(&format!("{n:05}"), "1"))
            .collect();
        let first = Snapshot::default().next(&many, &[]).unwrap();
        let difference = first.difference(&Snapshot::default(), 7);
        assert_eq!((difference.total, difference.changes.len()), (10_000, 7));
        assert_eq!(difference.changes[6].name.as_ref(), "00006");
    }

    proptest! {
        /// Each change of a version is in the difference of exactly one snapshot from the one before it.
        #[test]
        fn each_change_is_in_one_difference(
            rounds in prop::collection::vec(
                prop::collection::vec((0u8..6, prop::option::of(0u8..3)), 0..6),
                1..12,
            ),
        ) {
            let mut snapshot = Snapshot::default();
            for round in rounds {
                let name = |n: u8| n.to_string();
                let upserts = round.iter().filter_map(|(n, body)| {
                    body.map(|body| resource(&name(*n), &body.to_string()))
                });
                let removals = round.iter().filter(|(_, body)| body.is_none());
                let removals = removals.map(|(n, _)| (ResourceType::Cluster, name(*n).into()));
                let (upserts, removals): (Vec<_>, Vec<_>) = (upserts.collect(), removals.collect());
                let Some(next) = snapshot.next(&upserts, &removals) else { continue };
                let difference = next.difference(&snapshot, usize::MAX);
                prop_assert_eq!(difference.total, difference.changes.len());
                let (then, now) = (snapshot.of(ResourceType::Cluster), next.of(ResourceType::Cluster));
                for n in 0..6 {
                    let version = |view: &TypeView| view.get(&name(n)).map(|entry| entry.version);
                    let changes = difference.changes.iter();
                    let found: Vec<_> = changes.filter(|change| *change.name == *name(n)).collect();
                    if version(then) == version(now) {
                        prop_assert!(found.is_empty());
                    } else {
                        prop_assert_eq!(found.len(), 1);
                        prop_assert_eq!(found[0].before, version(then));
                        prop_assert_eq!(found[0].now, version(now));
                    }
                }
                snapshot = next;
            }
        }
    }
}
