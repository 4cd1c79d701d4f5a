//! The parsed pattern: nodes in one vector, each after its parts, so that every pass is a loop over the vector and depth
//! costs nothing.

use std::{
    collections::VecDeque,
    ops::{BitOr, BitXor, Index, IndexMut, Sub},
};

use super::{Flaw, class::Class};

/// More nodes than RE2 visits in one walk.
const MAX_NODES: usize = 1_000_000;

/// A node's place in its [`Ast`].
pub(super) type Id = u32;

/// What `(?flags)` sets, as far as it makes nodes differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const FOLD: Self = Self(1);
    pub(super) const MULTI_LINE: Self = Self(2);
    pub(super) const DOT_NEWLINE: Self = Self(4);
    pub(super) const NON_GREEDY: Self = Self(8);

    pub(super) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitXor for Flags {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl Sub for Flags {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// An assertion, which matches without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    BeginLine,
    EndLine,
    BeginText,
    /// `\z`.
    EndText,
    /// `$` without the flag m: the same, but RE2 keeps the two apart when it compares.
    Dollar,
    WordBoundary,
    NoWordBoundary,
}

/// `*`, `+` or `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    Any,
    Some,
    Optional,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Matches nothing.
    Never,
    Empty,
    /// A byte, and its place in [`Ast::text`].
    Literal(u8, u32),
    /// Two literals or more: a piece of [`Ast::text`].
    Text(u32, u32),
    Class(Class),
    /// `.` with the flag s.
    AnyChar,
    /// `\C`.
    AnyByte,
    Look(Look),
    Capture(Id),
    Repeat(Times, Id),
    /// `{min,max}`.
    Count(Id, u32, Option<u32>),
    Concat(VecDeque<Id>),
    Alternate(VecDeque<Id>),
    /// Made of counts: `count` copies, then `last`.
    Copies(Id, u32, Option<Id>),
    /// Made of counts: `(sub(sub(…last)?)?)?` with so many levels, at least one.
    Nested(Id, u32, Id),
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) flags: Flags,
    /// How often the counts of the node and of its parts repeat the innermost one, at most.
    pub(super) copies: u32,
}

/// A pattern's nodes.
#[derive(Debug, Default)]
pub(super) struct Ast {
    nodes: Vec<Node>,
    /// The bytes of all literals in the order of the pattern, so that neighbours can be joined where they are.
    text: Vec<u8>,
}

impl Ast {
    /// Adds a node whose parts are there already.
    pub(super) fn add(&mut self, op: Op, flags: Flags) -> Result<Id, Flaw> {
        let copies = match &op {
            Op::Count(sub, min, max) => {
                let times = max.unwrap_or(*min).max(1);
                self[*sub].copies.saturating_mul(times)
            }
            op => parts(op).map(|id| self[id].copies).max().unwrap_or(1),
        };
        self.add_with(op, flags, copies)
    }

    /// The same for parts of which it is known how often counts repeat them: looking at all of them again would cost too
    /// much where nests are flattened.
    pub(super) fn add_with(&mut self, op: Op, flags: Flags, copies: u32) -> Result<Id, Flaw> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Flaw::TooComplex);
        }
        let id = self.nodes.len() as Id;
        self.nodes.push(Node { op, flags, copies });
        Ok(id)
    }

    /// Forgets a node that is part of nothing, if it is the last.
    pub(super) fn forget(&mut self, id: Id) {
        if id as usize + 1 == self.nodes.len() {
            self.nodes.pop();
        }
    }

    /// The node for a run of literals.
    pub(super) fn literals(&self, start: u32, end: u32) -> Op {
        match end - start {
            0 => Op::Empty,
            1 => Op::Literal(self.text[start as usize], start),
            _ => Op::Text(start, end),
        }
    }

    /// The bytes of a literal or a text; none for other nodes.
    pub(super) fn bytes<'a>(&'a self, op: &'a Op) -> &'a [u8] {
        match op {
            Op::Literal(byte, _) => std::slice::from_ref(byte),
            Op::Text(start, end) => &self.text[*start as usize..*end as usize],
            _ => &[],
        }
    }

    /// A new literal.
    pub(super) fn literal(&mut self, byte: u8) -> Op {
        let place = self.text.len() as u32;
        self.text.push(byte);
        Op::Literal(byte, place)
    }

    /// Joins two neighbouring runs of literals, if the operations are such.
    pub(super) fn joined(one: &Op, other: &Op) -> Option<Op> {
        let place = |op: &Op| match *op {
            Op::Literal(_, place) => Some((place, place + 1)),
            Op::Text(start, end) => Some((start, end)),
            _ => None,
        };
        let ((start, middle), (next, end)) = (place(one)?, place(other)?);
        debug_assert_eq!(middle, next, "neighbours are next to each other");
        Some(Op::Text(start, end))
    }
}

impl Index<Id> for Ast {
    type Output = Node;

    fn index(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }
}

impl IndexMut<Id> for Ast {
    fn index_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

/// The nodes directly below.
pub(super) fn parts(op: &Op) -> impl Iterator<Item = Id> {
    let (many, one) = match op {
        Op::Concat(parts) | Op::Alternate(parts) => (Some(parts), [None; 2]),
        Op::Capture(sub) | Op::Repeat(_, sub) | Op::Count(sub, ..) => (None, [Some(*sub), None]),
        Op::Copies(sub, _, last) => (None, [Some(*sub), *last]),
        Op::Nested(sub, _, last) => (None, [Some(*sub), Some(*last)]),
        Op::Never
        | Op::Empty
        | Op::Literal(..)
        | Op::Text(..)
        | Op::Class(_)
        | Op::AnyChar
        | Op::AnyByte
        | Op::Look(_) => (None, [None; 2]),
    };
    many.into_iter()
        .flatten()
        .copied()
        .chain(one.into_iter().flatten())
}
