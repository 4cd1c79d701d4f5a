//! Logs on standard error, as text for people or as one JSON object a line for collectors. `RUST_LOG` filters them.
//!
//! An event is one line of bounded length, whatever is in it: others choose names, error messages and node IDs.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::printable::{is_hidden, printable, shortened};

/// Longest line in bytes.
const LINE_LIMIT: usize = 16 << 10;
/// Longest text in a JSON object that would be a longer line.
const TEXT_LIMIT: usize = 1 << 10;

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// What kube logs with every attempt: requests that are forbidden, and answers that do not parse, as a whole. `watch` logs
/// changes.
const ATTEMPTS: [&str; 2] = ["kube_runtime::watcher", "kube_client::client"];

/// What is logged where nothing else is set.
pub const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;

/// The level of `AES_LOG_LEVEL`, whose names are those of Emissary-ingress' webhook. A bad value means the default.
#[must_use]
pub fn level_of(name: Option<&str>) -> LevelFilter {
    let name = name.unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "" | "info" => DEFAULT_LEVEL,
        "warn" => LevelFilter::WARN,
        "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
        _ => {
            let name = printable(name);
            let _ = writeln!(
                io::stderr(),
                "nuncio: invalid AES_LOG_LEVEL {name:?}: use debug, info, warn or error; using info"
            );
            DEFAULT_LEVEL
        }
    }
}

/// Starts logging. `RUST_LOG` has the syntax of `tracing_subscriber::EnvFilter`; `level` is the default.
///
/// # Errors
/// A `RUST_LOG` that cannot be parsed.
pub fn init(format: LogFormat, level: LevelFilter) -> anyhow::Result<()> {
    let mut filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env()
        .map_err(|error| anyhow::anyhow!("invalid environment variable RUST_LOG: {error}"))?;
    let own = std::env::var("RUST_LOG").unwrap_or_default();
    for target in ATTEMPTS.iter().filter(|target| !own.contains(**target)) {
        filter = filter.add_directive(format!("{target}=error").parse()?);
    }
    let is_colored = io::stderr().is_terminal() && format == LogFormat::Text;
    let builder = fmt().with_env_filter(filter).with_writer(move || Lines {
        output: io::stderr(),
        format,
        is_colored,
    });
    match format {
        LogFormat::Text => builder.with_ansi(is_colored).compact().init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Writes each event, which comes in one piece, as one line.
struct Lines<W> {
    output: W,
    format: LogFormat,
    /// Whether escape sequences in an event are colors; those in values have been escaped by then.
    is_colored: bool,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.trim_end_matches('\n');
        let line = match self.format {
            LogFormat::Json => json_line(text),
            LogFormat::Text if self.is_colored => {
                let parts: Vec<_> = text.split('\u{1b}').map(printable).collect();
                shortened(parts.join("\u{1b}"), LINE_LIMIT)
            }
            LogFormat::Text => shortened(printable(text).into_owned(), LINE_LIMIT),
        };
        self.output.write_all((line + "\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A JSON object in one line, its texts shortened if the line would be too long.
fn json_line(text: &str) -> String {
    let mut line = text.to_owned();
    if line.len() > LINE_LIMIT
        && let Ok(mut value) = serde_json::from_str::<Value>(text)
    {
        let fields = value.as_object_mut().into_iter();
        for (_, field) in fields.flat_map(serde_json::Map::iter_mut) {
            if let Value::String(text) = field {
                *text = shortened(std::mem::take(text), TEXT_LIMIT);
            }
        }
        line = value.to_string();
    }
    // JSON itself allows these
    line.chars().fold(String::new(), |mut line, character| {
        if is_hidden(character) {
            line.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            line.push(character);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, is_colored: bool, event: &str) -> String {
        let mut output = Vec::new();
        let mut lines = Lines {
            output: &mut output,
            format,
            is_colored,
        };
        lines.write_all(event.as_bytes()).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn levels_have_the_names_of_emissary() {
        for (name, level) in [
            (None, LevelFilter::INFO),
            (Some(""), LevelFilter::INFO),
            (Some("debug"), LevelFilter::DEBUG),
            (Some("WARN"), LevelFilter::WARN),
            (Some("dpanic"), LevelFilter::ERROR),
            (Some("loud"), LevelFilter::INFO),
        ] {
            assert_eq!(level_of(name), level, "{name:?}");
        }
    }

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        let event = "INFO rejected message=a\nINFO forged\r\u{1b}[2J\n";
        assert_eq!(
            written(LogFormat::Text, false, event),
            "INFO rejected message=a\\nINFO forged\\r\\u{1b}[2J\n"
        );
        assert_eq!(
            written(LogFormat::Text, true, "\u{1b}[32mINFO\u{1b}[0m a\nb\n"),
            "\u{1b}[32mINFO\u{1b}[0m a\\nb\n"
        );
        let json = written(
            LogFormat::Json,
            false,
            "{\"message\":\"a\u{9b}b\u{2028}\"}\n",
        );
        assert_eq!(json, "{\"message\":\"a\\u009bb\\u2028\"}\n");
    }

    #[test]
    fn a_line_is_bounded_and_stays_json() {
        let long = "x".repeat(1 << 20);
        let text = written(LogFormat::Text, false, &format!("INFO {long}\n"));
        assert!(text.len() <= LINE_LIMIT + 1 && text.ends_with("…\n"));
        let event = format!("{{\"level\":\"INFO\",\"message\":\"{long}\"}}\n");
        let json = written(LogFormat::Json, false, &event);
        assert!(json.len() < LINE_LIMIT);
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["level"], "INFO");
    }
}
