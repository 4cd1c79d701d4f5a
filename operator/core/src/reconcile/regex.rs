//! Regular expressions are checked, since one that does not compile would have Envoy reject a whole route table.
//!
//! Envoy uses RE2 on bytes, each of which is a character (Latin-1). The syntax of `regex_syntax` is RE2's with a few
//! extensions, which are rejected here; both accept the rest. The program size is limited as in Emissary, by an
//! estimate.

use std::fmt::Display;

use regex_syntax::{
    ast,
    hir::{Hir, HirKind, translate::TranslatorBuilder},
};

use self::re2::OnlyRe2;

mod re2;

/// Maximum number of instructions of a program; the bootstrap sets the same limit for Envoy. Emissary's default for
/// `regex_max_size` is 200.
const MAX_PROGRAM_SIZE: usize = 1000;

/// Checks a pattern.
///
/// # Errors
/// What Envoy would reject.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let invalid =
        |detail: &dyn Display| format!("invalid RE2 regular expression {pattern:?}: {detail}");
    let ast = ast::parse::Parser::new()
        .parse(pattern)
        .map_err(|source| invalid(source.kind()))?;
    ast::visit(&ast, OnlyRe2::default())
        .map_err(|construct| invalid(&format!("RE2 does not support {construct}")))?;
    // \d, \w and \s of RE2 are those of ASCII; classes such as \pN need the translation to Unicode
    let translate = |unicode| {
        let mut translator = TranslatorBuilder::new()
            .unicode(unicode)
            .utf8(unicode)
            .build();
        translator.translate(pattern, &ast)
    };
    let hir = translate(false)
        .or_else(|_| translate(true))
        .map_err(|source| invalid(source.kind()))?;
    let size = program_size(&hir);
    if size > MAX_PROGRAM_SIZE {
        return Err(format!(
            "regular expression {pattern:?} is too complex: about {size} RE2 instructions, the maximum is {MAX_PROGRAM_SIZE}"
        ));
    }
    Ok(())
}

/// Checks the replacement for what a pattern matches.
///
/// # Errors
/// What Envoy would reject.
pub(super) fn check_substitution(pattern: &str, substitution: &str) -> Result<(), String> {
    let Ok(parsed) = regex_syntax::parse(pattern) else {
        return Ok(());
    };
    let groups = parsed.properties().explicit_captures_len();
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            continue;
        }
        match characters.next() {
            Some('\\') => {}
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit.to_digit(10).map_or(0, |group| group as usize);
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

/// An estimate of the number of instructions in RE2.
fn program_size(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(class) => match class {
            // RE2 works on bytes: a range beyond ASCII needs several, of 256 at most
            regex_syntax::hir::Class::Unicode(class) => class
                .ranges()
                .iter()
                .map(|range| if range.end().is_ascii() { 1 } else { 4 })
                .sum::<usize>()
                .min(256),
            regex_syntax::hir::Class::Bytes(class) => class.ranges().len(),
        },
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.max(1)).max(1) as usize;
            program_size(&repetition.sub)
                .saturating_add(1)
                .saturating_mul(times)
        }
        HirKind::Capture(capture) => program_size(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts
            .iter()
            .map(program_size)
            .fold(parts.len(), usize::saturating_add),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn patterns_of_re2_are_valid() {
        for pattern in [
            "",
            "/api/v[12]/.*",
            "(?i)foo",
            r"\d+\.\w*",
            "a{1,50}",
            "a*?",
            "(?:a{2})*",
            "(?:a{10}b){10}",
            "(?P<name>x)",
            r"[[:alpha:]]\pN",
            r"\p{Greek}\p{Lu}\P{Any}",
            r"\x{ff}[a-\xff]",
            "é[é-ü]",
            "(?<a_1>x)",
            "^/a$",
        ] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_re2_does_not_support_is_invalid() {
        for pattern in [
            "(",
            "[a",
            "*",
            "(?=x)",
            "(?!x)",
            r"(a)\1",
            "a{1001}",
            "(a{100}){11}",
            "(?:^{1000}){2}",
            "a**",
            "a{2}{3}",
            "a*?+",
            "(?x) a",
            "[a&&b]",
            "[a[b]]",
            r"\b{start}",
            r"\x{100}",
            r"[a-\x{100}]",
            r"[\u0061-b]",
            r"\p{greek}",
            r"\p{Letter}",
            r"\p{Script=Greek}",
            "(?P<é>x)",
            "(?P<a.b>x)",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_program_that_is_too_large_is_invalid() {
        assert!(check(&"[a-z]{1,50}".repeat(40)).is_err());
        assert!(check("((((a{30}){30}){30}){30})").is_err());
    }
}
