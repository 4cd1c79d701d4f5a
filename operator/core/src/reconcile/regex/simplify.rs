//! Takes counts and empty classes out of the tree, as RE2 does before it compiles. Repeated parts are shared, not copied.

use std::collections::{BTreeSet, VecDeque};

use super::{
    Flaw,
    ast::{Ast, Flags, Id, Op, Times, parts},
    parse::{is_equal_leaf, is_one_character},
};

/// Simplifies the tree and returns its new root.
pub(super) fn simplify(ast: &mut Ast, root: Id) -> Result<Id, Flaw> {
    let live = live(ast, root);
    for id in ids(&live) {
        coalesce(ast, id);
    }
    // coalescing leaves nodes behind
    let live = self::live(ast, root);
    let mut simplifier = Simplifier {
        new: (0..=root).collect(),
        only_looks: BTreeSet::new(),
        ast,
    };
    for id in ids(&live) {
        simplifier.new[id as usize] = simplifier.node(id)?;
    }
    Ok(simplifier.new[root as usize])
}

/// Which nodes belong to the tree. Parts come before what they are parts of.
pub(super) fn live(ast: &Ast, root: Id) -> Vec<bool> {
    let mut live = vec![false; root as usize + 1];
    live[root as usize] = true;
    for id in (0..=root).rev() {
        if live[id as usize] {
            for part in parts(&ast[id].op) {
                live[part as usize] = true;
            }
        }
    }
    live
}

pub(super) fn ids(live: &[bool]) -> impl Iterator<Item = Id> {
    (0..)
        .zip(live)
        .filter_map(|(id, is_live)| is_live.then_some(id))
}

/// Joins neighbours in a concatenation that repeat the same character: `a*aa+` is `a{3,}`.
fn coalesce(ast: &mut Ast, id: Id) {
    let Op::Concat(list) = &ast[id].op else {
        return;
    };
    let mut pairs = list.iter().zip(list.iter().skip(1));
    if !pairs.any(|(one, other)| can_coalesce(ast, *one, *other)) {
        return;
    }
    let Op::Concat(mut list) = std::mem::replace(&mut ast[id].op, Op::Empty) else {
        return;
    };
    for place in 1..list.len() {
        let (one, other) = (list[place - 1], list[place]);
        if can_coalesce(ast, one, other) && join(ast, one, other) {
            list.swap(place - 1, place);
        }
    }
    list.retain(|part| !matches!(ast[*part].op, Op::Empty));
    ast[id].op = Op::Concat(list);
}

/// The character that a node repeats, and how often.
fn repeated(op: &Op) -> Option<(Id, u32, Option<u32>)> {
    match *op {
        Op::Repeat(Times::Any, sub) => Some((sub, 0, None)),
        Op::Repeat(Times::Some, sub) => Some((sub, 1, None)),
        Op::Repeat(Times::Optional, sub) => Some((sub, 0, Some(1))),
        Op::Count(sub, min, max) => Some((sub, min, max)),
        _ => None,
    }
}

fn can_coalesce(ast: &Ast, one: Id, other: Id) -> bool {
    let Some((sub, ..)) = repeated(&ast[one].op) else {
        return false;
    };
    if !is_one_character(&ast[sub].op) {
        return false;
    }
    if let Some((other_sub, ..)) = repeated(&ast[other].op)
        && is_equal_leaf(ast, sub, other_sub)
    {
        return ast[one].flags.has(Flags::NON_GREEDY) == ast[other].flags.has(Flags::NON_GREEDY);
    }
    let begins_with = || match (&ast[sub].op, &ast[other].op) {
        (Op::Literal(byte, _), text @ Op::Text(..)) => {
            ast.bytes(text).first() == Some(byte)
                && ast[sub].flags.has(Flags::FOLD) == ast[other].flags.has(Flags::FOLD)
        }
        _ => false,
    };
    is_equal_leaf(ast, sub, other) || begins_with()
}

/// Makes one count of both; whether nothing is left of the second, which then is empty.
fn join(ast: &mut Ast, one: Id, other: Id) -> bool {
    let Some((sub, min, max)) = repeated(&ast[one].op) else {
        return false;
    };
    let (more, more_max, rest) = match (repeated(&ast[other].op), &ast[other].op) {
        (Some((_, min, max)), _) => (min, max, Op::Empty),
        (None, Op::Text(start, end)) => {
            let bytes = ast.bytes(&ast[other].op);
            let same = bytes.iter().take_while(|byte| **byte == bytes[0]).count() as u32;
            let (start, end) = (start + same, *end);
            (same, Some(same), ast.literals(start, end))
        }
        (None, _) => (1, Some(1), Op::Empty),
    };
    let max = max.zip(more_max).map(|(max, more)| max + more);
    ast[one].op = Op::Count(sub, min + more, max);
    let is_whole = matches!(rest, Op::Empty);
    ast[other].op = rest;
    is_whole
}

