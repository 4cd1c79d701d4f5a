//! Regular expressions are checked before Envoy sees them: one that does not compile would take a whole table with it.
//!
//! Envoy uses RE2. The syntax of `regex_syntax` is RE2's but for a few points, each of which is refused here; what
//! remains either side accepts. The program size is bounded as Emissary bounds it, measured on our own compiled form.

use regex_syntax::{
    ast::{self, Ast},
    hir::{Hir, HirKind, translate::TranslatorBuilder},
};

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
        return Some(format!("uses {construct}, which RE2 does not have"));
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

/// Refuses what `regex_syntax` has and RE2 has not.
#[derive(Default)]
struct OnlyRe2 {
    /// Upper bounds of the repetitions around the place of the visit.
    repetitions: Vec<u32>,
}

impl OnlyRe2 {
    /// RE2 refuses repetitions of repetitions that come to more than 1000, and a repetition sign behind another.
    fn repetition(&mut self, repetition: &ast::Repetition) -> Result<(), &'static str> {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err("a repetition of a repetition without brackets");
        }
        let times = match &repetition.op.kind {
            ast::RepetitionKind::Range(range) => upper(range).max(1),
            ast::RepetitionKind::ZeroOrOne
            | ast::RepetitionKind::ZeroOrMore
            | ast::RepetitionKind::OneOrMore => 1,
        };
        self.repetitions.push(times);
        let total = self
            .repetitions
            .iter()
            .copied()
            .fold(1, u32::saturating_mul);
        if total > 1000 {
            return Err("a repetition above 1000");
        }
        Ok(())
    }
}

impl ast::Visitor for OnlyRe2 {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), &'static str> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), &'static str> {
        match ast {
            Ast::Flags(flags) => allowed_flags(&flags.flags),
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => allowed_flags(flags),
                ast::GroupKind::CaptureIndex(_) | ast::GroupKind::CaptureName { .. } => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::WordBoundaryStart
                | ast::AssertionKind::WordBoundaryEnd
                | ast::AssertionKind::WordBoundaryStartAngle
                | ast::AssertionKind::WordBoundaryEndAngle
                | ast::AssertionKind::WordBoundaryStartHalf
                | ast::AssertionKind::WordBoundaryEndHalf => Err("a half word boundary"),
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
            },
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Literal(literal) => allowed_literal(literal),
            Ast::Empty(_)
            | Ast::Dot(_)
            | Ast::ClassUnicode(_)
            | Ast::ClassPerl(_)
            | Ast::ClassBracketed(_)
            | Ast::Alternation(_)
            | Ast::Concat(_) => Ok(()),
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), &'static str> {
        if matches!(ast, Ast::Repetition(_)) {
            self.repetitions.pop();
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(
        &mut self,
        _op: &ast::ClassSetBinaryOp,
    ) -> Result<(), &'static str> {
        Err("an operation between character classes")
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), &'static str> {
        match item {
            ast::ClassSetItem::Bracketed(_) => Err("a character class inside another"),
            ast::ClassSetItem::Literal(literal) => allowed_literal(literal),
            ast::ClassSetItem::Empty(_)
            | ast::ClassSetItem::Range(_)
            | ast::ClassSetItem::Ascii(_)
            | ast::ClassSetItem::Unicode(_)
            | ast::ClassSetItem::Perl(_)
            | ast::ClassSetItem::Union(_) => Ok(()),
        }
    }
}

fn allowed_flags(flags: &ast::Flags) -> Result<(), &'static str> {
    let known = flags.items.iter().all(|item| {
        matches!(
            item.kind,
            ast::FlagsItemKind::Negation
                | ast::FlagsItemKind::Flag(
                    ast::Flag::CaseInsensitive
                        | ast::Flag::MultiLine
                        | ast::Flag::DotMatchesNewLine
                        | ast::Flag::SwapGreed
                )
        )
    });
    if known {
        Ok(())
    } else {
        Err("a flag other than i, m, s and U")
    }
}

fn allowed_literal(literal: &ast::Literal) -> Result<(), &'static str> {
    match literal.kind {
        ast::LiteralKind::HexFixed(
            ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong,
        )
        | ast::LiteralKind::HexBrace(
            ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong,
        ) => Err("a \\u escape"),
        _ => Ok(()),
    }
}

fn upper(range: &ast::RepetitionRange) -> u32 {
    match range {
        ast::RepetitionRange::Exactly(n) | ast::RepetitionRange::AtLeast(n) => *n,
        ast::RepetitionRange::Bounded(least, most) => *least.max(most),
    }
}

/// About as many instructions as RE2 makes of it.
fn program_size(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(class) => match class {
            // RE2 works on bytes: a range beyond ASCII takes several of them
            regex_syntax::hir::Class::Unicode(class) => class
                .ranges()
                .iter()
                .map(|range| if range.end().is_ascii() { 1 } else { 4 })
                .sum(),
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
