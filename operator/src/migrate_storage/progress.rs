//! How far a run is: a bar on a terminal, lines in a log.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use super::report::KindReport;

/// Pause between lines.
const PAUSE: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "{prefix} [{bar:32}] {pos}/{len} {msg} {per_sec} {eta}";

/// Shows what is done.
pub(super) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log.
    Lines(Lines),
}

/// Lines of a log, now and then.
pub(super) struct Lines {
    kind: &'static str,
    version: String,
    expected: usize,
    last: Instant,
}

impl Progress {
    /// That of a kind.
    pub(super) fn new(kind: &'static str, version: &str) -> Self {
        if !stderr().is_terminal() {
            return Self::Lines(Lines {
                kind,
                version: version.to_owned(),
                expected: 0,
                last: Instant::now(),
            });
        }
        let bar = ProgressBar::new(0).with_prefix(kind);
        let style = ProgressStyle::with_template(TEMPLATE);
        Self::Bar(match style {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        })
    }

    /// How many objects there are.
    pub(super) fn expect(&mut self, expected: usize) {
        match self {
            Self::Bar(bar) => bar.set_length(u64::try_from(expected).unwrap_or_default()),
            Self::Lines(lines) => lines.expected = expected,
        }
    }

    /// Shows what is done so far.
    pub(super) fn show(&mut self, report: &KindReport) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(u64::try_from(report.looked_at()).unwrap_or_default());
                if !report.failed.is_empty() {
                    bar.set_message(format!("{} failed", report.failed.len()));
                }
            }
            Self::Lines(lines) => {
                if lines.last.elapsed() >= PAUSE {
                    lines.last = Instant::now();
                    lines.print(report);
                }
            }
        }
    }

    /// Shows the end.
    pub(super) fn finish(&mut self, report: &KindReport) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines(lines) => lines.print(report),
        }
    }
}

impl Lines {
    fn print(&self, report: &KindReport) {
        let Self {
            kind,
            version,
            expected,
            ..
        } = self;
        info!(
            kind,
            version,
            done = report.looked_at(),
            expected,
            failed = report.failed.len(),
            "storing objects"
        );
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;
    use crate::migrate_storage::report::KindReport;

    #[test]
    fn a_bar_shows_what_was_looked_at() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let hidden = ProgressDrawTarget::hidden();
        let bar = ProgressBar::with_draw_target(Some(0), hidden);
        let mut progress = Progress::Bar(bar.clone());
        let mut report = KindReport {
            rewritten: 3,
            skipped: 4,
            ..KindReport::new("Mapping")
        };
        report.fail("a/b".to_owned(), "no".to_owned());
        progress.expect(10);
        progress.show(&report);
        assert_eq!((bar.position(), bar.length()), (8, Some(10)));
        assert_eq!(bar.message(), "1 failed");
    }
}
