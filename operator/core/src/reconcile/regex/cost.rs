//! What compiling a tree would cost, without doing it: `((a{100}){10}){9}` is a few nodes and a million instructions.

use super::{
    ast::{Ast, Id, Op, Times},
    simplify::{ids, live},
};

/// The cost of a node with all that is below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// Instructions before flattening.
    pub(super) instructions: u64,
    /// Those that flattening keeps: a lower bound of the size.
    pub(super) kept: u64,
    /// Nodes visited, copies included.
    pub(super) visits: u64,
    /// Whether it never matches: nothing of it is kept.
    is_never: bool,
    is_nullable: bool,
}

/// The cost of a simplified tree.
pub(super) fn of(ast: &Ast, root: Id) -> Cost {
    let mut costs = vec![Cost::default(); root as usize + 1];
    for id in ids(&live(ast, root)) {
        costs[id as usize] = node(ast, id, &costs);
    }
    costs[root as usize]
}

fn node(ast: &Ast, id: Id, costs: &[Cost]) -> Cost {
    let of = |id: Id| costs[id as usize];
    let mut cost = match &ast[id].op {
        Op::Never | Op::Count(..) => Cost {
            is_never: true,
            ..Cost::default()
        },
        Op::Empty => Cost {
            instructions: 1,
            is_nullable: true,
            ..Cost::default()
        },
        Op::Look(_) => Cost {
            is_nullable: true,
            ..leaf(1)
        },
        Op::Literal(..) | Op::AnyChar | Op::AnyByte => leaf(1),
        Op::Text(start, end) => leaf(u64::from(end - start)),
        Op::Class(class) => {
            let ranges = class.needed_ranges().count() as u64;
            Cost {
                instructions: ranges * 2 - 1,
                ..leaf(ranges)
            }
        }
        Op::Capture(sub) if of(*sub).is_never => of(*sub),
        Op::Capture(sub) => of(*sub).and(leaf(2)).nullable(of(*sub).is_nullable),
        Op::Repeat(times, sub) => of(*sub).repeated(*times),
        Op::Concat(list) => list
            .iter()
            .map(|part| of(*part))
            .reduce(Cost::and)
            .unwrap_or_default(),
        Op::Alternate(list) => list
            .iter()
            .map(|part| of(*part))
            .reduce(Cost::or)
            .unwrap_or_default(),
        Op::Copies(sub, count, last) => {
            let copies = of(*sub).times(u64::from(*count));
            last.map_or(copies, |last| copies.and(of(last)))
        }
        Op::Nested(sub, levels, last) => {
            let mut all = of(*last);
            if of(*sub).is_never {
                // each level is empty
                all.kept = 0;
            }
            let copies = of(*sub).times(u64::from(*levels));
            let branches = u64::from(*levels);
            Cost {
                instructions: all
                    .instructions
                    .saturating_add(copies.instructions)
                    .saturating_add(branches),
                kept: all.kept.saturating_add(copies.kept),
                visits: all
                    .visits
                    .saturating_add(copies.visits)
                    .saturating_add(2 * branches),
                is_never: false,
                is_nullable: true,
            }
        }
    };
    cost.visits = cost.visits.saturating_add(1);
    cost
}

fn leaf(kept: u64) -> Cost {
    Cost {
        instructions: kept,
        kept,
        ..Cost::default()
    }
}

impl Cost {
    fn nullable(self, is_nullable: bool) -> Self {
        Self {
            is_nullable,
            ..self
        }
    }

    fn and(self, other: Self) -> Self {
        let is_never = self.is_never || other.is_never;
        Self {
            instructions: self.instructions.saturating_add(other.instructions),
            kept: if is_never {
                0
            } else {
                self.kept.saturating_add(other.kept)
            },
            visits: self.visits.saturating_add(other.visits),
            is_never,
            is_nullable: self.is_nullable && other.is_nullable,
        }
    }

    fn or(self, other: Self) -> Self {
        let branch = u64::from(!self.is_never && !other.is_never);
        Self {
            instructions: self
                .instructions
                .saturating_add(other.instructions)
                .saturating_add(branch),
            kept: self.kept.saturating_add(other.kept),
            visits: self.visits.saturating_add(other.visits),
            is_never: self.is_never && other.is_never,
            is_nullable: self.is_nullable || other.is_nullable,
        }
    }

    fn times(self, count: u64) -> Self {
        Self {
            instructions: self.instructions.saturating_mul(count),
            kept: self.kept.saturating_mul(count),
            visits: self.visits.saturating_mul(count),
            ..self
        }
    }

    fn repeated(self, times: Times) -> Self {
        let branches = if times == Times::Any && self.is_nullable {
            2
        } else {
            1
        };
        Self {
            instructions: self.instructions.saturating_add(branches),
            is_never: self.is_never && times == Times::Some,
            is_nullable: self.is_nullable || times != Times::Some,
            ..self
        }
    }
}
