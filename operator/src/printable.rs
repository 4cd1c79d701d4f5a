//! Text of others (manifests, clients, Envoy) in conditions and logs: control characters are escaped, so that it is one line
//! that says what it seems to say.

use std::{borrow::Cow, fmt::Write as _};

/// The text with its control characters escaped as in Rust, such as `\n` and `\u{1b}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            let _ = write!(escaped, "{}", character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character is not shown, or changes how others are shown: control characters, line separators, and those that
/// change the direction of text.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The start of a text that is longer than `limit` bytes, with `…` at its end.
pub(crate) fn shortened(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped() {
        assert_eq!(printable("a/b é 漢 'q' \\"), "a/b é 漢 'q' \\");
        assert_eq!(printable("a\nb\r\t"), r"a\nb\r\t");
        assert_eq!(
            printable("\u{1b}[31m\u{7f}\u{9b}\u{202e}"),
            r"\u{1b}[31m\u{7f}\u{9b}\u{202e}"
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("abcdef".to_owned(), 6), "abcdef");
        assert_eq!(shortened("ééééé".to_owned(), 8), "éé…");
    }
}
