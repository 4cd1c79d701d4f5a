//! The operands read so far, put together as RE2 does it: what it joins, shares or leaves apart shows in the program's
//! size.

use std::collections::VecDeque;

use super::{MAX_REPEAT, Parsed, factor::factor};
use crate::reconcile::regex::{
    Flaw,
    ast::{Ast, Flags, Id, Op, Times},
    class::Class,
};

/// An operand or a marker.
#[derive(Clone, Copy)]
enum Entry {
    Node(Id),
    /// Below it is what to choose from, above it the current concatenation.
    Bar,
    Open {
        flags: Flags,
        is_capture: bool,
    },
}

/// The operands, and the flags at this point of the pattern.
pub(super) struct Stack {
    pub(super) flags: Flags,
    entries: Vec<Entry>,
    ast: Ast,
    groups: usize,
    /// What factoring may still cost. It is done again for each group around alternatives, so that only nests of hundreds
    /// of groups need more, and these make large programs (or are of empty parts).
    work: usize,
}

impl Stack {
    pub(super) fn new(length: usize) -> Self {
        Self {
            flags: Flags::default(),
            entries: Vec::new(),
            ast: Ast::default(),
            groups: 0,
            work: 30_000 + 20 * length,
        }
    }

    pub(super) fn push(&mut self, op: Op) -> Result<(), Flaw> {
        let flags = self.flags;
        self.push_with(op, flags)
    }

    fn push_with(&mut self, op: Op, flags: Flags) -> Result<(), Flaw> {
        self.join_literals();
        let id = self.ast.add(op, flags)?;
        self.entries.push(Entry::Node(id));
        Ok(())
    }

    pub(super) fn literal(&mut self, byte: u8) -> Result<(), Flaw> {
        let byte = if self.flags.has(Flags::FOLD) {
            byte.to_ascii_lowercase()
        } else {
            byte
        };
        let op = self.ast.literal(byte);
        self.push(op)
    }

    /// A class of one character, or of both cases of a letter, is a literal.
    pub(super) fn class(&mut self, class: Class) -> Result<(), Flaw> {
        match (class.len(), class.first()) {
            (1, Some(byte)) => {
                let op = self.ast.literal(byte);
                self.push(op)
            }
            (2, Some(byte)) if byte.is_ascii_uppercase() && class.is_folded() => {
                let flags = self.flags | Flags::FOLD;
                let op = self.ast.literal(byte.to_ascii_lowercase());
                self.push_with(op, flags)
            }
            _ => self.push_with(Op::Class(class), self.flags - Flags::FOLD),
        }
    }

    pub(super) fn dot(&mut self) -> Result<(), Flaw> {
        if self.flags.has(Flags::DOT_NEWLINE) {
            return self.push(Op::AnyChar);
        }
        self.class(!Class::range(b'\n', b'\n'))
    }

    /// `*`, `+` or `?` behind an operand. Two of them in a row (with brackets) become one if their flags are equal.
    pub(super) fn repeat(&mut self, times: Times, lazy: bool) -> Result<(), Flaw> {
        let Some(Entry::Node(sub)) = self.entries.last().copied() else {
            return Err(Flaw::NothingToRepeat);
        };
        let flags = self.repetition_flags(lazy);
        let node = &mut self.ast[sub];
        if let Op::Repeat(inner, _) = &mut node.op
            && node.flags == flags
        {
            if *inner != times {
                *inner = Times::Any;
            }
            return Ok(());
        }
        self.wrap(Op::Repeat(times, sub), flags)
    }

    /// `{min,max}` behind an operand.
    pub(super) fn count(&mut self, min: u32, max: Option<u32>, lazy: bool) -> Result<(), Flaw> {
        if min > MAX_REPEAT || max.is_some_and(|max| max < min || max > MAX_REPEAT) {
            return Err(Flaw::RepeatSize);
        }
        let Some(Entry::Node(sub)) = self.entries.last().copied() else {
            return Err(Flaw::NothingToRepeat);
        };
        let flags = self.repetition_flags(lazy);
        self.wrap(Op::Count(sub, min, max), flags)?;
        let is_checked = min >= 2 || max.is_some_and(|max| max >= 2);
        match self.entries.last() {
            Some(Entry::Node(id)) if is_checked && self.ast[*id].copies > MAX_REPEAT => {
                Err(Flaw::RepeatSize)
            }
            _ => Ok(()),
        }
    }

    fn repetition_flags(&self, lazy: bool) -> Flags {
        if lazy {
            self.flags ^ Flags::NON_GREEDY
        } else {
            self.flags
        }
    }

    /// Replaces the last operand by one that has it as its part.
    fn wrap(&mut self, op: Op, flags: Flags) -> Result<(), Flaw> {
        let id = self.ast.add(op, flags)?;
        self.entries.pop();
        self.entries.push(Entry::Node(id));
        Ok(())
    }

