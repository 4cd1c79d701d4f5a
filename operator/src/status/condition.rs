//! One object's report, and how far the Envoys are, become the status that the object should have. Pure: the time is
//! an argument, and so is the status it has, whose transition times are kept for as long as nothing turned.
//!
//! - `Accepted` is false when the object itself is wrong. A warning leaves it true, since the object is served, but
//!   gives it the warning's reason and text, so that it shows wherever conditions are looked at.
//! - `ResolvedRefs` is false as soon as something that the object refers to is missing or unusable, even if the rest
//!   of the object is served: whether a reference resolves is a fact, not a judgement.
//! - `Programmed` is true when every connected Envoy has acknowledged the snapshot that first had the object as it
//!   is now.
//! - Emissary's own fields are kept: a Mapping's `state` (`Running` when anything of it is served) and `reason`, a
//!   Host's `state` (`Ready`, `Pending`, `Error`), `errorReason`, `errorTimestamp`, `tlsCertificateSource`.

use jiff::Timestamp;
use nuncio_crds::kind::Status;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    fleet::Acknowledged,
    observed::{CONDITION_TYPES, Observed},
};
use nuncio_core::{
    object::Kind,
    report::{ConditionType, Problem, Report, Severity},
};

/// Longest message of a condition in bytes. The API would take 32 KiB; nobody reads that.
const MESSAGE_LIMIT: usize = 1024;

/// Problems that a message spells out; the rest is counted.
const PROBLEM_LIMIT: usize = 4;

/// Everything that a status depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The report.
    pub(crate) report: &'a Report,
    /// The snapshot that first had the object as the report describes it.
    pub(crate) sequence: u64,
    /// What an Envoy said when it refused a resource that came from the object.
    pub(crate) rejected: Option<&'a str>,
    /// What the connected Envoys have.
    pub(crate) acknowledged: &'a Acknowledged,
    /// The status the object has.
    pub(crate) observed: &'a Observed,
}

/// The status that an object of this kind should have.
pub(crate) fn status(kind: Kind, facts: Facts<'_>, now: Timestamp) -> Value {
    let verdicts = [
        accepted(facts.report),
        resolved_refs(facts.report),
        programmed(facts),
    ];
    let is_programmed = verdicts[2].is_true;
    let conditions: Vec<Value> = verdicts
        .into_iter()
        .enumerate()
        .map(|(slot, verdict)| {
            let since = match facts.observed.transitions[slot] {
                Some((was_true, since)) if was_true == verdict.is_true => since,
                _ => now.as_second(),
            };
            json!({
                "type": CONDITION_TYPES[slot],
                "status": if verdict.is_true { "True" } else { "False" },
                "reason": verdict.reason,
                "message": shortened(verdict.message),
                "observedGeneration": facts.report.generation,
                "lastTransitionTime": time(since),
            })
        })
        .collect();
    let mut status = Map::new();
    match kind.info().status {
        Status::Mapping => mapping(&mut status, facts),
        Status::Host => host(&mut status, facts, is_programmed, now),
        Status::Conditions | Status::None => {}
    }
    status.insert("conditions".to_owned(), Value::Array(conditions));
    Value::Object(status)
}

/// A condition without its times.
struct Verdict {
    is_true: bool,
    reason: &'static str,
    message: String,
}

fn accepted(report: &Report) -> Verdict {
    let is_true = !has(report, ConditionType::Accepted, Severity::Error);
    let worst = report.problem(ConditionType::Accepted);
    Verdict {
        is_true,
        reason: match worst {
            Some(problem) if problem.severity != Severity::Notice => problem.reason.as_str(),
            _ => "Accepted",
        },
        message: described(report, ConditionType::Accepted),
    }
}

fn resolved_refs(report: &Report) -> Verdict {
    let worst = report.problem(ConditionType::ResolvedRefs);
    let broken = worst.filter(|problem| problem.severity != Severity::Notice);
    Verdict {
        is_true: broken.is_none(),
        reason: broken.map_or("ResolvedRefs", |problem| problem.reason.as_str()),
        message: described(report, ConditionType::ResolvedRefs),
    }
}

