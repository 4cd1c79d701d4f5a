//! Durations in the notation of Kubernetes (`1m30s`, `500ms`), which includes that of protobuf (`2s`, `1.5s`).

use std::time::Duration;

use nuncio_ir::LONGEST_TIME;

use super::replaced;
use crate::report::Problem;

/// The duration of a text.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}: use 2s, 500ms or 1m30s");
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        seconds += number.parse::<f64>().map_err(|_source| invalid())? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST_TIME)
        .ok_or_else(|| format!("duration {text:?} exceeds Envoy's maximum of 876000h"))
}

/// The duration of a text that must not be zero.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration < Duration::from_millis(1) {
        return Err(format!("invalid duration {text:?}: must be at least 1ms"));
    }
    Ok(duration)
}

/// A number of milliseconds. What exceeds Envoy's maximum means no limit: the maximum is used.
pub(super) fn milliseconds(path: &str, number: u64, problems: &mut Vec<Problem>) -> Duration {
    let duration = Duration::from_millis(number);
    if duration > LONGEST_TIME {
        problems.push(replaced(path, "exceeds Envoy's maximum", "100 years"));
    }
    duration.min(LONGEST_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_of_kubernetes_and_protobuf_are_durations() {
        for (text, milliseconds) in [
            ("2s", 2000),
            ("1.5s", 1500),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("0s", 0),
            ("1m0s", 60_000),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_invalid() {
        for text in ["", "5", "s", "-1s", "1 s", "1d", "1.2.3s", "s5", "1e400s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("{}h", "9".repeat(30))).is_err());
    }

    #[test]
    fn envoys_maximum_is_never_exceeded() {
        assert!(parse("876000h").is_ok());
        assert!(parse("876001h").is_err());
        let mut problems = Vec::new();
        assert_eq!(
            milliseconds("a", 3_153_600_000_000, &mut problems),
            LONGEST_TIME
        );
        assert_eq!(problems, []);
        assert_eq!(milliseconds("a", u64::MAX, &mut problems), LONGEST_TIME);
        assert_eq!(problems.len(), 1);
    }
}