    pub(super) fn open(&mut self, is_capture: bool) -> Result<(), Flaw> {
        self.join_literals();
        self.groups += usize::from(is_capture);
        self.entries.push(Entry::Open {
            flags: self.flags,
            is_capture,
        });
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), Flaw> {
        self.alternation()?;
        let (Some(Entry::Node(sub)), Some(Entry::Open { flags, is_capture })) =
            (self.entries.pop(), self.entries.pop())
        else {
            return Err(Flaw::UnexpectedClose);
        };
        self.flags = flags;
        if is_capture {
            return self.push(Op::Capture(sub));
        }
        self.join_literals();
        self.entries.push(Entry::Node(sub));
        Ok(())
    }

    pub(super) fn bar(&mut self) -> Result<(), Flaw> {
        self.concatenation()?;
        let [.., Entry::Node(_), Entry::Bar, Entry::Node(_)] = self.entries[..] else {
            self.entries.push(Entry::Bar);
            return Ok(());
        };
        let length = self.entries.len();
        self.entries.swap(length - 1, length - 2);
        let [.., Entry::Node(before), Entry::Node(last), Entry::Bar] = self.entries[..] else {
            return Ok(());
        };
        // any character includes a neighbour that is one character
        let is_any = |id: Id| matches!(self.ast[id].op, Op::AnyChar);
        let is_one = |id: Id| {
            matches!(
                self.ast[id].op,
                Op::Literal(..) | Op::Class(_) | Op::AnyChar
            )
        };
        if is_any(before) && is_one(last) {
            self.entries.remove(length - 2);
        } else if is_any(last) && is_one(before) {
            self.entries.remove(length - 3);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Parsed, Flaw> {
        self.alternation()?;
        match self.entries[..] {
            [Entry::Node(root)] => Ok(Parsed {
                ast: self.ast,
                root,
                groups: self.groups,
            }),
            _ => Err(Flaw::OpenGroup),
        }
    }

    /// Joins the last two operands if both are literals. Called before another comes, for a repetition would be that of
    /// the last literal alone.
    fn join_literals(&mut self) {
        let [.., Entry::Node(first), Entry::Node(last)] = self.entries[..] else {
            return;
        };
        let (one, other) = (&self.ast[first], &self.ast[last]);
        if one.flags.has(Flags::FOLD) != other.flags.has(Flags::FOLD) {
            return;
        }
        let Some(op) = Ast::joined(&one.op, &other.op) else {
            return;
        };
        self.ast[first].op = op;
        self.ast.forget(last);
        self.entries.pop();
    }

    fn concatenation(&mut self) -> Result<(), Flaw> {
        self.join_literals();
        if !matches!(self.entries.last(), Some(Entry::Node(_))) {
            self.push(Op::Empty)?;
        }
        let Some((parts, copies)) = self.collapse(|op| match op {
            Op::Concat(parts) => Some(parts),
            _ => None,
        }) else {
            return Ok(());
        };
        let id = self.ast.add_with(Op::Concat(parts), self.flags, copies)?;
        self.entries.push(Entry::Node(id));
        Ok(())
    }

    fn alternation(&mut self) -> Result<(), Flaw> {
        self.bar()?;
        self.entries.pop();
        let Some((parts, copies)) = self.collapse(|op| match op {
            Op::Alternate(parts) => Some(parts),
            _ => None,
        }) else {
            return Ok(());
        };
        let parts = factor(&mut self.ast, parts.into(), self.flags, &mut self.work)?;
        let id = match parts[..] {
            [one] => one,
            _ => {
                let op = Op::Alternate(parts.into());
                self.ast.add_with(op, self.flags, copies)?
            }
        };
        self.entries.push(Entry::Node(id));
        Ok(())
    }

    /// Takes the operands down to the next marker, those of nested operations of the same kind included, and says how often
    /// counts repeat their parts; `None` if there is one operand only, which stays.
    fn collapse(
        &mut self,
        of_kind: fn(&mut Op) -> Option<&mut VecDeque<Id>>,
    ) -> Option<(VecDeque<Id>, u32)> {
        let operands = self
            .entries
            .iter()
            .rev()
            .take_while(|entry| matches!(entry, Entry::Node(_)))
            .count();
        if operands == 1 {
            return None;
        }
        let from = self.entries.len() - operands;
        let operands: Vec<Id> = self
            .entries
            .drain(from..)
            .filter_map(|entry| match entry {
                Entry::Node(id) => Some(id),
                Entry::Bar | Entry::Open { .. } => None,
            })
            .collect();
        let copies = operands.iter().map(|id| self.ast[*id].copies).max()?;
        // the longest nested operation is extended on both sides, so that nests cost no more than n log n
        let longest = operands
            .iter()
            .enumerate()
            .max_by_key(|(_, id)| of_kind(&mut self.ast[**id].op).map_or(0, |parts| parts.len()))
            .map_or(0, |(place, _)| place);
        let mut take = |id: Id| match of_kind(&mut self.ast[id].op) {
            Some(parts) => std::mem::take(parts),
            None => VecDeque::from([id]),
        };
        let mut all = take(operands[longest]);
        for id in operands[..longest].iter().rev() {
            for part in take(*id).into_iter().rev() {
                all.push_front(part);
            }
        }
        for id in &operands[longest + 1..] {
            all.extend(take(*id));
        }
        Some((all, copies))
    }
}
