//! Alternatives with a common beginning share it: `abc|abd|aef` is `a(?:b[cd]|ef)`.

use std::ops::Range;

use crate::reconcile::regex::{
    Flaw,
    ast::{Ast, Flags, Id, Node, Op},
    class::Class,
};

/// A run of alternatives that is replaced.
struct Run {
    places: Range<usize>,
    by: Id,
    /// What follows `by`; not for classes, which replace their run wholly.
    suffixes: Vec<Id>,
}

/// Alternatives, and how far they are.
struct Frame {
    alternatives: Vec<Id>,
    round: Round,
    runs: Vec<Run>,
    /// The next run whose suffixes are to be factored.
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Literals,
    Pieces,
    Classes,
}

/// Factors alternatives as RE2 does. Suffixes are factored in the same way, on a stack of our own.
pub(super) fn factor(
    ast: &mut Ast,
    alternatives: Vec<Id>,
    flags: Flags,
    work: &mut usize,
) -> Result<Vec<Id>, Flaw> {
    let mut frames = Vec::new();
    let mut frame = Frame::new(ast, alternatives, work)?;
    loop {
        if frame.round != Round::Classes && frame.next < frame.runs.len() {
            let places = frame.runs[frame.next].places.clone();
            let suffixes = frame.alternatives[places].to_vec();
            let inner = Frame::new(ast, suffixes, work)?;
            frames.push(std::mem::replace(&mut frame, inner));
            continue;
        }
        frame.replace_runs(ast, flags)?;
        frame.round = match frame.round {
            Round::Literals => Round::Pieces,
            Round::Pieces => Round::Classes,
            Round::Classes => {
                let Some(outer) = frames.pop() else {
                    return Ok(frame.alternatives);
                };
                let done = std::mem::replace(&mut frame, outer);
                let next = frame.next;
                frame.runs[next].suffixes = done.alternatives;
                frame.next += 1;
                continue;
            }
        };
        frame.runs = match frame.round {
            Round::Pieces => common_pieces(ast, &mut frame.alternatives)?,
            _ => characters(ast, &frame.alternatives, flags)?,
        };
        frame.next = 0;
    }
}

impl Frame {
    fn new(ast: &mut Ast, alternatives: Vec<Id>, work: &mut usize) -> Result<Self, Flaw> {
        let runs = common_literals(ast, &alternatives, work)?;
        Ok(Self {
            alternatives,
            round: Round::Literals,
            runs,
            next: 0,
        })
    }

    fn replace_runs(&mut self, ast: &mut Ast, flags: Flags) -> Result<(), Flaw> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(self.alternatives.len());
        let mut done = 0;
        for run in std::mem::take(&mut self.runs) {
            all.extend(&self.alternatives[done..run.places.start]);
            done = run.places.end;
            if self.round == Round::Classes {
                all.push(run.by);
                continue;
            }
            let suffix = match run.suffixes[..] {
                [one] => one,
                _ => ast.add(Op::Alternate(run.suffixes.into()), flags)?,
            };
            all.push(ast.add(Op::Concat([run.by, suffix].into()), flags)?);
        }
        all.extend(&self.alternatives[done..]);
        self.alternatives = all;
        Ok(())
    }
}

/// Runs with a common beginning of literals, which is removed from them.
fn common_literals(ast: &mut Ast, alternatives: &[Id], work: &mut usize) -> Result<Vec<Run>, Flaw> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut length = alternatives
        .first()
        .map_or(0, |id| beginning(ast, *id).1.len());
    for place in 1..=alternatives.len() {
        let (fold, text) = beginning(ast, alternatives[start]);
        if let Some(id) = alternatives.get(place) {
            let (other_fold, other) = beginning(ast, *id);
            let same = text[..length]
                .iter()
                .zip(other)
                .take_while(|(one, other)| one == other)
                .count();
            *work = work.checked_sub(1 + same / 16).ok_or(Flaw::TooComplex)?;
            if fold == other_fold && same > 0 {
                length = same;
                continue;
            }
        }
        if place > start + 1 {
            let flags = if fold { Flags::FOLD } else { Flags::default() };
            let op = match leaf(ast, alternatives[start]).op {
                Op::Text(from, _) => ast.literals(from, from + length as u32),
                ref op => op.clone(),
            };
            let by = ast.add(op, flags)?;
            for id in &alternatives[start..place] {
                remove_literals(ast, *id, length as u32);
            }
            runs.push(Run {
                places: start..place,
                by,
                suffixes: Vec::new(),
            });
        }
        if let Some(id) = alternatives.get(place) {
            start = place;
            length = beginning(ast, *id).1.len();
        }
    }
    Ok(runs)
}

/// The first node that is no concatenation.
fn leaf(ast: &Ast, mut id: Id) -> &Node {
    while let Op::Concat(parts) = &ast[id].op
        && let Some(first) = parts.front()
    {
        id = *first;
    }
    &ast[id]
}

/// The literals that an alternative begins with, and whether their case counts.
fn beginning(ast: &Ast, id: Id) -> (bool, &[u8]) {
    let leaf = leaf(ast, id);
    (leaf.flags.has(Flags::FOLD), ast.bytes(&leaf.op))
}

