//! Regular expressions are checked, since one that does not compile would have Envoy reject a whole route table.
//!
//! Envoy uses RE2 with its default options, on bytes, each of which is a character (Latin-1). A pattern is accepted if
//! RE2 accepts it and its program is small enough. RE2's size depends on each of its steps, so these are the same here:
//! [`parse`] makes a tree and shares what alternatives have in common, [`simplify`] replaces counts, [`compile`] makes
//! instructions, and [`flatten`] counts what is left of them. `make re2` compares the sizes with those of RE2 itself.
//!
//! Patterns may be hostile: no step recurses over the tree, and each takes time in proportion to the pattern's length or
//! to [`MAX_INSTRUCTIONS`]. The price: a pattern with thousands of nested groups with empty alternatives is rejected
//! although RE2 accepts it.

use std::fmt::Display;

use thiserror::Error;

use self::ast::{Ast, Flags, Id, Look, Op};

mod ast;
mod class;
mod compile;
mod cost;
mod flatten;
mod names;
mod parse;
mod simplify;

/// Maximum size of a program, unless a Module says otherwise. Emissary's default for `regex_max_size` is 200.
pub const DEFAULT_PROGRAM_SIZE: usize = 1000;

/// Maximum size of a program that a Module can allow.
pub const MAX_PROGRAM_SIZE: usize = 5000;

/// RE2's own limit before flattening, in Envoy's 8 MiB.
const MAX_INSTRUCTIONS: u64 = 349_000;

/// Why a pattern is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// `[a`
    #[error("unclosed class")]
    OpenClass,
    /// `(a`
    #[error("unclosed group")]
    OpenGroup,
    /// `a)`
    #[error("unexpected )")]
    UnexpectedClose,
    /// `a\`
    #[error("trailing backslash")]
    TrailingBackslash,
    /// `\q`
    #[error("invalid escape \\{0}")]
    Escape(char),
    /// `[b-a]`
    #[error("invalid range in a class: the first character comes after the last")]
    Range,
    /// `\p{Klingon}`
    #[error("unknown class name")]
    ClassName,
    /// `(?=a)`
    #[error("look-around is not supported")]
    LookAround,
    /// `(?x)`
    #[error("invalid flags in a group: only i, m, s and U are supported")]
    Flags,
    /// `(?P<>a)`
    #[error("invalid group name")]
    GroupName,
    /// `*`
    #[error("nothing to repeat")]
    NothingToRepeat,
    /// `a**`
    #[error("repetition of a repetition: use a group")]
    RepeatedRepetition,
    /// `a{1001}`
    #[error("invalid repetition count: the maximum is 1,000, nested counts multiplied")]
    RepeatSize,
    /// The size of the program.
    #[error("{}", too_large(*.0, MAX_PROGRAM_SIZE))]
    TooLarge(usize),
    /// More nodes, instructions or nested alternatives than the limits of time and memory allow.
    #[error("pattern too complex")]
    TooComplex,
}

/// The size of a pattern's program as RE2 counts it.
///
/// # Errors
/// What RE2 would reject, or a size above [`MAX_PROGRAM_SIZE`].
pub fn program_size(pattern: &str) -> Result<usize, Flaw> {
    let parsed = parse::parse(pattern)?;
    let mut ast = parsed.ast;
    let root = without_prefix(&mut ast, parsed.root)?;
    let root = simplify::simplify(&mut ast, root)?;
    let (root, is_anchored) = compile::without_anchors(&mut ast, root)?;
    let cost = cost::of(&ast, root);
    let kept = usize::try_from(cost.kept).unwrap_or(usize::MAX);
    if kept > 4 * MAX_PROGRAM_SIZE {
        return Err(Flaw::TooLarge(kept));
    }
    if cost.instructions > MAX_INSTRUCTIONS || cost.visits > 2 * MAX_INSTRUCTIONS {
        return Err(Flaw::TooComplex);
    }
    let size = flatten::size(compile::compile(&ast, root, is_anchored))?;
    if size > MAX_PROGRAM_SIZE {
        return Err(Flaw::TooLarge(size));
    }
    Ok(size)
}

