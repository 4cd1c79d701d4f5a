//! The classes that RE2 knows by name: what each has below 256.

use super::class::Class;

type Ranges = &'static [(u8, u8)];

/// `\d`, `\s` and `\w` by their letter; the upper case letter is the complement.
pub(super) fn perl(letter: u8) -> Option<Class> {
    let class = Class::of(match letter.to_ascii_lowercase() {
        b'd' => &[(b'0', b'9')],
        b's' => &[(b'\t', b'\n'), (0x0c, b'\r'), (b' ', b' ')],
        b'w' => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
        _ => return None,
    });
    Some(class)
}

/// What `[:name:]` has.
pub(super) fn posix(name: &[u8]) -> Option<Class> {
    let ranges: Ranges = match name {
        b"alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        b"alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        b"ascii" => &[(0, 0x7f)],
        b"blank" => &[(b'\t', b'\t'), (b' ', b' ')],
        b"cntrl" => &[(0, 0x1f), (0x7f, 0x7f)],
        b"digit" => &[(b'0', b'9')],
        b"graph" => &[(b'!', b'~')],
        b"lower" => &[(b'a', b'z')],
        b"print" => &[(b' ', b'~')],
        b"punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        b"space" => &[(b'\t', b'\r'), (b' ', b' ')],
        b"upper" => &[(b'A', b'Z')],
        b"word" => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
        b"xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    };
    Some(Class::of(ranges))
}

/// What `\p{name}` has: a category or script of Unicode.
pub(super) fn unicode(name: &[u8]) -> Option<Class> {
    let listed = UNICODE.iter().find(|(known, _)| known.as_bytes() == name);
    match listed {
        Some((_, ranges)) => Some(Class::of(ranges)),
        None => NOTHING_BELOW_256
            .split_ascii_whitespace()
            .any(|known| known.as_bytes() == name)
            .then(Class::default),
    }
}

/// Whether a group's name may have this byte: letters, digits, marks and connectors of Unicode.
pub(super) fn is_of_name(byte: u8) -> bool {
    byte == b'_'
        || byte.is_ascii_alphanumeric()
        || matches!(byte, 0xaa | 0xb5 | 0xba | 0xc0..=0xd6 | 0xd8..=0xf6 | 0xf8..=0xff)
}

/// Categories and scripts with characters below 256.
const UNICODE: &[(&str, Ranges)] = &[
    ("C", &[(0x00, 0x1f), (0x7f, 0x9f), (0xad, 0xad)]),
    ("Cc", &[(0x00, 0x1f), (0x7f, 0x9f)]),
    ("Cf", &[(0xad, 0xad)]),
    (
        "L",
        &[
            (b'A', b'Z'),
            (b'a', b'z'),
            (0xaa, 0xaa),
            (0xb5, 0xb5),
            (0xba, 0xba),
            (0xc0, 0xd6),
            (0xd8, 0xf6),
            (0xf8, 0xff),
        ],
    ),
    (
        "Ll",
        &[(b'a', b'z'), (0xb5, 0xb5), (0xdf, 0xf6), (0xf8, 0xff)],
    ),
    ("Lo", &[(0xaa, 0xaa), (0xba, 0xba)]),
    ("Lu", &[(b'A', b'Z'), (0xc0, 0xd6), (0xd8, 0xde)]),
    (
        "N",
        &[(b'0', b'9'), (0xb2, 0xb3), (0xb9, 0xb9), (0xbc, 0xbe)],
    ),
    ("Nd", &[(b'0', b'9')]),
    ("No", &[(0xb2, 0xb3), (0xb9, 0xb9), (0xbc, 0xbe)]),
    (
        "P",
        &[
            (b'!', b'#'),
            (b'%', b'*'),
            (b',', b'/'),
            (b':', b';'),
            (b'?', b'@'),
            (b'[', b']'),
            (b'_', b'_'),
            (b'{', b'{'),
            (b'}', b'}'),
            (0xa1, 0xa1),
            (0xa7, 0xa7),
            (0xab, 0xab),
            (0xb6, 0xb7),
            (0xbb, 0xbb),
            (0xbf, 0xbf),
        ],
    ),
    ("Pc", &[(b'_', b'_')]),
    ("Pd", &[(b'-', b'-')]),
    ("Pe", &[(b')', b')'), (b']', b']'), (b'}', b'}')]),
    ("Pf", &[(0xbb, 0xbb)]),
    ("Pi", &[(0xab, 0xab)]),
    (
        "Po",
        &[
            (b'!', b'#'),
            (b'%', 0x27),
            (b'*', b'*'),
            (b',', b','),
            (b'.', b'/'),
            (b':', b';'),
            (b'?', b'@'),
            (0x5c, 0x5c),
            (0xa1, 0xa1),
            (0xa7, 0xa7),
            (0xb6, 0xb7),
            (0xbf, 0xbf),
        ],
    ),
    ("Ps", &[(b'(', b'('), (b'[', b'['), (b'{', b'{')]),
    (
        "S",
        &[
            (b'$', b'$'),
            (b'+', b'+'),
            (b'<', b'>'),
            (b'^', b'^'),
            (b'`', b'`'),
            (b'|', b'|'),
            (b'~', b'~'),
            (0xa2, 0xa6),
            (0xa8, 0xa9),
            (0xac, 0xac),
            (0xae, 0xb1),
            (0xb4, 0xb4),
            (0xb8, 0xb8),
            (0xd7, 0xd7),
            (0xf7, 0xf7),
        ],
    ),
    ("Sc", &[(b'$', b'$'), (0xa2, 0xa5)]),
    (
        "Sk",
        &[
            (b'^', b'^'),
            (b'`', b'`'),
            (0xa8, 0xa8),
            (0xaf, 0xaf),
            (0xb4, 0xb4),
            (0xb8, 0xb8),
        ],
    ),
    (
        "Sm",
        &[
            (b'+', b'+'),
            (b'<', b'>'),
            (b'|', b'|'),
            (b'~', b'~'),
            (0xac, 0xac),
            (0xb1, 0xb1),
            (0xd7, 0xd7),
            (0xf7, 0xf7),
        ],
    ),
    (
        "So",
        &[(0xa6, 0xa6), (0xa9, 0xa9), (0xae, 0xae), (0xb0, 0xb0)],
    ),
    ("Z", &[(0x20, 0x20), (0xa0, 0xa0)]),
    ("Zs", &[(0x20, 0x20), (0xa0, 0xa0)]),
    ("Any", &[(0x00, 0xff)]),
    (
        "Common",
        &[
            (0x00, b'@'),
            (b'[', b'`'),
            (b'{', 0xa9),
            (0xab, 0xb9),
            (0xbb, 0xbf),
            (0xd7, 0xd7),
            (0xf7, 0xf7),
        ],
    ),
    (
        "Latin",
        &[
            (b'A', b'Z'),
            (b'a', b'z'),
            (0xaa, 0xaa),
            (0xba, 0xba),
            (0xc0, 0xd6),
            (0xd8, 0xf6),
            (0xf8, 0xff),
        ],
    ),
];
/// Categories and scripts without any.
const NOTHING_BELOW_256: &str = "\
    Co Cs Lm Lt M Mc Me Mn Nl Zl Zp Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum \
    Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian \
    Caucasian_Albanian Chakma Cham Cherokee Chorasmian Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret \
    Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic \
    Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana \
    Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi \
    Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Lepcha Limbu Linear_A Linear_B Lisu Lycian \
    Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek \
    Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean \
    Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian \
    Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya \
    Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan \
    Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri \
    Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh \
    Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square \
";
