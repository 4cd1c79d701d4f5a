//! RE2's syntax with its default options in Latin-1: a pattern's bytes become nodes.

use self::{bracket::bracket, escape::escape, stack::Stack};
use super::{
    Flaw,
    ast::{Ast, Flags, Id, Look, Op, Times},
    class::Class,
    names,
};

mod bracket;
mod escape;
mod factor;
mod stack;

pub(super) use factor::{is_equal_leaf, is_one_character};

/// RE2's limit for the numbers in `{min,max}`.
pub(super) const MAX_REPEAT: u32 = 1000;

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) ast: Ast,
    pub(super) root: Id,
    /// The number of capturing groups.
    pub(super) groups: usize,
}

/// Parses a pattern.
pub(super) fn parse(pattern: &str) -> Result<Parsed, Flaw> {
    let mut parser = Parser {
        rest: pattern.as_bytes(),
        stack: Stack::new(pattern.len()),
    };
    let mut behind_repetition = false;
    while !parser.rest.is_empty() {
        behind_repetition = parser.item(behind_repetition)?;
    }
    parser.stack.finish()
}

/// What is left of the pattern, and what is made of the rest.
struct Parser<'a> {
    rest: &'a [u8],
    stack: Stack,
}

impl Parser<'_> {
    /// The next item; whether it is a repetition.
    fn item(&mut self, behind_repetition: bool) -> Result<bool, Flaw> {
        let first = self.rest[0];
        match first {
            b'*' => return self.repetition(Times::Any, behind_repetition),
            b'+' => return self.repetition(Times::Some, behind_repetition),
            b'?' => return self.repetition(Times::Optional, behind_repetition),
            b'{' => {
                if let Some((min, max, rest)) = count(self.rest) {
                    self.rest = rest;
                    let lazy = self.lazy();
                    if behind_repetition {
                        return Err(Flaw::RepeatedRepetition);
                    }
                    self.stack.count(min, max, lazy)?;
                    return Ok(true);
                }
                self.rest = &self.rest[1..];
                self.stack.literal(b'{')?;
            }
            b'(' if self.rest.starts_with(b"(?") => self.flags_or_group()?,
            b'[' => {
                let (class, rest) = bracket(self.rest, self.stack.flags)?;
                self.rest = rest;
                self.stack.class(class)?;
            }
            b'\\' => self.backslash()?,
            _ => {
                self.rest = &self.rest[1..];
                match first {
                    b'(' => self.stack.open(true)?,
                    b')' => self.stack.close()?,
                    b'|' => self.stack.bar()?,
                    b'.' => self.stack.dot()?,
                    b'^' => self.look(Look::BeginLine, Look::BeginText)?,
                    b'$' => self.look(Look::EndLine, Look::Dollar)?,
                    literal => self.stack.literal(literal)?,
                }
            }
        }
        Ok(false)
    }

    fn repetition(&mut self, times: Times, behind_repetition: bool) -> Result<bool, Flaw> {
        self.rest = &self.rest[1..];
        let lazy = self.lazy();
        if behind_repetition {
            return Err(Flaw::RepeatedRepetition);
        }
        self.stack.repeat(times, lazy)?;
        Ok(true)
    }

    /// Whether a `?` follows a repetition.
    fn lazy(&mut self) -> bool {
        match self.rest.strip_prefix(b"?") {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn look(&mut self, of_line: Look, of_text: Look) -> Result<(), Flaw> {
        let look = if self.stack.flags.has(Flags::MULTI_LINE) {
            of_line
        } else {
            of_text
        };
        self.stack.push(Op::Look(look))
    }

    fn backslash(&mut self) -> Result<(), Flaw> {
        let op = match self.rest.get(1) {
            Some(b'b') => Op::Look(Look::WordBoundary),
            Some(b'B') => Op::Look(Look::NoWordBoundary),
            Some(b'A') => Op::Look(Look::BeginText),
            Some(b'z') => Op::Look(Look::EndText),
            Some(b'C') => Op::AnyByte,
            Some(b'Q') => return self.quoted(),
            Some(b'p' | b'P') => {
                let (class, rest) = unicode_class(self.rest, self.stack.flags)?;
                self.rest = rest;
                return self.stack.class(class);
            }
            _ => {
                if let Some((class, rest)) = perl_class(self.rest, self.stack.flags) {
                    self.rest = rest;
                    return self.stack.class(class);
                }
                let (byte, rest) = escape(self.rest)?;
                self.rest = rest;
                return self.stack.literal(byte);
            }
        };
        self.rest = &self.rest[2..];
        self.stack.push(op)
    }

    /// `\Q…\E`, or `\Q` and all that follows.
    fn quoted(&mut self) -> Result<(), Flaw> {
        self.rest = &self.rest[2..];
        while let Some((first, rest)) = self.rest.split_first() {
            if let Some(rest) = self.rest.strip_prefix(b"\\E") {
                self.rest = rest;
                break;
            }
            self.rest = rest;
            self.stack.literal(*first)?;
        }
        Ok(())
    }

    /// `(?flags)`, `(?flags:`, `(?P<name>` or `(?<name>`.
    fn flags_or_group(&mut self) -> Result<(), Flaw> {
        let rest = &self.rest[2..];
        // as in RE2, these are not names only where a character follows
        if matches!(rest, [b'=' | b'!', _, ..] | [b'<', b'=' | b'!', _, ..]) {
            return Err(Flaw::LookAround);
        }
        let name = match rest {
            [b'P', b'<', _, ..] => Some(&rest[2..]),
            [b'<', _, ..] => Some(&rest[1..]),
            _ => None,
        };
        if let Some(name) = name {
            let end = name.iter().position(|byte| *byte == b'>');
            let end = end.ok_or(Flaw::GroupName)?;
            if end == 0 || !name[..end].iter().all(|byte| names::is_of_name(*byte)) {
                return Err(Flaw::GroupName);
            }
            self.rest = &name[end + 1..];
            return self.stack.open(true);
        }
        self.flags(rest.len())
    }

    fn flags(&mut self, length: usize) -> Result<(), Flaw> {
        let (mut flags, mut negated, mut any) = (self.stack.flags, false, false);
        let text = &self.rest[self.rest.len() - length..];
        for (place, byte) in text.iter().enumerate() {
            let (flag, sets) = match byte {
                b'i' => (Flags::FOLD, !negated),
                b'm' => (Flags::MULTI_LINE, !negated),
                b's' => (Flags::DOT_NEWLINE, !negated),
                b'U' => (Flags::NON_GREEDY, !negated),
                b'-' if !negated => {
                    (negated, any) = (true, false);
                    continue;
                }
                b':' | b')' if any || !negated => {
                    if *byte == b':' {
                        self.stack.open(false)?;
                    }
                    self.stack.flags = flags;
                    self.rest = &text[place + 1..];
                    return Ok(());
                }
                _ => return Err(Flaw::Flags),
            };
            any = true;
            flags = if sets { flags | flag } else { flags - flag };
        }
        Err(Flaw::Flags)
    }
}

/// `{min}`, `{min,}` or `{min,max}`; anything else is not a repetition.
fn count(rest: &[u8]) -> Option<(u32, Option<u32>, &[u8])> {
    let (min, rest) = number(rest.strip_prefix(b"{")?)?;
    let (max, rest) = match rest.strip_prefix(b",") {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with(b"}") => (None, rest),
        Some(rest) => {
            let (max, rest) = number(rest)?;
            (Some(max), rest)
        }
    };
    Some((min, max, rest.strip_prefix(b"}")?))
}

/// A decimal number without leading zeros.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let is_number = match text {
        [b'0', next, ..] => !next.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    };
    if !is_number {
        return None;
    }
    let mut value = 0_u32;
    let mut rest = text;
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        if value >= 100_000_000 {
            return None;
        }
        value = value * 10 + u32::from(digit - b'0');
        rest = behind;
    }
    Some((value, rest))
}