fn programmed(facts: Facts<'_>) -> Verdict {
    let not = |reason, message: String| Verdict {
        is_true: false,
        reason,
        message,
    };
    if let Some(message) = facts.rejected {
        let message = format!("Envoy refuses it, what it accepted last is served on: {message}");
        return not("Rejected", message);
    }
    if !facts.report.in_service {
        let message = if facts.report.summary.is_empty() {
            "nothing of it is served".to_owned()
        } else {
            format!("nothing of it is served: {}", facts.report.summary)
        };
        return not("NotServed", message);
    }
    let total = facts.acknowledged.total();
    if total == 0 {
        return not("NoEnvoys", "no Envoy is connected".to_owned());
    }
    let having = facts.acknowledged.having(facts.sequence);
    let count = format!("{having}/{total} Envoys");
    if having < total {
        return not("Pending", count);
    }
    let message = if facts.report.summary.is_empty() {
        count
    } else {
        format!("{count}; {}", facts.report.summary)
    };
    Verdict {
        is_true: true,
        reason: "Programmed",
        message,
    }
}

fn mapping(status: &mut Map<String, Value>, facts: Facts<'_>) {
    let state = if facts.report.in_service {
        "Running"
    } else {
        "Inactive"
    };
    status.insert("state".to_owned(), state.into());
    let worst = facts.report.problems.first();
    let reason = match (facts.rejected, worst) {
        (Some(message), _) => format!("Envoy refuses it: {message}"),
        (None, Some(problem)) if problem.severity != Severity::Notice => sentence(problem),
        (None, _) if !facts.report.in_service => facts.report.summary.clone(),
        (None, _) => String::new(),
    };
    if !reason.is_empty() {
        status.insert("reason".to_owned(), shortened(reason).into());
    }
}

fn host(status: &mut Map<String, Value>, facts: Facts<'_>, is_programmed: bool, now: Timestamp) {
    let error = match (facts.rejected, facts.report.problems.first()) {
        (Some(message), _) => Some(format!("Envoy refuses it: {message}")),
        (None, Some(problem)) if problem.severity == Severity::Error => Some(sentence(problem)),
        (None, _) => None,
    };
    let state = match (&error, is_programmed) {
        (Some(_), _) => "Error",
        (None, true) => "Ready",
        (None, false) => "Pending",
    };
    status.insert("state".to_owned(), state.into());
    if let Some(error) = error {
        let error = shortened(error);
        let since = match facts.observed.error_since {
            Some(since) if facts.observed.error_reason == xxh3_64(error.as_bytes()) => since,
            _ => now.as_second(),
        };
        status.insert("errorReason".to_owned(), error.into());
        status.insert("errorTimestamp".to_owned(), time(since).into());
    }
    let source = if facts.observed.has_tls_secret {
        "Other"
    } else {
        "None"
    };
    status.insert("tlsCertificateSource".to_owned(), source.into());
}

fn has(report: &Report, condition: ConditionType, severity: Severity) -> bool {
    report
        .problems
        .iter()
        .any(|problem| problem.condition == condition && problem.severity == severity)
}

/// All problems of a condition as one text: the most severe first, the rest counted.
fn described(report: &Report, condition: ConditionType) -> String {
    let problems: Vec<&Problem> = report
        .problems
        .iter()
        .filter(|problem| problem.condition == condition)
        .collect();
    let mut text: Vec<String> = problems
        .iter()
        .take(PROBLEM_LIMIT)
        .map(|problem| sentence(problem))
        .collect();
    if problems.len() > PROBLEM_LIMIT {
        text.push(format!("and {} more", problems.len() - PROBLEM_LIMIT));
    }
    text.join("; ")
}

fn sentence(problem: &Problem) -> String {
    if problem.path.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.path, problem.message)
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MESSAGE_LIMIT {
        text.truncate(text.floor_char_boundary(MESSAGE_LIMIT - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// RFC 3339 in whole seconds, as the API writes `metav1.Time`.
fn time(second: i64) -> String {
    Timestamp::from_second(second)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests;
