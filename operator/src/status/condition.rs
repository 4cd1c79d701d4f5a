//! From one object's report and the progress of Envoys to the status that the object should have. Pure: the time is an
//! argument, and so is the current status, whose transition times are kept while a condition's status stays the same.
//!
//! - `Accepted` is false when the object itself is invalid. With a warning it is true, because the object is served, but
//!   has the warning's reason and message, so that it is visible wherever conditions are shown.
//! - `ResolvedRefs` is false when any object that this one refers to is missing or unusable, even if the rest is served.
//! - `Programmed` is true when every connected Envoy has acknowledged the snapshot that first contained the object as
//!   it is now.
//! - An object that several fleets serve has one status. A condition is true if it is for each of them; its reason is that of
//!   the first fleet with something to report; the message has that of each fleet after its ID, `[a] 2/2 Envoys; [b] 1/1
//!   Envoys`, those that are not true first, unless all have the same to say about the object itself.
//! - Emissary's own fields are kept: a Mapping's `state` (`Running` if any part of it is served) and `reason`, a Host's
//!   `state` (`Ready`, `Pending`, `Error`), `errorReason`, `errorTimestamp`, `tlsCertificateSource`.

use jiff::Timestamp;
use nuncio_crds::kind::Status;
use nuncio_xds::{
    fleet::CANNOT_BIND,
    quarantine::{ANSWERED, LEFT_OUT},
};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    fleet::Acknowledged,
    observed::{Observed, condition_types},
};
use crate::printable::{self, printable};
use merge::{Verdict, merged, merged_text};
use nuncio_core::{
    object::Kind,
    reconcile::Name,
    report::{ConditionType, Problem, Reason, Report, Severity},
};
use nuncio_crds::v3alpha1::{HostState, MappingState, TlsCertificateSource};

mod knative;
mod merge;

/// Longest message of a condition in bytes. The API allows 32 KiB, which is more than anybody reads.
const MESSAGE_LIMIT: usize = 1024;

/// Problems that a message lists; further ones are counted.
const PROBLEM_LIMIT: usize = 4;

/// What a status depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// What each fleet that serves the object has of it; at least one.
    pub(crate) shares: &'a [Share<'a>],
    /// The status that the object has.
    pub(crate) observed: &'a Observed,
    /// The Service in front of the Envoys.
    pub(crate) gateway: &'a Gateway,
}

/// The Service in front of the Envoys, for statuses that show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// Not known yet: such a status is not written.
    #[default]
    Unknown,
    /// There is none.
    None,
    /// This one.
    Service(Name),
}

/// What a fleet has of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share<'a> {
    /// ID of the fleet, if there are several.
    pub(crate) fleet: Option<&'a str>,
    /// The report.
    pub(crate) report: &'a Report,
    /// The snapshot that first contained the object as reported.
    pub(crate) seq: u64,
    /// Envoy's message if it rejected a resource that is made of the object.
    pub(crate) rejected: Option<&'a str>,
    /// What the connected Envoys have acknowledged.
    pub(crate) acknowledged: &'a Acknowledged,
}

/// The status that an object of this kind should have.
pub(crate) fn status(kind: Kind, facts: Facts<'_>, now: Timestamp) -> Value {
    let shares = facts.shares;
    // that which every fleet has seen
    let generations = shares.iter().map(|share| share.report.generation);
    let generation = generations.min().unwrap_or_default();
    if kind.info().status == Status::Knative {
        return knative::status(kind, facts, generation, now);
    }
    let verdicts = [
        merged(shares, false, |share| accepted(share.report)),
        merged(shares, false, |share| resolved_refs(kind, share.report)),
        merged(shares, true, programmed),
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
                "type": condition_types(kind)[slot],
                "status": if verdict.is_true { "True" } else { "False" },
                "reason": verdict.reason.as_str(),
                "message": shortened(&verdict.message),
                "observedGeneration": generation,
                "lastTransitionTime": time(since),
            })
        })
        .collect();
    let mut status = Map::new();
    match kind.info().status {
        Status::Mapping => mapping(&mut status, shares),
        Status::Host => host(&mut status, facts, is_programmed, now),
        Status::Conditions | Status::Knative | Status::None => {}
    }
    status.insert("conditions".to_owned(), Value::Array(conditions));
    Value::Object(status)
}

fn accepted(report: &Report) -> Verdict {
    let is_true = !has(report, ConditionType::Accepted, Severity::Error);
    let worst = report.problem(ConditionType::Accepted);
    Verdict {
        is_true,
        reason: match worst {
            Some(problem) if problem.severity != Severity::Notice => problem.reason,
            _ => Reason::ACCEPTED,
        },
        message: match worst {
            Some(_) => described(report, ConditionType::Accepted),
            None => "valid and without conflicts".to_owned(),
        },
    }
}

