//! Invalid and extreme values, which users may write anyway.

use super::random::Random;

/// Texts, and parts of texts.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\u{0}",
    "\n",
    "\r\nx: y",
    "\t",
    "\u{7f}",
    "\u{80}",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "\u{ffff}",
    "é",
    "İ",
    "ß",
    "\u{212a}",
    "日本語",
    "🦀",
    "%",
    "%%",
    "%REQ(",
    "%REQ(x)",
    "%REQ(x)%",
    "%REQ(:x?:y?z)%",
    "%REQ(x):0%",
    "%PROTOCOL%",
    "%ENVIRONMENT(HOME)%",
    "%START_TIME(%)%",
    "%START_TIME(%s.%9f)%",
    "%START_TIME(%E)%",
    "%TRACE_ID%",
    "%DYNAMIC_METADATA(a:b)%",
    "%DYNAMIC_METADATA([\"a\"])%",
    "%UPSTREAM_METADATA([\"a\", \"b\"])%",
    "%PER_REQUEST_STATE(x)%",
    "%FILTER_STATE(x:PLAIN)%",
    "%CEL(request.path)%",
    "%RESPONSE_CODE%",
    "%protocol%",
    "%0a",
    "%DOWNSTREAM_PEER_CERT_V_START(%Y)%",
    "%QUERY_PARAM(x)%",
    "%PATH(WQ)%",
    "%HOSTNAME%",
    "%RESP(x?y):99999%",
    "%CLUSTER_METADATA(a::b)%",
    "%REQ(x):1000000000000%",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "{}",
    "[]",
    "(?i)",
    "(?P<a>x)",
    "(?<a>x)",
    "(?=a)",
    "a{1001}",
    "a{2,1}",
    "(a{1000}){1000}",
    "[[:alpha:]]",
    "[z-a]",
    r"\pL",
    r"\p{Greek}",
    r"\C",
    r"\Q..\E",
    r"\z",
    r"\A",
    r"\d+",
    r"\1",
    r"\",
    r"\\",
    r"\x{10FFFF}",
    r"\x{110000}",
    r"[^\x00-\x7f]",
    ".*",
    ".+?",
    "a**",
    "x|",
    "|",
    "^",
    "$",
    "()",
    "((((((((((a))))))))))",
    "?",
    "#",
    "&",
    "=",
    ";",
    ",",
    "+",
    "~",
    "/",
    "//",
    "/../",
    "..",
    ".",
    "-",
    "_",
    ":",
    "::",
    ":80",
    "::1",
    "[::1]",
    "[::1",
    "[::1]:80",
    "*",
    "**",
    "*.",
    ".*.",
    "*.*",
    "*a*",
    "a.*.b",
    "@",
    "a@b",
    "http://",
    "https://",
    "https://x:0",
    "ftp://x",
    "//x",
    "x:99999",
    "x:-1",
    "x:80:80",
    "a b",
    "'",
    "\"",
    "`",
    "<b>",
    "- a",
    "a: b",
    "{a: b}",
    "&a [*a]",
    "!!binary x",
    "null",
    "true",
    "0",
    "-0",
    "-1",
    "1e9",
    "0x10",
    "1_000",
    "NaN",
    "99999999999999999999",
    "1s",
    "0s",
    "-1s",
    "1e400s",
    "9999999999h",
    "315576000001s",
    "0.0000000001s",
    "1ns",
    "host",
    ":path",
    ":authority",
    ":x",
    "content-length",
    "transfer-encoding",
    "connection",
    "CONNECT",
    "h2",
    "x-envoy-x",
    "default",
    "high",
    "a/b",
    "a.b.c.d",
    "localhost",
    "0.0.0.0",
    "127.0.0.1",
    "255.255.255.256",
    "010.0.0.1",
    "1",
    "::ffff:1.2.3.4",
    "fe80::1%lo",
    "xn--a",
    "a..b",
    ".a",
    "a.",
    "-a",
    "_a",
];

