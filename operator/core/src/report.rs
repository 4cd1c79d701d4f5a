//! What we have to say about one object: whether it is accepted, whether what it refers to exists, and every
//! problem with its field and what is served instead. A report is data; `status` turns it into conditions and
//! `nuncio render` prints it.

use serde::Serialize;

/// One thing that is wrong with an object, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// What it does to the object.
    pub severity: Severity,
    /// Which of the two conditions it belongs to.
    pub condition: ConditionType,
    /// `UpperCamelCase` reason for the condition.
    pub reason: &'static str,
    /// Path of the field, such as `spec.prefix`; empty when the object as a whole is meant.
    pub path: String,
    /// What is wrong, and what is served instead. Lower case, no final dot.
    pub message: String,
}

impl Problem {
    /// A problem of the object itself, or of it and others, which belongs to [`ConditionType::Accepted`].
    #[must_use]
    pub fn accepted(severity: Severity, reason: &'static str, path: &str, message: String) -> Self {
        Self {
            severity,
            condition: ConditionType::Accepted,
            reason,
            path: path.to_owned(),
            message,
        }
    }
}

/// What a problem does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Nothing of the object is served.
    Error,
    /// The object is served, but not all that it says.
    Warning,
    /// The object is served as it is; a hint for its author.
    Notice,
}

/// The two conditions that are decided by us alone; the third, `Programmed`, also depends on the Envoys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ConditionType {
    /// Is the object valid, and free of conflicts with others?
    Accepted,
    /// Does everything that it refers to exist, and is it usable?
    ResolvedRefs,
}

/// Everything we know about one object. Equal reports need no new status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `metadata.generation` that this is about; 0 where there is none (files).
    pub generation: i64,
    /// Sorted: most severe first.
    pub problems: Vec<Problem>,
    /// Whether anything of the object is part of what Envoys are told.
    pub in_service: bool,
    /// What is served, in a few words, for the `Programmed` message and for people. For a Mapping, how many Hosts
    /// it is attached to; for a Host, its listeners; may be empty.
    pub summary: String,
}

impl Report {
    /// The most severe problem of a condition, if any.
    #[must_use]
    pub fn problem(&self, condition: ConditionType) -> Option<&Problem> {
        self.problems
            .iter()
            .find(|problem| problem.condition == condition)
    }

    /// Whether the object is taken as it is: nothing worse than a hint.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems
            .iter()
            .all(|problem| problem.severity == Severity::Notice)
    }

    /// Whether the object is wrong: nothing of it is served because of what it says itself.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}
