//! Durations as Kubernetes writes them (`1m30s`, `500ms`); `2s` and `1.5s` as protobuf writes them are among them.

use std::time::Duration;

use nuncio_ir::LONGEST_TIME;

use crate::report::{Problem, Reason};

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
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST_TIME)
        .ok_or_else(|| "is too long; up to 876000h are served".to_owned())
}

/// The duration of so many milliseconds. One that is too long for Envoy is meant as no limit: the longest is served instead.
pub(super) fn milliseconds(path: &str, number: u64, problems: &mut Vec<Problem>) -> Duration {
    let duration = Duration::from_millis(number);
    if duration > LONGEST_TIME {
        let longest = LONGEST_TIME.as_millis();
        let message = format!(
            "Envoy takes no time as long as {number} ms; {longest} ms, which is 100 years, is served"
        );
        problems.push(Problem::ignored(Reason::INVALID, path, message));
    }
    duration.min(LONGEST_TIME)
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

    #[test]
    fn a_time_that_envoy_cannot_count_is_cut() {
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
