//! `[^a-z\d[:alpha:]]`.

use super::{escape::escape, named, perl_class, unicode_class};
use crate::reconcile::regex::{Flaw, ast::Flags, class::Class, names};

/// The class in brackets at the beginning of a text, and what follows it.
pub(super) fn bracket(text: &[u8], flags: Flags) -> Result<(Class, &[u8]), Flaw> {
    let mut rest = &text[1..];
    let is_complement = rest.starts_with(b"^");
    rest = &rest[usize::from(is_complement)..];
    let mut class = Class::default();
    let mut is_first = true;
    let mut has_names = true;
    while is_first || !rest.starts_with(b"]") {
        if rest.is_empty() {
            return Err(Flaw::OpenClass);
        }
        is_first = false;
        if has_names && rest.starts_with(b"[:") {
            let end = rest[2..].windows(2).position(|pair| pair == b":]");
            // what is not closed here is not closed further on: one search is enough
            has_names = end.is_some();
            if let Some(end) = end {
                class |= posix_class(&rest[2..2 + end], flags)?;
                rest = &rest[end + 4..];
                continue;
            }
        }
        if matches!(rest, [b'\\', b'p' | b'P', _, ..]) {
            let (named, behind) = unicode_class(rest, flags)?;
            class |= named;
            rest = behind;
            continue;
        }
        if let Some((named, behind)) = perl_class(rest, flags) {
            class |= named;
            rest = behind;
            continue;
        }
        let (range, behind) = range(rest)?;
        class |= if flags.has(Flags::FOLD) {
            range.folded()
        } else {
            range
        };
        rest = behind;
    }
    let class = if is_complement { !class } else { class };
    Ok((class, &rest[1..]))
}

fn posix_class(name: &[u8], flags: Flags) -> Result<Class, Flaw> {
    let (name, is_complement) = match name.strip_prefix(b"^") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let class = names::posix(name).ok_or(Flaw::ClassName)?;
    Ok(named(class, is_complement, flags))
}

/// `a` or `a-z`; a hyphen before the closing bracket is a character.
fn range(text: &[u8]) -> Result<(Class, &[u8]), Flaw> {
    let (low, rest) = character(text)?;
    let [b'-', behind @ ..] = rest else {
        return Ok((Class::range(low, low), rest));
    };
    if behind.is_empty() || behind.starts_with(b"]") {
        return Ok((Class::range(low, low), rest));
    }
    let (high, rest) = character(behind)?;
    if high < low {
        return Err(Flaw::Range);
    }
    Ok((Class::range(low, high), rest))
}

fn character(text: &[u8]) -> Result<(u8, &[u8]), Flaw> {
    match text {
        [b'\\', ..] => escape(text),
        [first, rest @ ..] => Ok((*first, rest)),
        [] => Err(Flaw::OpenClass),
    }
}
