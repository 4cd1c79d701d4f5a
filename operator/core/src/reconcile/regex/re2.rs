//! Syntax that `regex_syntax` supports and RE2 in Envoy does not. Each was tried with Envoy 1.40.

use regex_syntax::ast::{self, Ast};

/// Categories of Unicode in RE2.
const CATEGORIES: [&str; 37] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N",
    "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So",
    "Z", "Zl", "Zp", "Zs", "Any",
];

/// Scripts of Unicode in RE2, separated by blanks.
const SCRIPTS: &str = "\
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki \
    Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee \
    Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra \
    Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati \
    Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic \
    Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li \
    Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian \
    Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek \
    Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean \
    Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian \
    Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur \
    Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic \
    Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese \
    Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai \
    Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square";

/// Rejects syntax that RE2 does not support.
#[derive(Default)]
pub(super) struct OnlyRe2 {
    /// Upper bounds of the repetitions around the node that is visited.
    repetitions: Vec<u32>,
}

impl OnlyRe2 {
    /// RE2 rejects nested repetitions of more than 1000 in total, and a repetition sign after another.
    fn repetition(&mut self, repetition: &ast::Repetition) -> Result<(), &'static str> {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err("a repetition sign after another");
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
            return Err("more than 1000 repetitions");
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
                ast::GroupKind::CaptureName { name, .. } => allowed_name(&name.name),
                ast::GroupKind::CaptureIndex(_) => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::WordBoundaryStart
                | ast::AssertionKind::WordBoundaryEnd
                | ast::AssertionKind::WordBoundaryStartAngle
                | ast::AssertionKind::WordBoundaryEndAngle
                | ast::AssertionKind::WordBoundaryStartHalf
                | ast::AssertionKind::WordBoundaryEndHalf => Err("half word boundaries"),
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
            },
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Literal(literal) => allowed_literal(literal),
            Ast::ClassUnicode(class) => allowed_class(class),
            Ast::Empty(_)
            | Ast::Dot(_)
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
        Err("operations on character classes")
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), &'static str> {
        match item {
            ast::ClassSetItem::Bracketed(_) => Err("nested character classes"),
            ast::ClassSetItem::Literal(literal) => allowed_literal(literal),
            ast::ClassSetItem::Range(range) => {
                allowed_literal(&range.start).and(allowed_literal(&range.end))
            }
            ast::ClassSetItem::Unicode(class) => allowed_class(class),
            ast::ClassSetItem::Empty(_)
            | ast::ClassSetItem::Ascii(_)
            | ast::ClassSetItem::Perl(_)
            | ast::ClassSetItem::Union(_) => Ok(()),
        }
    }
}

fn allowed_flags(flags: &ast::Flags) -> Result<(), &'static str> {
    let is_supported = flags.items.iter().all(|item| {
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
    if is_supported {
        Ok(())
    } else {
        Err("flags other than i, m, s and U")
    }
}

fn allowed_literal(literal: &ast::Literal) -> Result<(), &'static str> {
    match literal.kind {
        ast::LiteralKind::HexFixed(
            ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong,
        )
        | ast::LiteralKind::HexBrace(
            ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong,
        ) => Err("\\u escapes"),
        ast::LiteralKind::HexBrace(ast::HexLiteralKind::X) if literal.c > '\u{ff}' => {
            Err("characters above \\x{FF}")
        }
        _ => Ok(()),
    }
}

fn allowed_name(name: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.bytes().all(word) {
        Ok(())
    } else {
        Err("group names with characters other than A-Z, a-z, 0-9 and _")
    }
}

fn allowed_class(class: &ast::ClassUnicode) -> Result<(), &'static str> {
    let is_supported = match &class.kind {
        ast::ClassUnicodeKind::OneLetter(letter) => "CLMNPSZ".contains(*letter),
        ast::ClassUnicodeKind::Named(name) => {
            CATEGORIES.contains(&name.as_str()) || SCRIPTS.split(' ').any(|script| script == name)
        }
        ast::ClassUnicodeKind::NamedValue { .. } => false,
    };
    if is_supported {
        Ok(())
    } else {
        Err("properties other than short names of categories and names of scripts")
    }
}

fn upper(range: &ast::RepetitionRange) -> u32 {
    match range {
        ast::RepetitionRange::Exactly(n) | ast::RepetitionRange::AtLeast(n) => *n,
        ast::RepetitionRange::Bounded(least, most) => *least.max(most),
    }
}
