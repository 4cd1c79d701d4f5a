//! Durations as Kubernetes writes them (`1m30s`, `500ms`); `2s` and `1.5s` as protobuf writes them are among them.

use std::time::Duration;

/// The duration that a text means.
///
/// # Errors
/// What is wrong with the text, to be read after it.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "is no duration; write it as 2s, 500ms or 1m30s".to_owned();
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .ok_or_else(wrong)?;
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
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_source| wrong())? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_source| "is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_kubernetes_and_protobuf_are_durations() {
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
    fn other_texts_say_what_was_expected() {
        for text in ["", "5", "s", "-1s", "1 s", "1d", "1.2.3s", "s5", "1e400s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("{}h", "9".repeat(30))).is_err());
    }
}