fn remove_literals(ast: &mut Ast, id: Id, count: u32) {
    let mut concats = Vec::new();
    let mut id = id;
    while let Op::Concat(parts) = &ast[id].op
        && let Some(first) = parts.front()
    {
        concats.push(id);
        id = *first;
    }
    ast[id].op = match ast[id].op {
        Op::Text(start, end) => ast.literals((start + count).min(end), end),
        _ => Op::Empty,
    };
    for id in concats.into_iter().rev() {
        let Op::Concat(parts) = &ast[id].op else {
            continue;
        };
        if !matches!(parts.front().map(|first| &ast[*first].op), Some(Op::Empty)) {
            continue;
        }
        if parts.len() == 2 {
            let rest = parts[1];
            ast[id] = ast[rest].clone();
        } else if let Op::Concat(parts) = &mut ast[id].op {
            parts.pop_front();
        }
    }
}

/// Runs that begin with the same simple piece, which is removed from them.
fn common_pieces(ast: &mut Ast, alternatives: &mut [Id]) -> Result<Vec<Run>, Flaw> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut first = alternatives.first().and_then(|id| first_piece(ast, *id));
    for place in 1..=alternatives.len() {
        let other = alternatives.get(place).and_then(|id| first_piece(ast, *id));
        if let (Some(first), Some(other)) = (first, other)
            && is_simple_piece(ast, first)
            && is_equal_leaf(ast, first, other)
        {
            continue;
        }
        if let Some(by) = first
            && place > start + 1
        {
            for alternative in &mut alternatives[start..place] {
                *alternative = without_first(ast, *alternative)?;
            }
            runs.push(Run {
                places: start..place,
                by,
                suffixes: Vec::new(),
            });
        }
        start = place;
        first = other;
    }
    Ok(runs)
}

fn first_piece(ast: &Ast, id: Id) -> Option<Id> {
    let first = match &ast[id].op {
        Op::Concat(parts) if parts.len() >= 2 => *parts.front()?,
        _ => id,
    };
    (!matches!(ast[first].op, Op::Empty)).then_some(first)
}

fn without_first(ast: &mut Ast, id: Id) -> Result<Id, Flaw> {
    if let Op::Concat(parts) = &mut ast[id].op
        && parts.len() >= 2
    {
        parts.pop_front();
        return Ok(match parts.back() {
            Some(last) if parts.len() == 1 => *last,
            _ => id,
        });
    }
    let flags = ast[id].flags;
    ast.add(Op::Empty, flags)
}

/// An assertion, a class, or a fixed number of one character.
fn is_simple_piece(ast: &Ast, id: Id) -> bool {
    match ast[id].op {
        Op::Look(_) | Op::Class(_) | Op::AnyChar | Op::AnyByte => true,
        Op::Count(sub, min, max) => max == Some(min) && is_one_character(&ast[sub].op),
        _ => false,
    }
}

/// A literal, a class, any character or any byte.
pub(in crate::reconcile::regex) fn is_one_character(op: &Op) -> bool {
    matches!(
        op,
        Op::Literal(..) | Op::Class(_) | Op::AnyChar | Op::AnyByte
    )
}

/// Whether two nodes are equal, of which the first is a character, an assertion, or a count of a character.
pub(in crate::reconcile::regex) fn is_equal_leaf(ast: &Ast, one: Id, other: Id) -> bool {
    let (one, other) = (&ast[one], &ast[other]);
    let differs = |flag| one.flags.has(flag) != other.flags.has(flag);
    match (&one.op, &other.op) {
        (Op::Literal(a, _), Op::Literal(b, _)) => a == b && !differs(Flags::FOLD),
        (Op::Class(a), Op::Class(b)) => a == b,
        (Op::Look(a), Op::Look(b)) => a == b,
        (Op::AnyChar, Op::AnyChar) | (Op::AnyByte, Op::AnyByte) => true,
        (Op::Count(a, min, max), Op::Count(b, other_min, other_max)) => {
            (min, max) == (other_min, other_max)
                && !differs(Flags::NON_GREEDY)
                && is_one_character(&ast[*a].op)
                && is_equal_leaf(ast, *a, *b)
        }
        _ => false,
    }
}

/// Runs of literals and classes, which become one class.
fn characters(ast: &mut Ast, alternatives: &[Id], flags: Flags) -> Result<Vec<Run>, Flaw> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < alternatives.len() {
        let classes: Vec<Class> = alternatives[start..]
            .iter()
            .map_while(|id| class_of(ast, *id))
            .collect();
        if classes.len() > 1 {
            let class = classes
                .iter()
                .fold(Class::default(), |all, class| all | *class);
            runs.push(Run {
                places: start..start + classes.len(),
                by: ast.add(Op::Class(class), flags - Flags::FOLD)?,
                suffixes: Vec::new(),
            });
        }
        start += classes.len().max(1);
    }
    Ok(runs)
}

fn class_of(ast: &Ast, id: Id) -> Option<Class> {
    match ast[id].op {
        Op::Class(class) => Some(class),
        Op::Literal(byte, _) if ast[id].flags.has(Flags::FOLD) => {
            Some(Class::range(byte, byte).folded())
        }
        Op::Literal(byte, _) => Some(Class::range(byte, byte)),
        _ => None,
    }
}
