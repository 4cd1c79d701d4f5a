//! What the journal keeps, whatever is recorded.

use std::time::Instant;

use jiff::Timestamp;
use nuncio_core::{
    change::{ResourceVersion, Subject, Touched},
    object::{Kind, ObjectRef},
};
use nuncio_xds::{
    Resource, ResourceType, Version,
    cache::{self, Update},
    quarantine::{Published, Quarantine},
    snapshot::{Difference, ResourceChange},
};
use proptest::prelude::*;

use super::*;

fn touched(count: usize, name: &str) -> impl Iterator<Item = Touched> {
    (0..count).map(move |number| Touched {
        subject: Subject::Object(ObjectRef::new(
            Kind::Mapping,
            "default",
            &format!("{name}{number}"),
        )),
        version: ResourceVersion::Number(7),
        is_gone: false,
    })
}

fn publication(seq: u64, causes: usize, changes: usize, name: &str) -> Publication {
    let mut pending = Pending::default();
    pending.add(
        Instant::now(),
        &ResourceVersion::Unknown,
        touched(causes, name),
    );
    let change = |number: usize| ResourceChange {
        kind: ResourceType::Cluster,
        name: format!("{name}{number}").into(),
        before: None,
        now: Some(Version(1)),
    };
    let difference = Difference {
        changes: (0..changes.min(LISTED)).map(change).collect(),
        total: changes,
        bytes: 0,
    };
    let published = Published {
        seq,
        at: Instant::now(),
        is_review: false,
        difference,
    };
    let round = Round {
        seq,
        is_first: seq == 1,
        causes: pending.take(),
        linking: Duration::ZERO,
        rendering: Duration::ZERO,
    };
    Publication::of(published, Some(round), Timestamp::UNIX_EPOCH)
}

/// The size of all publications, counted again.
fn size(journal: &Journal) -> usize {
    let entries = journal.entries_after(0);
    entries.iter().map(|entry| entry.publication.size()).sum()
}

/// A first snapshot with 10,000 causes and 40,000 resources, then 20,000 changes.
#[test]
fn a_huge_start_and_much_churn_are_bounded() {
    let (writer, _cache) = cache::channel();
    let fleet = Fleet::new();
    let mut quarantine = Quarantine::new(writer, fleet.clone());
    quarantine.record(LISTED);
    let resource = |number: usize, body: u64| {
        let body = body.to_string().into_bytes();
        Resource::new(
            ResourceType::Cluster,
            format!("cluster-{number}"),
            body.into(),
        )
    };
    let upserts = (0..40_000).map(|number| resource(number, 0)).collect();
    let update = |upserts| Update {
        upserts,
        ..Update::default()
    };
    let seq = quarantine.apply(update(upserts));
    let mut pending = Pending::default();
    let received = Instant::now();
    pending.add(received, &ResourceVersion::Unknown, touched(10_000, "m"));
    let journal = Journal::new(fleet, Limits::default());
    let record = |quarantine: &mut Quarantine, seq, pending: &mut Pending| {
        let round = Round {
            seq,
            is_first: seq == 1,
            causes: pending.take(),
            linking: Duration::ZERO,
            rendering: Duration::ZERO,
        };
        let published = quarantine.take_published().remove(0);
        journal.record(Publication::of(
            published,
            Some(round),
            Timestamp::UNIX_EPOCH,
        ));
    };
    record(&mut quarantine, seq, &mut pending);
    let first = journal.entry(1).expect("the first entry").publication;
    assert_eq!(
        (first.causes.total, first.causes.listed.len()),
        (10_000, LISTED)
    );
    let difference = &first.difference;
    assert_eq!(
        (difference.total, difference.changes.len()),
        (40_000, LISTED)
    );
    assert!(first.size() < 100 << 10, "{} bytes", first.size());
    for number in 1..20_000 {
        let seq = quarantine.apply(update(vec![resource(number % 100, number as u64)]));
        pending.add(received, &ResourceVersion::Unknown, touched(1, "m"));
        record(&mut quarantine, seq, &mut pending);
    }
    let limits = Limits::default();
    let entries = journal.entries_after(0);
    assert_eq!(entries.len(), limits.entries);
    assert_eq!(
        entries.last().map(|entry| entry.publication.seq),
        Some(20_000)
    );
    assert!(size(&journal) <= limits.bytes, "{}", size(&journal));
    let mean = size(&journal) / entries.len();
    assert!(
        mean < 600,
        "{mean} bytes for a change of one Mapping and one cluster"
    );
}

proptest! {
    /// Whatever is recorded, the limits hold, and the newest entries are kept.
    #[test]
    fn limits_hold(
        sizes in prop::collection::vec((0usize..400, 0usize..400, 1usize..2000), 1..60),
        entries in 1usize..20,
        bytes in 0usize..200_000,
    ) {
        let limits = Limits { entries, bytes };
        let journal = Journal::new(Fleet::new(), limits);
        let mut seq = 0;
        for (causes, changes, name) in sizes {
            seq += 1;
            journal.record(publication(seq, causes, changes, &"n".repeat(name)));
            prop_assert!(size(&journal) <= limits.bytes);
            let kept = journal.entries_after(0);
            prop_assert!(kept.len() <= limits.entries);
            prop_assert_eq!(journal.lock().bytes, size(&journal));
            let seqs = kept.iter().map(|entry| entry.publication.seq);
            prop_assert!(seqs.eq(seq + 1 - kept.len() as u64..=seq));
            prop_assert!(kept.is_empty() || journal.entry(seq).is_some());
            prop_assert!(journal.entry(seq + 1).is_none());
        }
    }
}

#[test]
fn causes_with_long_names_are_counted_and_not_listed() {
    let entry = publication(2, 100, 0, &"n".repeat(10_000));
    assert_eq!(entry.causes.total, 100);
    assert_eq!(entry.causes.listed.len(), 3);
    assert_eq!(entry.reason, Reason::Changes);
    assert!(entry.received().is_some());
}

#[test]
fn the_history_of_a_resource_has_what_changed_it() {
    let journal = Journal::new(Fleet::new(), Limits::default());
    for (seq, name) in [(1, "a"), (2, "b"), (3, "a")] {
        journal.record(publication(seq, 1, 1, name));
    }
    let history = journal.history(ResourceType::Cluster, "a0");
    let seqs: Vec<u64> = history.iter().map(|entry| entry.publication.seq).collect();
    assert_eq!(seqs, [1, 3]);
    assert!(journal.history(ResourceType::Listener, "a0").is_empty());
}

#[test]
fn what_no_round_published_was_rejected() {
    let published = |is_review| Published {
        seq: 5,
        at: Instant::now(),
        is_review,
        difference: Difference::default(),
    };
    let round = || Round {
        seq: 5,
        is_first: false,
        causes: Causes::default(),
        linking: Duration::ZERO,
        rendering: Duration::ZERO,
    };
    let reason = |is_review, round| {
        Publication::of(published(is_review), round, Timestamp::UNIX_EPOCH).reason
    };
    assert_eq!(reason(false, None), Reason::Rejections);
    assert_eq!(reason(true, Some(round())), Reason::Rejections);
    assert_eq!(reason(false, Some(round())), Reason::Time);
}
