//! `\n`, `\x{41}`, `\101`, `\.`.

use crate::reconcile::regex::Flaw;

/// One escaped character, and what follows it.
pub(super) fn escape(text: &[u8]) -> Result<(u8, &[u8]), Flaw> {
    let [_, first, rest @ ..] = text else {
        return Err(Flaw::TrailingBackslash);
    };
    let invalid = || Flaw::Escape(char::from(*first));
    let byte = match first {
        b'1'..=b'7' if !matches!(rest, [b'0'..=b'7', ..]) => return Err(invalid()),
        b'0'..=b'7' => return octal(&text[1..]).ok_or_else(invalid),
        b'x' => return hexadecimal(rest).ok_or_else(invalid),
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 0x07,
        b'f' => 0x0c,
        b'v' => 0x0b,
        symbol if symbol.is_ascii() && !symbol.is_ascii_alphanumeric() => *symbol,
        _ => return Err(invalid()),
    };
    Ok((byte, rest))
}

/// Up to three digits.
fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let mut value = 0_u16;
    let mut rest = text;
    for _ in 0..3 {
        let [digit @ b'0'..=b'7', behind @ ..] = rest else {
            break;
        };
        value = value * 8 + u16::from(digit - b'0');
        rest = behind;
    }
    Some((u8::try_from(value).ok()?, rest))
}

/// Two digits, or any number of them in braces.
fn hexadecimal(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [b'{', digits @ ..] = text else {
        let [high, low, rest @ ..] = text else {
            return None;
        };
        let value = digit(high)? * 16 + digit(low)?;
        return Some((u8::try_from(value).ok()?, rest));
    };
    let end = digits.iter().position(|byte| *byte == b'}')?;
    if end == 0 {
        return None;
    }
    let mut value = 0_u8;
    for byte in &digits[..end] {
        value = u8::try_from(u32::from(value) * 16 + digit(byte)?).ok()?;
    }
    Some((value, &digits[end + 1..]))
}