/// Parts of regular expressions, separated by blanks.
const PATTERNS: &str = r"a b é . / - ^ $ | ( ) (?: (?i: (?P<n> (?<n> (?i) (?-s) (?U) [ ] [^ a-z && -- * + ? {2} {,3} {3,}
{2,40} {1000} \d \W \s \b \B \A \z \pN \p{Latin} \P{Lu} \x41 \x{fe} \x{101} \u0041 \. \- \_ \n \a \<
[:alpha:] [[:^digit:]] \\ \1 _ 1 #";

/// Names of operators in formats, and what may be in their brackets and behind them.
const OPERATORS: &str = "REQ RESP TRAILER START_TIME PROTOCOL DYNAMIC_METADATA UPSTREAM_METADATA CLUSTER_METADATA HOSTNAME \
    UPSTREAM_HOST DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_REMOTE_ADDRESS RESPONSE_FLAGS DURATION TRACE_ID \
    ROUTE_NAME FILTER_STATE CEL QUERY_PARAM PATH ENVIRONMENT TLS_JA3_FINGERPRINT COMMON_DURATION \
    EMIT_TIME SECRET";
const ARGUMENTS: &[&str] = &[
    "", "()", "(a)", "(:path)", "(a?b)", "(a?)", "(?a)", "(a:b)", "(a:)", "(:)", "(a:b:c)", "(%Y)",
    "(%s.%3f)", "(%f%3f)", "(%E4Y)", "(%n)", "(%-En)", "(%EY%)", "(a b)", "(é)", "(a))", "((a))",
    "(a)(b)",
];
const LENGTHS_OF_OPERATORS: &[&str] = &["", "", "", ":1", ":0", ":", ":x", ":4294967296", ":-1"];

/// Lengths at which something may fail.
const LENGTHS: [usize; 9] = [63, 64, 65, 253, 256, 1024, 4096, 16_384, 70_000];

/// Numbers at the edges of types and of what Envoy takes.
const NUMBERS: [i64; 30] = [
    0,
    1,
    -1,
    2,
    99,
    100,
    101,
    255,
    256,
    599,
    1000,
    65_535,
    65_536,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i32::MIN as i64,
    u32::MAX as i64,
    u32::MAX as i64 + 1,
    u32::MAX as i64 - 1,
    1 << 53,
    (1 << 53) + 1,
    // the longest time of protobuf, in seconds and milliseconds
    315_576_000_000,
    315_576_000_001,
    315_576_000_000_000,
    315_576_000_001_000,
    // the longest time in nanoseconds of 64 bits, in milliseconds
    9_223_372_036_854,
    9_223_372_036_855,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
];

pub(super) fn text(random: &mut Random) -> String {
    match random.below(10) {
        0 => {
            let part = if random.percent(50) {
                "x"
            } else {
                random.pick(TEXTS)
            };
            let length = LENGTHS[random.below(LENGTHS.len())];
            part.repeat(length / part.len().max(1) + 1)
        }
        1..=3 => (0..2 + random.below(4))
            .map(|_| random.pick(TEXTS))
            .collect(),
        4 => (0..1 + random.below(8))
            .map(|_| word(PATTERNS, random))
            .collect(),
        5 => (0..1 + random.below(2)).map(|_| operator(random)).collect(),
        6 => (0..random.below(12))
            .filter_map(|_| char::from_u32(random.below(0x3000) as u32))
            .collect(),
        _ => random.pick(TEXTS).to_owned(),
    }
}

/// One of the words of a text.
fn word(text: &'static str, random: &mut Random) -> &'static str {
    let words: Vec<&str> = text.split_whitespace().collect();
    words[random.below(words.len())]
}

/// An operator of a format, most of which Envoy does not take.
fn operator(random: &mut Random) -> String {
    let (name, argument) = (word(OPERATORS, random), random.pick(ARGUMENTS));
    format!("%{name}{argument}{}%", random.pick(LENGTHS_OF_OPERATORS))
}

pub(super) fn number(random: &mut Random) -> i64 {
    if random.percent(80) {
        NUMBERS[random.below(NUMBERS.len())]
    } else {
        random.next() as i64 >> random.below(64)
    }
}
