//! What a run has done, for people and programs.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _, stdout},
};

use serde::Serialize;

use super::arguments::Output;
use crate::printable::printable;

/// What a run has done.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether nothing was stored.
    pub(super) dry_run: bool,
    pub(super) kinds: Vec<KindReport>,
}

/// What became of a kind.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KindReport {
    pub(super) kind: &'static str,
    pub(super) state: State,
    pub(super) storage_version: Option<String>,
    pub(super) stored_versions: Vec<String>,
    /// Objects that were stored again.
    pub(super) rewritten: usize,
    /// Objects that were stored in this version before.
    pub(super) current: usize,
    /// Objects that were deleted in the meantime.
    pub(super) gone: usize,
    /// Objects that an earlier run has stored.
    pub(super) skipped: usize,
    pub(super) failed: Vec<Failure>,
    /// Why the others were not looked at.
    pub(super) error: Option<String>,
}

/// An object that is stored as before.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    /// `NAMESPACE/NAME`.
    object: String,
    reason: String,
}

/// The state of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It has no definition.
    Absent,
    /// Nothing had to be done.
    Current,
    /// All objects are stored in the storage version.
    Migrated,
    /// Not all objects are.
    Failed,
    /// The run ended before.
    Interrupted,
}

impl Report {
    /// Whether all objects are stored as they must be.
    pub(super) fn is_success(&self) -> bool {
        let good = |kind: &KindReport| {
            matches!(kind.state, State::Absent | State::Current | State::Migrated)
        };
        self.kinds.iter().all(good)
    }

    /// Prints it to standard output.
    pub(super) fn print(&self, output: Output) -> io::Result<()> {
        let text = match output {
            Output::Text => self.to_string(),
            Output::Json => serde_json::to_string_pretty(self)? + "\n",
        };
        stdout().write_all(text.as_bytes())
    }
}

impl KindReport {
    /// A kind that was not looked at.
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            state: State::Interrupted,
            storage_version: None,
            stored_versions: Vec::new(),
            rewritten: 0,
            current: 0,
            gone: 0,
            skipped: 0,
            failed: Vec::new(),
            error: None,
        }
    }

    /// Objects that were looked at, by this run and those before.
    pub(super) fn looked_at(&self) -> usize {
        self.rewritten + self.current + self.gone + self.skipped + self.failed.len()
    }

    /// Notes an object that cannot be stored.
    pub(super) fn fail(&mut self, object: String, reason: String) {
        self.failed.push(Failure { object, reason });
    }

    fn counts(&self) -> String {
        let mut text = format!("{} objects stored again", self.rewritten);
        for (count, what) in [
            (self.current, "already current"),
            (self.skipped, "stored by an earlier run"),
            (self.gone, "deleted meanwhile"),
            (self.failed.len(), "failed"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in &self.kinds {
            kind.fmt(formatter)?;
        }
        let is_interrupted = |kind: &KindReport| kind.state == State::Interrupted;
        if self.kinds.iter().any(is_interrupted) {
            writeln!(formatter, "interrupted; run the command again to go on")?;
        }
        if self.dry_run {
            writeln!(
                formatter,
                "dry run: objects were converted and validated, but not stored"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for KindReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stored = self.stored_versions.join(", ");
        let version = self.storage_version.as_deref().unwrap_or_default();
        write!(formatter, "{}: ", self.kind)?;
        match self.state {
            State::Absent => writeln!(formatter, "not installed")?,
            State::Current => writeln!(formatter, "all objects are stored as {version}")?,
            State::Migrated => {
                let counts = self.counts();
                writeln!(formatter, "migrated to {version}: {counts}")?;
            }
            State::Failed => {
                let counts = self.counts();
                writeln!(
                    formatter,
                    "NOT migrated, stored versions stay {stored}: {counts}"
                )?;
            }
            State::Interrupted if self.storage_version.is_none() => {
                writeln!(formatter, "not looked at")?;
            }
            State::Interrupted => {
                let counts = self.counts();
                writeln!(formatter, "interrupted on the way to {version}: {counts}")?;
            }
        }
        if let Some(error) = &self.error {
            writeln!(formatter, "  {}", printable(error))?;
        }
        for Failure { object, reason } in &self.failed {
            writeln!(formatter, "  {} {object}: {}", self.kind, printable(reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(state: State) -> KindReport {
        KindReport {
            state,
            storage_version: Some("v3alpha1".to_owned()),
            stored_versions: vec!["v2".to_owned(), "v3alpha1".to_owned()],
            rewritten: 3,
            current: 1,
            ..KindReport::new("Mapping")
        }
    }

    fn text(kind: KindReport) -> String {
        let kinds = vec![kind];
        let report = Report {
            kinds,
            ..Report::default()
        };
        report.to_string()
    }

    #[test]
    fn each_kind_has_a_line() {
        assert_eq!(
            text(kind(State::Migrated)),
            "Mapping: migrated to v3alpha1: 3 objects stored again, 1 already current\n"
        );
        assert_eq!(
            text(kind(State::Current)),
            "Mapping: all objects are stored as v3alpha1\n"
        );
        assert_eq!(
            text(KindReport::new("Host")),
            "Host: not looked at\ninterrupted; run the command again to go on\n"
        );
    }

    #[test]
    fn failures_are_named() {
        let mut failed = kind(State::Failed);
        failed.fail("a/b".to_owned(), "bad\nvalue".to_owned());
        let text = text(failed.clone());
        assert!(
            text.starts_with("Mapping: NOT migrated, stored versions stay v2, v3alpha1: 3 objects")
        );
        assert!(text.contains(", 1 failed\n  Mapping a/b: bad"), "{text}");
        assert_eq!(text.lines().count(), 2);
        let json = serde_json::to_value(&failed).unwrap();
        assert_eq!(json["state"], "failed");
        assert_eq!(json["failed"][0]["object"], "a/b");
        assert_eq!(json["storedVersions"][0], "v2");
    }

    #[test]
    fn only_what_is_migrated_is_a_success() {
        for (state, expected) in [
            (State::Absent, true),
            (State::Current, true),
            (State::Migrated, true),
            (State::Failed, false),
            (State::Interrupted, false),
        ] {
            let report = Report {
                kinds: vec![kind(state)],
                ..Report::default()
            };
            assert_eq!(report.is_success(), expected, "{state:?}");
        }
    }
}
