//! Numbers of LuaJIT: decimal, hexadecimal (`0x1.8p3`) and binary (`0b11`), complex (`2i`) and 64-bit (`1LL`, `0xfULL`).

/// The length of what looks like a number at the start of a script.
pub(super) fn length(bytes: &[u8]) -> usize {
    let is_hex = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].eq_ignore_ascii_case(&b'x');
    let exponent = if is_hex { b'p' } else { b'e' };
    let mut last = 0_u8;
    let is_part = |byte: &&u8| {
        let is_sign = matches!(**byte, b'+' | b'-') && last.eq_ignore_ascii_case(&exponent);
        last = **byte;
        is_sign || last == b'.' || last == b'_' || last.is_ascii_alphanumeric() || !last.is_ascii()
    };
    bytes.iter().take_while(is_part).count()
}

/// Whether it is a number.
pub(super) fn is_valid(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match (lower.strip_prefix("0x"), lower.strip_prefix("0b")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 2),
        _ => (lower.as_str(), 10),
    };
    let rest = digits.trim_start_matches(|c: char| c.is_digit(base));
    let (fraction, is_float) = match rest.strip_prefix('.') {
        Some(_) if base == 2 => return false,
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = if is_float {
        fraction.trim_start_matches(|c: char| c.is_digit(base))
    } else {
        fraction
    };
    let points = usize::from(is_float);
    if digits.len() - rest.len() == points {
        return false;
    }
    let exponent = match base {
        10 => rest.strip_prefix('e'),
        16 => rest.strip_prefix('p'),
        _ => None,
    };
    let Some(exponent) = exponent else {
        return matches!(rest, "" | "i") || !is_float && matches!(rest, "ll" | "ull" | "llu");
    };
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let rest = exponent.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < exponent.len() && matches!(rest, "" | "i")
}