/// `\d`, `\S` and the like.
fn perl_class(rest: &[u8], flags: Flags) -> Option<(Class, &[u8])> {
    let [b'\\', letter, rest @ ..] = rest else {
        return None;
    };
    let class = names::perl(*letter)?;
    Some((named(class, letter.is_ascii_uppercase(), flags), rest))
}

/// `\pL`, `\p{Greek}`, `\P{^Greek}`.
fn unicode_class(rest: &[u8], flags: Flags) -> Result<(Class, &[u8]), Flaw> {
    let is_complement = rest[1] == b'P';
    let (name, rest) = match &rest[2..] {
        [b'{', name @ ..] => {
            let end = name.iter().position(|byte| *byte == b'}');
            let end = end.ok_or(Flaw::ClassName)?;
            (&name[..end], &name[end + 1..])
        }
        text => text.split_at_checked(1).ok_or(Flaw::ClassName)?,
    };
    let (name, is_negated) = match name.strip_prefix(b"^") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let class = names::unicode(name).ok_or(Flaw::ClassName)?;
    Ok((named(class, is_complement != is_negated, flags), rest))
}

/// A named class or its complement.
fn named(class: Class, is_complement: bool, flags: Flags) -> Class {
    let class = if flags.has(Flags::FOLD) {
        class.folded()
    } else {
        class
    };
    if is_complement { !class } else { class }
}
