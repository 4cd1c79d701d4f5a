//! Times of the stages of one change, among 100, 1,000 and 10,000 Mappings: `cargo bench --package nuncio-core`. What they allocate
//! is a test (`tests/cost`).

use std::cell::RefCell;

use divan::Bencher;
use nuncio_core::{change, store::Outcome};
use nuncio_xds::cache::Update;

#[expect(dead_code, reason = "the test uses more of it")]
#[path = "../tests/cost/world.rs"]
mod world;

use self::world::{Change, Layout, World};

const SIZES: [usize; 3] = [100, 1_000, 10_000];

fn main() {
    divan::main();
}

/// A gateway, and the number of the next change.
struct Changes {
    world: World,
    change: Change,
    round: usize,
}

impl Changes {
    fn new(layout: Layout, change: Change, size: usize) -> RefCell<Self> {
        RefCell::new(Self {
            world: World::new(layout, size),
            change,
            round: 0,
        })
    }

    /// The object of the next change.
    fn input(&mut self) -> world::Input {
        self.round += 1;
        self.world.input(self.change, self.round)
    }

    /// The next change, reconciled.
    fn change(&mut self) -> change::Change {
        let input = self.input();
        self.world.reconcile(input)
    }

    /// The next change, linked.
    fn outcome(&mut self) -> Outcome {
        let change = self.change();
        self.world.link(change)
    }

    /// The next change, rendered.
    fn update(&mut self) -> Update {
        let outcome = self.outcome();
        self.world.render(&outcome)
    }
}

/// Runs a benchmark of each stage for a change in a layout.
macro_rules! stages {
    ($name:ident, $layout:expr, $change:expr) => {
        mod $name {
            use super::*;

            #[divan::bench(args = SIZES)]
            fn reconcile(bencher: Bencher<'_, '_>, size: usize) {
                let changes = Changes::new($layout, $change, size);
                bencher
                    .with_inputs(|| changes.borrow_mut().input())
                    .bench_local_values(|input| changes.borrow().world.reconcile(input));
            }

            #[divan::bench(args = SIZES)]
            fn link(bencher: Bencher<'_, '_>, size: usize) {
                let changes = Changes::new($layout, $change, size);
                bencher
                    .with_inputs(|| changes.borrow_mut().change())
                    .bench_local_values(|change| changes.borrow_mut().world.link(change));
            }

            /// With the encoding of what is rendered.
            #[divan::bench(args = SIZES)]
            fn render(bencher: Bencher<'_, '_>, size: usize) {
                let changes = Changes::new($layout, $change, size);
                bencher
                    .with_inputs(|| changes.borrow_mut().outcome())
                    .bench_local_values(|outcome| changes.borrow_mut().world.render(&outcome));
            }

            #[divan::bench(args = SIZES)]
            fn difference(bencher: Bencher<'_, '_>, size: usize) {
                let changes = Changes::new($layout, $change, size);
                bencher
                    .with_inputs(|| changes.borrow_mut().update())
                    .bench_local_values(|update| changes.borrow().world.difference(&update));
            }
        }
    };
}

stages!(edit_with_tls, Layout::Tls, Change::EditMapping);
stages!(edit_in_cleartext, Layout::Cleartext, Change::EditMapping);
stages!(edit_on_any_host, Layout::AnyHost, Change::EditMapping);
stages!(endpoints, Layout::Tls, Change::Endpoints);