/// The tree without the literals behind `^`: RE2 compares these on its own.
fn without_prefix(ast: &mut Ast, root: Id) -> Result<Id, Flaw> {
    let Op::Concat(list) = &ast[root].op else {
        return Ok(root);
    };
    let is_begin = |id: &&Id| matches!(ast[**id].op, Op::Look(Look::BeginText));
    let begins = list.iter().take_while(is_begin).count();
    let is_prefix = list
        .get(begins)
        .is_some_and(|id| matches!(ast[*id].op, Op::Literal(..) | Op::Text(..)));
    if begins == 0 || !is_prefix {
        return Ok(root);
    }
    let mut rest = list.clone();
    rest.drain(..=begins);
    match rest.len() {
        0 => ast.add(Op::Empty, Flags::default()),
        1 => Ok(rest[0]),
        _ => ast.add(Op::Concat(rest), Flags::default()),
    }
}

/// Checks a pattern.
///
/// # Errors
/// What Envoy would reject.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    program_size(pattern)
        .map(drop)
        .map_err(|flaw| invalid(pattern, &flaw))
}

/// The message about an invalid pattern.
pub(crate) fn invalid(pattern: &str, flaw: &dyn Display) -> String {
    format!("invalid RE2 regular expression {pattern:?}: {flaw}")
}

/// Why a program is rejected that is larger than the limit.
pub(crate) fn too_large(size: usize, limit: usize) -> String {
    let (size, limit) = (thousands(size), thousands(limit));
    format!("program too large: {size} > {limit}")
}

/// Checks the replacement for what a valid pattern matches.
///
/// # Errors
/// What Envoy would reject.
pub(super) fn check_substitution(pattern: &str, substitution: &str) -> Result<(), String> {
    let Ok(parsed) = parse::parse(pattern) else {
        return Ok(());
    };
    let groups = parsed.groups;
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            continue;
        }
        match bytes.next() {
            Some(b'\\') => {}
            Some(digit) if digit.is_ascii_digit() => {
                let group = usize::from(digit - b'0');
                if group > groups {
                    return Err(format!(
                        "group {group} does not exist: the pattern has {groups} groups"
                    ));
                }
            }
            _ => {
                return Err(
                    "a backslash must be followed by a digit or another backslash".to_owned(),
                );
            }
        }
    }
    Ok(())
}

/// 1006 as 1,006.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{check, check_substitution, thousands};

    #[test]
    fn a_substitution_refers_to_groups_of_the_pattern() {
        for (pattern, substitution, is_valid) in [
            ("a", "b", true),
            ("a", r"\0", true),
            ("a", r"\1", false),
            ("(a)(?P<n>b)", r"\2\1\0\\", true),
            ("(a)(?P<n>b)", r"\3", false),
            ("(?P<n>a)(?P<n>b)", r"\2", true),
            ("(?:a)", r"\1", false),
            (r"\Q(\E", r"\1", false),
            (r"[(]\(", r"\1", false),
            ("(a){0}", r"\1", true),
            ("(a)", r"\10", true),
            ("(a)", r"\é", false),
            ("(a)", r"\", false),
            ("(a)", r"\n", false),
        ] {
            let verdict = check_substitution(pattern, substitution);
            assert_eq!(
                verdict.is_ok(),
                is_valid,
                "{pattern} {substitution}: {verdict:?}"
            );
        }
    }

    #[test]
    fn a_flaw_comes_with_the_pattern() {
        assert_eq!(check("/a"), Ok(()));
        assert_eq!(
            check("/(").unwrap_err(),
            r#"invalid RE2 regular expression "/(": unclosed group"#
        );
        assert_eq!(
            check(r"/a\S{0,1000}").unwrap_err(),
            r#"invalid RE2 regular expression "/a\\S{0,1000}": program too large: 5,006 > 5,000"#
        );
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
