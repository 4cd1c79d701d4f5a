//! What one change costs, counted: the allocations and bytes of each stage from the object to the next snapshot, and what
//! every Envoy is sent, among 100, 1,000 and 10,000 Mappings. Nothing is timed, so the numbers are the same on every machine.
//!
//! `recorded.md` has the numbers of the last change that was meant to alter them. Growth by more than 10 % is an error, and so
//! is a cost of a [`Change`] that depends on the number of Mappings where it must not. `UPDATE_COST=1` records new numbers.

use std::{alloc::System, env, fs, path::Path};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

mod record;
mod world;

use self::{
    record::{Numbers, Record},
    world::{Change, Layout, World},
};

/// Counts what this process allocates. There is one test here, so that no other thread allocates meanwhile.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Numbers of Mappings.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// What a stage allocates.
#[derive(Clone, Copy, Debug, Default)]
struct Allocated {
    allocations: usize,
    bytes: usize,
}

impl Allocated {
    /// What this function allocates, and its result.
    fn by<T>(function: impl FnOnce() -> T) -> (T, Self) {
        let region = Region::new(ALLOCATOR);
        let result = function();
        let change = region.change();
        let allocated = Self {
            allocations: change.allocations + change.reallocations,
            bytes: change.bytes_allocated,
        };
        (result, allocated)
    }
}

#[test]
fn a_change_costs_no_more_than_recorded() {
    let mut measured = Record::default();
    for size in SIZES {
        for layout in Layout::ALL {
            measure(layout, size, &mut measured);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cost/recorded.md");
    if env::var_os("UPDATE_COST").is_some() {
        fs::write(&path, measured.to_string()).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let mut growth = measured.growth_since(&Record::parse(&recorded));
    growth.extend(measured.dependent_on_size());
    assert!(
        growth.is_empty(),
        "{}\n\nIf this is meant, UPDATE_COST=1 cargo test -p nuncio-core --test cost records the numbers; \
         git diff operator/core/tests/cost/recorded.md shows them",
        growth.join("\n")
    );
}

/// Makes each change several times; the numbers are the mean.
fn measure(layout: Layout, size: usize, record: &mut Record) {
    let mut world = World::new(layout, size);
    for change in Change::ALL {
        if !change.is_of(layout) {
            continue;
        }
        let mut sum = Numbers::default();
        let rounds = change.rounds(layout);
        for round in 0..rounds {
            sum.add(&make(&mut world, change, round));
        }
        record.insert(layout, change, size, sum.mean(rounds));
    }
}

/// Takes a change through all stages.
fn make(world: &mut World, change: Change, round: usize) -> Numbers {
    let input = world.input(change, round);
    let (change, reconcile) = Allocated::by(|| world.reconcile(input));
    let (outcome, link) = Allocated::by(|| world.link(change));
    let (update, render) = Allocated::by(|| world.render(&outcome));
    let (next, difference) = Allocated::by(|| world.difference(&update));
    let (resources, bytes) = world.publish(next);
    Numbers {
        reconcile,
        link,
        render,
        difference,
        resources,
        bytes,
    }
}
