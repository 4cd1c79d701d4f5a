//! Regular expressions are checked before Envoy sees them: one that does not compile would take a whole table with it.
//!
//! Envoy uses RE2 on bytes, each of which is a character (Latin-1). The syntax of `regex_syntax` is RE2's but for a few points, each of which is refused here; what
//! remains either side accepts. The program size is bounded as Emissary bounds it, measured on our own compiled form.

use regex_syntax::{
    ast,
    hir::{Hir, HirKind, translate::TranslatorBuilder},
};

use self::re2::OnlyRe2;

mod re2;

/// Emissary's default for `regex_max_size`, and Envoy's own limit unless the bootstrap raises it, is a program of
/// this many instructions; Nuncio's bootstrap raises it to 1000.
const MAX_PROGRAM_SIZE: usize = 1000;

/// Why Envoy would refuse this pattern; `None` if it takes it.
pub(super) fn flaw(pattern: &str) -> Option<String> {
    let ast = match ast::parse::Parser::new().parse(pattern) {
        Ok(ast) => ast,
        Err(source) => {
            return Some(format!(
                "is no regular expression of RE2: {}",
                source.kind()
            ));
        }
    };
    if let Err(construct) = ast::visit(&ast, OnlyRe2::default()) {
        return Some(format!("uses {construct}, which Envoy's RE2 does not have"));
    }
    // RE2's \d, \w and \s are those of ASCII; classes such as \pN are Unicode's, and only there the translation is
    let translate = |unicode| {
        let mut translator = TranslatorBuilder::new()
            .unicode(unicode)
            .utf8(unicode)
            .build();
        translator.translate(pattern, &ast)
    };
    let hir = match translate(false).or_else(|_| translate(true)) {
        Ok(hir) => hir,
        Err(source) => {
            return Some(format!(
                "is no regular expression of RE2: {}",
                source.kind()
            ));
        }
    };
    let size = program_size(&hir);
    (size > MAX_PROGRAM_SIZE).then(|| {
        format!("is too complex: it compiles to about {size} instructions, and Envoy takes {MAX_PROGRAM_SIZE}")
    })
}

/// Why Envoy would refuse this replacement for what `pattern` matches; `None` if it takes it.
pub(super) fn substitution_flaw(pattern: &str, substitution: &str) -> Option<String> {
    let groups = regex_syntax::parse(pattern)
        .ok()?
        .properties()
        .explicit_captures_len();
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
                    return Some(format!(
                        "it refers to group {group}, and the pattern has {groups}"
                    ));
                }
            }
            _ => {
                return Some(
                    "a backslash has to be followed by a digit or another backslash".to_owned(),
                );
            }
        }
    }
    None
}

/// About as many instructions as RE2 makes of it.
fn program_size(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(class) => match class {
            // RE2 works on bytes: a range beyond ASCII takes several of them, and there are 256
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
    use super::flaw;

    #[test]
    fn patterns_of_re2_have_no_flaw() {
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
            assert_eq!(flaw(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn what_re2_does_not_have_is_a_flaw() {
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
            assert!(flaw(pattern).is_some(), "{pattern}");
        }
    }

    #[test]
    fn a_program_that_is_too_large_is_a_flaw() {
        assert!(flaw(&"[a-z]{1,50}".repeat(40)).is_some());
        assert!(flaw("((((a{30}){30}){30}){30})").is_some());
    }
}
