//! What a reader of the gateway costs the one who changes it: who holds a clone of the [`Ir`](nuncio_xds::ir::Ir) and of the
//! reports makes each change copy a path through them, and not the whole. Nothing is timed, so the numbers are the same everywhere.

use std::{alloc::System, ops::RangeInclusive};

use nuncio_core::{
    change::{Change, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    settings::Settings,
    store::Store,
};
use nuncio_xds::ir::Ir;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts what this process allocates. There is one test here, so that no other thread allocates meanwhile.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EDITS: usize = 50;
const HOSTS: usize = 100;

fn apply(store: &mut Store, kind: Kind, name: &str, spec: &Value) {
    let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let found = reconcile(kind, value, &Settings::default());
    store.apply(Change::Apply(Source::Api, found.into()));
}

fn mapping(store: &mut Store, number: usize, round: usize) {
    let spec = json!({
        "hostname": format!("h{}.example", number % HOSTS),
        "prefix": format!("/{number}/"),
        "service": format!("10.0.{}.{}", number / 250, number % 250),
        "timeout_ms": 3000 + round,
    });
    apply(store, Kind::Mapping, &format!("m{number}"), &spec);
}

/// A Store with this many Mappings, each with a cluster of its own.
fn store(mappings: usize) -> Store {
    let mut store = Store::new(Settings::default());
    let listener = json!({"port": 8080, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}});
    apply(&mut store, Kind::Listener, "http", &listener);
    for number in 0..HOSTS {
        let host = json!({"hostname": format!("h{number}.example"), "requestPolicy": {"insecure": {"action": "Route"}}});
        apply(&mut store, Kind::Host, &format!("h{number}"), &host);
    }
    for number in 0..mappings {
        mapping(&mut store, number, 0);
    }
    store.link();
    store
}

/// Allocations and bytes of an edit of a Mapping, in the mean; `read` takes what a reader keeps until the next edit.
fn price<T>(
    store: &mut Store,
    rounds: RangeInclusive<usize>,
    read: impl Fn(&Store) -> T,
) -> (usize, usize) {
    let mut kept = read(store);
    let region = Region::new(ALLOCATOR);
    for round in rounds {
        mapping(store, round % EDITS * 17, round);
        store.link();
        kept = read(store);
    }
    drop(kept);
    let change = region.change();
    (
        (change.allocations + change.reallocations) / EDITS,
        change.bytes_allocated / EDITS,
    )
}

#[test]
fn a_reader_costs_a_path_and_not_a_copy() {
    let mut extra = Vec::new();
    for mappings in [1_000, 10_000] {
        let mut store = store(mappings);
        let alone = price(&mut store, 1..=EDITS, |_| ());
        let read = price(&mut store, EDITS + 1..=2 * EDITS, |store| {
            (store.ir().clone(), store.reports().clone())
        });
        println!(
            "{mappings} Mappings: {alone:?} allocations and bytes for an edit, {read:?} with a reader"
        );
        extra.push((
            read.0.saturating_sub(alone.0),
            read.1.saturating_sub(alone.1),
        ));
    }
    let (allocations, bytes) = extra[1];
    assert!(allocations <= 8, "{allocations} allocations more");
    assert!(bytes <= 8 << 10, "{bytes} bytes more");
    assert!(
        bytes <= 2 * extra[0].1.max(4096),
        "{extra:?}: it grows with the Mappings"
    );

    // what a reader has is not changed by what comes later
    let mut store = store(10);
    let shown = |ir: &Ir| format!("{ir:?}");
    let (ir, reports) = (store.ir().clone(), store.reports().clone());
    let (before, count) = (shown(&ir), reports.len());
    store.apply(Change::Delete(
        Source::Api,
        ObjectRef::new(Kind::Mapping, "default", "m3"),
    ));
    mapping(&mut store, 4, 1);
    store.link();
    assert_eq!((shown(&ir), reports.len()), (before, count));
    assert_ne!(shown(store.ir()), shown(&ir));
    assert_eq!(store.reports().len(), count - 1);
}
