//! What the product reports of Mappings, as far as the model knows it.

use nuncio_core::{
    object::{Kind, ObjectRef},
    report::{Reason, Report},
    store::AllReports,
};

use super::{
    attachment,
    expected::{self, Served},
    group::Group,
    input::{Input, Mapping, Mistake},
    table::{Answer, To},
};

/// A report that contradicts the model. `answers` are those of requests.
pub(crate) fn contradiction(
    input: &Input,
    served: &[Served],
    reports: &AllReports,
    answers: &[To],
) -> Option<String> {
    let mappings = input.mappings.iter().filter(|mapping| mapping.ours);
    for mapping in mappings {
        let meta = &mapping.meta;
        let object = ObjectRef::new(Kind::Mapping, meta.namespace, meta.name);
        let Some(report) = reports.get(&object) else {
            return Some(format!("{object} has no report"));
        };
        if mapping.mistake.is_some_and(Mistake::rejects) {
            if !report.is_error() {
                return Some(format!("{object} is not rejected: {report:?}"));
            }
            continue;
        }
        if let Some(fact) = attached(input, mapping, report)
            .or_else(|| reached(served, mapping, report, answers))
            .or_else(|| contradicted(served, mapping, report))
            .or_else(|| beside_another_namespace(served, mapping, report))
        {
            return Some(format!("{object} {fact}: {report:?}"));
        }
    }
    None
}

fn has(report: &Report, reason: Reason, path: &str) -> bool {
    let mut problems = report.problems.iter();
    problems.any(|problem| problem.reason == reason && problem.path.contains(path))
}

fn attached(input: &Input, mapping: &Mapping, report: &Report) -> Option<&'static str> {
    let default = [expected::default_host()];
    let hosts = match input.hosts.as_slice() {
        [] => &default,
        hosts => hosts,
    };
    let takes = |host| attachment::takes(host, mapping, input.loose);
    match (
        hosts.iter().any(takes),
        has(report, Reason::NO_MATCHING_HOST, ""),
    ) {
        (true, true) => Some("has a Host"),
        (false, false) => Some("has no Host"),
        (false, true) if report.in_service => Some("is not in service"),
        _ => None,
    }
}

fn reached(
    served: &[Served],
    mapping: &Mapping,
    report: &Report,
    answers: &[To],
) -> Option<&'static str> {
    let is_its = |to: To| match to {
        To::Service(number, shadow) => number == mapping.number || shadow == Some(mapping.number),
        To::Redirect(number) => number == mapping.number,
        To::Unavailable | To::Https | To::Nothing => false,
    };
    let gets_requests = answers.iter().any(|to| is_its(*to));
    let is_shadowed = has(report, Reason::SHADOWED, "");
    let is_idle = has(report, Reason::NO_SHARE, "") || has(report, Reason::NOTHING_TO_SHADOW, "");
    if gets_requests && (is_shadowed || is_idle) {
        return Some("gets requests");
    }
    let routes = served
        .iter()
        .filter(|served| served.insecure == Answer::Route)
        .flat_map(|served| &served.groups)
        .flat_map(|group| group.entries());
    let has_route = routes.into_iter().any(|entry| is_its(entry.to));
    if has_route && !is_shadowed && !report.in_service {
        return Some("is in service");
    }
    None
}

fn contradicted(served: &[Served], mapping: &Mapping, report: &Report) -> Option<&'static str> {
    let mut groups = served.iter().flat_map(|served| &served.groups);
    let is_contradicted = groups.any(|group| {
        let mut contradicted = group.contradicted().into_iter();
        contradicted.any(|other| other.number == mapping.number)
    });
    if is_contradicted && !has(report, Reason::GROUP_CONFLICT, "case_sensitive") {
        return Some("contradicts an earlier Mapping of its group");
    }
    None
}

/// Decision 18: what one namespace does to another's is never silent. Here with the same match on a Host, or with the same
/// hostname and path.
fn beside_another_namespace(
    served: &[Served],
    mapping: &Mapping,
    report: &Report,
) -> Option<&'static str> {
    let is_it = |other: &&Mapping| other.number == mapping.number;
    let is_foreign = |other: &&Mapping| other.meta.namespace != mapping.meta.namespace;
    let has_neighbour = served.iter().any(|served| {
        let mut groups = served.groups.iter();
        let own = groups.find(|group| group.all().iter().any(is_it));
        own.is_some_and(|own| {
            let beside = served.groups.iter().filter(|group| group.is_beside(own));
            let mut all = beside.flat_map(Group::all);
            all.any(|other| is_foreign(&other))
        })
    });
    if has_neighbour && !has(report, Reason::CROSS_NAMESPACE, "") {
        return Some("is beside a Mapping of another namespace");
    }
    None
}