struct Simplifier<'a> {
    ast: &'a mut Ast,
    /// What became of each node.
    new: Vec<Id>,
    /// New nodes that have only assertions as their parts.
    only_looks: BTreeSet<Id>,
}

impl Simplifier<'_> {
    fn node(&mut self, id: Id) -> Result<Id, Flaw> {
        let flags = self.ast[id].flags;
        let op = match &self.ast[id].op {
            Op::Class(class) if class.is_empty() => Op::Never,
            Op::Concat(list) | Op::Alternate(list) => {
                let is_concat = matches!(self.ast[id].op, Op::Concat(_));
                let new: VecDeque<Id> = list.iter().map(|part| self.new[*part as usize]).collect();
                let only_looks = new.iter().all(|part| self.is_look(*part));
                let new = match is_concat {
                    _ if new == *list => id,
                    true => self.ast.add(Op::Concat(new), flags)?,
                    false => self.ast.add(Op::Alternate(new), flags)?,
                };
                if only_looks {
                    self.only_looks.insert(new);
                }
                return Ok(new);
            }
            Op::Capture(sub) if self.new[*sub as usize] != *sub => {
                Op::Capture(self.new[*sub as usize])
            }
            Op::Repeat(times, old) => {
                let (times, sub) = (*times, self.new[*old as usize]);
                match self.ast[sub].op {
                    Op::Empty => return Ok(sub),
                    _ if sub == *old => return Ok(id),
                    _ if self.repeats(sub) == Some(times) && self.ast[sub].flags == flags => {
                        return Ok(sub);
                    }
                    _ => Op::Repeat(times, sub),
                }
            }
            Op::Count(old, min, max) => {
                let (old, min, max) = (*old, *min, *max);
                return self.count(old, min, max, flags);
            }
            _ => return Ok(id),
        };
        self.add(op, flags)
    }

    fn add(&mut self, op: Op, flags: Flags) -> Result<Id, Flaw> {
        self.ast.add(op, flags)
    }

    fn is_look(&self, id: Id) -> bool {
        matches!(self.ast[id].op, Op::Look(_))
    }

    /// Which repetition a node is.
    fn repeats(&self, id: Id) -> Option<Times> {
        match self.ast[id].op {
            Op::Repeat(times, _) => Some(times),
            Op::Nested(..) => Some(Times::Optional),
            _ => None,
        }
    }

    /// `x{2,4}` becomes `xx(x(x)?)?`, `x{2,}` becomes `xx+`.
    fn count(&mut self, old: Id, min: u32, max: Option<u32>, flags: Flags) -> Result<Id, Flaw> {
        let sub = self.new[old as usize];
        if matches!(self.ast[sub].op, Op::Empty) {
            return Ok(sub);
        }
        // more than one of the same assertion is one
        let (min, max) = if self.is_look(sub) || self.only_looks.contains(&sub) {
            (min.min(1), max.map(|max| max.min(1)))
        } else {
            (min, max)
        };
        match (min, max) {
            (0, None) => self.repeat(Times::Any, sub, flags),
            (1, None) => self.repeat(Times::Some, sub, flags),
            (_, None) => {
                let last = self.repeat(Times::Some, sub, flags)?;
                self.add(Op::Copies(sub, min - 1, Some(last)), flags)
            }
            (_, Some(0)) => self.add(Op::Empty, flags),
            (1, Some(1)) => Ok(sub),
            (_, Some(max)) => {
                let first = match min {
                    0 => None,
                    1 => Some(sub),
                    _ => Some(self.add(Op::Copies(sub, min, None), flags)?),
                };
                let rest = match max - min {
                    0 => None,
                    more => {
                        let last = self.repeat(Times::Optional, sub, flags)?;
                        Some(match more {
                            1 => last,
                            _ => self.add(Op::Nested(sub, more - 1, last), flags)?,
                        })
                    }
                };
                match (first, rest) {
                    (Some(first), Some(rest)) => self.add(Op::Concat([first, rest].into()), flags),
                    (first, rest) => Ok(first.or(rest).unwrap_or(sub)),
                }
            }
        }
    }

    /// A repetition; that of a repetition with the same flags is one.
    fn repeat(&mut self, times: Times, sub: Id, flags: Flags) -> Result<Id, Flaw> {
        let Some(inner) = self.repeats(sub).filter(|_| self.ast[sub].flags == flags) else {
            return self.add(Op::Repeat(times, sub), flags);
        };
        if inner == times || inner == Times::Any {
            return Ok(sub);
        }
        let op = match self.ast[sub].op {
            Op::Repeat(_, below) => Op::Repeat(Times::Any, below),
            // (x(x)?)? without its outermost ?
            Op::Nested(below, levels, last) => {
                let rest = match levels {
                    1 => last,
                    _ => self.add(Op::Nested(below, levels - 1, last), flags)?,
                };
                let inside = self.add(Op::Concat([below, rest].into()), flags)?;
                Op::Repeat(Times::Any, inside)
            }
            _ => Op::Repeat(times, sub),
        };
        self.add(op, flags)
    }
}
