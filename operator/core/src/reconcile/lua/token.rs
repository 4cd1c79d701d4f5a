//! Tokens of Lua.

use super::{Flaw, number};

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    Number,
    Text,
    /// A reserved word, or a sign.
    Sign(&'static str),
    /// A character without a meaning.
    Other,
    End,
}

const WORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Those that start with another one come first.
const SIGNS: [&str; 27] = [
    "...", "..", ".", "==", "=", "~=", "<=", "<", ">=", ">", "::", ":", "+", "-", "*", "/", "%",
    "^", "#", "(", ")", "{", "}", "[", "]", ";", ",",
];

/// Reads one token after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    script: &'a str,
    /// Where the token starts that was read last.
    pub(super) start: usize,
    /// Where what has not been read starts.
    at: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer behind what may precede a script: a byte order mark, and a line that starts with `#`.
    pub(super) fn new(script: &'a str) -> Result<Self, Flaw> {
        let text = script.strip_prefix('\u{feff}').unwrap_or(script);
        let at = script.len() - text.len();
        if text.starts_with('\x1b') {
            return Err(Flaw::new(at, "bytecode is not supported"));
        }
        let mut lexer = Self {
            script,
            start: at,
            at,
        };
        if text.starts_with('#') {
            lexer.skip_line();
        }
        Ok(lexer)
    }

    pub(super) fn script(&self) -> &'a str {
        self.script
    }

    /// The text of the last token.
    pub(super) fn text(&self) -> &'a str {
        &self.script[self.start..self.at]
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, Flaw> {
        self.skip()?;
        self.start = self.at;
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let Some(first) = bytes.first() else {
            return Ok(Token::End);
        };
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        if is_digit(0) || *first == b'.' && is_digit(1) {
            self.at += number::length(bytes);
            return match number::is_valid(self.text()) {
                true => Ok(Token::Number),
                false => Err(self.flaw(format!("malformed number {:?}", self.shown()))),
            };
        }
        let length = bytes.iter().take_while(|byte| is_part(**byte)).count();
        if length > 0 {
            self.at += length;
            let word = &rest[..length];
            let reserved = WORDS.iter().find(|reserved| **reserved == word);
            return Ok(reserved.map_or(Token::Name(word), |reserved| Token::Sign(reserved)));
        }
        if matches!(first, b'"' | b'\'') {
            return self.quoted(*first);
        }
        if let Some(level) = long_bracket(rest) {
            self.long(level)?;
            return Ok(Token::Text);
        }
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        // only ASCII is left: all other bytes are parts of names
        self.at += 1;
        Ok(Token::Other)
    }

    /// The start of the last token, for a message.
    pub(super) fn shown(&self) -> String {
        const MOST: usize = 30;
        let text = self.text();
        let shown: String = text.chars().take(MOST).collect();
        if shown.len() < text.len() {
            return shown + "…";
        }
        shown
    }

    pub(super) fn flaw(&self, fact: impl Into<String>) -> Flaw {
        Flaw::new(self.start, fact)
    }

    fn rest(&self) -> &'a str {
        &self.script[self.at..]
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), Flaw> {
        loop {
            let rest = self.rest();
            let text = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
            self.at += rest.len() - text.len();
            let Some(comment) = text.strip_prefix("--") else {
                return Ok(());
            };
            self.start = self.at;
            self.at += 2;
            match long_bracket(comment) {
                Some(level) => self.long(level)?,
                None => self.skip_line(),
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
    }

    /// A text or comment in long brackets.
    fn long(&mut self, level: usize) -> Result<(), Flaw> {
        let end = format!("]{}]", "=".repeat(level));
        let content = self.at + end.len();
        let Some(length) = self.script[content..].find(&end) else {
            return Err(self.flaw(format!("unclosed {:?}", self.opening(level))));
        };
        self.at = content + length + end.len();
        Ok(())
    }

    fn opening(&self, level: usize) -> &'a str {
        let end = self.at + level + 2;
        &self.script[self.start..end.min(self.start + 30)]
    }

    /// A text in quotes.
    fn quoted(&mut self, quote: u8) -> Result<Token<'a>, Flaw> {
        let bytes = self.script.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                None | Some(b'\n' | b'\r') => return Err(self.flaw("unclosed string")),
                Some(b'\\') => self.escape()?,
                Some(byte) => {
                    self.at += 1;
                    if *byte == quote {
                        return Ok(Token::Text);
                    }
                }
            }
        }
    }

    /// An escape, after which the text goes on.
    fn escape(&mut self) -> Result<(), Flaw> {
        let bytes = &self.script.as_bytes()[self.at + 1..];
        let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        let length = match bytes.first() {
            None => Some(0),
            Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'"' | b'\'') => Some(1),
            Some(b'x') => Some(3).filter(|_| hex(1) && hex(2)),
            Some(b'u') => unicode(bytes),
            Some(b'z') => Some(1 + bytes[1..].iter().take_while(|b| is_blank(**b)).count()),
            Some(b'\n') => Some(1 + usize::from(bytes.get(1) == Some(&b'\r'))),
            Some(b'\r') => Some(1 + usize::from(bytes.get(1) == Some(&b'\n'))),
            Some(_) => decimal(bytes),
        };
        let Some(length) = length else {
            return Err(Flaw::new(self.at, "invalid escape in a string"));
        };
        self.at += 1 + length;
        Ok(())
    }
}

/// Whether a byte can be part of a name; those of characters beyond ASCII can.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

/// How many `=` are in the long bracket that a text starts with.
fn long_bracket(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('[')?;
    let rest = inside.trim_start_matches('=');
    rest.starts_with('[').then(|| inside.len() - rest.len())
}

/// The length of `u{10ffff}`.
fn unicode(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.get(1..)?.strip_prefix(b"{")?;
    let end = digits.iter().position(|byte| *byte == b'}')?;
    let digits = str::from_utf8(&digits[..end]).ok()?;
    let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let significant = digits.trim_start_matches('0');
    let is_character = significant.len() <= 6
        && u32::from_str_radix(&format!("0{significant}"), 16).is_ok_and(|c| c < 0x11_0000);
    (is_hex && is_character).then_some(end + 3)
}

/// The length of up to three digits for a byte.
fn decimal(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.iter().take(3).take_while(|b| b.is_ascii_digit());
    let (mut length, mut value) = (0, 0_u16);
    for digit in digits {
        length += 1;
        value = value * 10 + u16::from(digit - b'0');
    }
    (length > 0 && value <= 255).then_some(length)
}
