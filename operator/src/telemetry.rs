//! Logs on standard error, as text for people or as one JSON object a line for collectors. `RUST_LOG` filters them.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Where kube-runtime logs.
const WATCHER: &str = "kube_runtime::watcher";

/// Starts logging. `RUST_LOG` has the syntax of `tracing_subscriber::EnvFilter`; the default is `info`.
///
/// # Errors
/// A `RUST_LOG` that cannot be parsed.
pub fn init(format: LogFormat) -> anyhow::Result<()> {
    let mut filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env()
        .map_err(|error| anyhow::anyhow!("invalid environment variable RUST_LOG: {error}"))?;
    if !std::env::var("RUST_LOG").is_ok_and(|own| own.contains(WATCHER)) {
        // it logs every attempt that is forbidden; `watch` logs changes
        filter = filter.add_directive(format!("{WATCHER}=error").parse()?);
    }
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder
            .with_ansi(io::stderr().is_terminal())
            .compact()
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