fn resolved_refs(kind: Kind, report: &Report) -> Verdict {
    let worst = report.problem(ConditionType::ResolvedRefs);
    let broken = unresolved(report);
    let message = match (worst, kind) {
        (Some(_), _) => described(report, ConditionType::ResolvedRefs),
        (None, Kind::Listener) => "a Listener has no references".to_owned(),
        (None, _) => "all references are resolved".to_owned(),
    };
    Verdict {
        is_true: broken.is_none(),
        reason: broken.map_or(Reason::RESOLVED_REFS, |problem| problem.reason),
        message,
    }
}

fn programmed(share: &Share<'_>) -> Verdict {
    let not = |reason, message: String| Verdict {
        is_true: false,
        reason,
        message,
    };
    if let Some(message) = share.rejected {
        return not(Reason::REJECTED, rejection(message));
    }
    if !share.report.in_service {
        let message = if share.report.summary.is_empty() {
            "not served".to_owned()
        } else {
            format!("not served: {}", share.report.summary)
        };
        return not(Reason::NOT_SERVED, message);
    }
    let total = share.acknowledged.total();
    if total == 0 {
        return not(Reason::NO_ENVOYS, "no Envoy is connected".to_owned());
    }
    let having = share.acknowledged.having(share.seq);
    let count = format!("{having}/{total} Envoys");
    if having < total {
        return not(Reason::PENDING, count);
    }
    let message = if share.report.summary.is_empty() {
        count
    } else {
        format!("{count}; {}", share.report.summary)
    };
    Verdict {
        is_true: true,
        reason: Reason::PROGRAMMED,
        message,
    }
}

fn mapping(status: &mut Map<String, Value>, shares: &[Share<'_>]) {
    let state = if shares.iter().any(|share| share.report.in_service) {
        MappingState::Running
    } else {
        MappingState::Inactive
    };
    status.insert("state".to_owned(), json!(state));
    let reason = merged_text(shares, |share| {
        let worst = share.report.problems.first();
        match (share.rejected, worst) {
            (Some(message), _) => rejection(message),
            (None, Some(problem)) if problem.severity != Severity::Notice => sentence(problem),
            (None, _) if !share.report.in_service => share.report.summary.clone(),
            (None, _) => String::new(),
        }
    });
    if !reason.is_empty() {
        status.insert("reason".to_owned(), shortened(&reason).into());
    }
}

fn host(status: &mut Map<String, Value>, facts: Facts<'_>, is_programmed: bool, now: Timestamp) {
    let error = merged_text(facts.shares, |share| {
        let error = match (share.rejected, share.report.problems.first()) {
            (Some(message), _) => Some(rejection(message)),
            (None, Some(problem)) if problem.severity == Severity::Error => Some(sentence(problem)),
            // what a Host refers to is needed for its TLS
            (None, _) => unresolved(share.report).map(sentence),
        };
        error.unwrap_or_default()
    });
    let error = Some(error).filter(|error| !error.is_empty());
    let state = match (&error, is_programmed) {
        (Some(_), _) => HostState::Error,
        (None, true) => HostState::Ready,
        (None, false) => HostState::Pending,
    };
    status.insert("state".to_owned(), json!(state));
    if let Some(error) = error {
        let error = shortened(&error);
        let since = match facts.observed.error_since {
            Some(since) if facts.observed.error_reason == xxh3_64(error.as_bytes()) => since,
            _ => now.as_second(),
        };
        status.insert("errorReason".to_owned(), error.into());
        status.insert("errorTimestamp".to_owned(), time(since).into());
    }
    let source = if facts.observed.has_tls_secret {
        TlsCertificateSource::Other
    } else {
        TlsCertificateSource::None
    };
    status.insert("tlsCertificateSource".to_owned(), json!(source));
}

/// The most severe problem with what an object refers to.
fn unresolved(report: &Report) -> Option<&Problem> {
    let worst = report.problem(ConditionType::ResolvedRefs);
    worst.filter(|problem| problem.severity != Severity::Notice)
}

fn has(report: &Report, condition: ConditionType, severity: Severity) -> bool {
    report
        .problems
        .iter()
        .any(|problem| problem.condition == condition && problem.severity == severity)
}

/// The problems of a condition as one text: the most severe first, those beyond the limit counted.
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

/// What it means that an Envoy rejected a resource.
fn rejection(message: &str) -> String {
    if message.contains(CANNOT_BIND) {
        format!("Envoy does not listen on the port: {message}")
    } else if message.starts_with(ANSWERED) || message.starts_with(LEFT_OUT) {
        format!("Envoy rejected the route; {message}")
    } else {
        format!("Envoy rejected the update and keeps the previous one: {message}")
    }
}

/// A message of bounded length in one line.
fn shortened(text: &str) -> String {
    printable::shortened(printable(text.trim_end()).into_owned(), MESSAGE_LIMIT)
}

/// RFC 3339 in whole seconds, as the API writes `metav1.Time`.
fn time(second: i64) -> String {
    Timestamp::from_second(second)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests;
