//! The status of each kind in each situation.

use serde_json::json;

use nuncio_core::report::Reason;

use super::*;

pub(super) const NOW: i64 = 1_000_000;

fn problem(severity: Severity, condition: ConditionType, message: &str) -> Problem {
    Problem {
        severity,
        condition,
        reason: Reason::INVALID,
        path: "spec.field".to_owned(),
        message: message.to_owned(),
    }
}

fn served() -> Report {
    Report {
        generation: 4,
        in_service: true,
        ..Report::default()
    }
}

fn with(problem: Problem) -> Report {
    Report {
        problems: vec![problem],
        ..served()
    }
}

/// Status of an object whose report came with snapshot 5.
fn status_of(kind: Kind, report: &Report, acked: &[u64], observed: &Observed) -> Value {
    status_behind(&Gateway::None, kind, report, acked, observed)
}

/// The same behind this gateway.
pub(super) fn status_behind(
    gateway: &Gateway,
    kind: Kind,
    report: &Report,
    acked: &[u64],
    observed: &Observed,
) -> Value {
    let acknowledged = Acknowledged::new(acked.iter().copied());
    let shares = [Share {
        fleet: None,
        report,
        seq: 5,
        rejected: None,
        acknowledged: &acknowledged,
    }];
    let facts = Facts {
        shares: &shares,
        observed,
        gateway,
    };
    status(kind, facts, Timestamp::from_second(NOW).unwrap())
}

fn kinds_with_status() -> impl Iterator<Item = Kind> {
    Kind::ALL
        .into_iter()
        .filter(|kind| kind.info().status.is_ours())
}

/// `True/Invalid/message` of a condition.
fn condition(status: &Value, slot: usize) -> String {
    let condition = &status["conditions"][slot];
    let text = |key: &str| condition[key].as_str().unwrap().to_owned();
    format!("{}/{}/{}", text("status"), text("reason"), text("message"))
}

#[test]
fn all_three_conditions_are_true_when_every_envoy_has_it() {
    let status = status_of(Kind::Mapping, &served(), &[5, 6, 9], &Observed::default());
    assert_eq!(
        condition(&status, 0),
        "True/Accepted/valid and without conflicts"
    );
    assert_eq!(
        condition(&status, 1),
        "True/ResolvedRefs/all references are resolved"
    );
    assert_eq!(condition(&status, 2), "True/Programmed/3/3 Envoys");
    assert_eq!(status["state"], "Running");
    assert_eq!(status.get("reason"), None);
    assert_eq!(status["conditions"][2]["observedGeneration"], 4);
    assert_eq!(
        status["conditions"][2]["lastTransitionTime"],
        "1970-01-12T13:46:40Z"
    );
}

#[test]
fn the_summary_follows_the_count() {
    let report = Report {
        summary: "2 Hosts".to_owned(),
        ..served()
    };
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    assert_eq!(condition(&status, 2), "True/Programmed/1/1 Envoys; 2 Hosts");
}

#[test]
fn an_envoy_that_is_behind_keeps_the_object_pending() {
    let status = status_of(Kind::Host, &served(), &[5, 4], &Observed::default());
    assert_eq!(condition(&status, 2), "False/Pending/1/2 Envoys");
    assert_eq!(status["state"], "Pending");
}

#[test]
fn without_an_envoy_programmed_is_false() {
    let status = status_of(Kind::Host, &served(), &[], &Observed::default());
    assert_eq!(
        condition(&status, 2),
        "False/NoEnvoys/no Envoy is connected"
    );
}

#[test]
fn a_warning_keeps_accepted_true_and_shows() {
    let report = with(problem(
        Severity::Warning,
        ConditionType::Accepted,
        "is odd",
    ));
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    assert_eq!(condition(&status, 0), "True/Invalid/spec.field: is odd");
    assert_eq!(status["state"], "Running");
    assert_eq!(status["reason"], "spec.field: is odd");
}

#[test]
fn a_notice_changes_only_the_message() {
    let report = with(problem(
        Severity::Notice,
        ConditionType::Accepted,
        "has a hint",
    ));
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    assert_eq!(
        condition(&status, 0),
        "True/Accepted/spec.field: has a hint"
    );
    assert_eq!(status.get("reason"), None);
}

#[test]
fn an_error_takes_the_object_out_of_service() {
    let mut report = with(problem(
        Severity::Error,
        ConditionType::Accepted,
        "is wrong",
    ));
    report.in_service = false;
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    assert_eq!(condition(&status, 0), "False/Invalid/spec.field: is wrong");
    assert_eq!(
        condition(&status, 1),
        "True/ResolvedRefs/all references are resolved"
    );
    assert_eq!(condition(&status, 2), "False/NotServed/not served");
    assert_eq!(status["state"], "Inactive");
    assert_eq!(status["reason"], "spec.field: is wrong");
}

#[test]
fn a_missing_reference_shows_although_the_rest_is_served() {
    let report = with(problem(
        Severity::Warning,
        ConditionType::ResolvedRefs,
        "is missing",
    ));
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    assert_eq!(
        condition(&status, 0),
        "True/Accepted/valid and without conflicts"
    );
    assert_eq!(
        condition(&status, 1),
        "False/Invalid/spec.field: is missing"
    );
    assert_eq!(condition(&status, 2), "True/Programmed/1/1 Envoys");
}

#[test]
fn a_kind_without_references_has_a_message_of_its_own() {
    let status = status_of(Kind::Listener, &served(), &[5], &Observed::default());
    assert_eq!(
        condition(&status, 1),
        "True/ResolvedRefs/a Listener has no references"
    );
}

#[test]
fn a_rejection_has_the_message_of_envoy() {
    let acknowledged = Acknowledged::new([9]);
    let shares = [Share {
        fleet: None,
        report: &served(),
        seq: 5,
        rejected: Some("duplicate domain"),
        acknowledged: &acknowledged,
    }];
    let facts = Facts {
        shares: &shares,
        observed: &Observed::default(),
        gateway: &Gateway::None,
    };
    let status = status(Kind::Host, facts, Timestamp::from_second(NOW).unwrap());
    let text = condition(&status, 2);
    assert!(text.starts_with("False/Rejected/"), "{text}");
    assert!(text.contains("keeps the previous one"), "{text}");
    assert!(text.ends_with("duplicate domain"), "{text}");
    assert_eq!(status["state"], "Error");
}

#[test]
fn a_hosts_error_keeps_its_time_while_it_stays_the_same() {
    let report = Report {
        in_service: false,
        ..with(problem(
            Severity::Error,
            ConditionType::Accepted,
            "is wrong",
        ))
    };
    let first = status_of(Kind::Host, &report, &[5], &Observed::default());
    assert_eq!(first["state"], "Error");
    assert_eq!(first["errorReason"], "spec.field: is wrong");
    assert_eq!(first["errorTimestamp"], "1970-01-12T13:46:40Z");

    let mut written = first;
    written["errorTimestamp"] = json!("1970-01-01T00:00:07Z");
    let observed = Observed::of(Kind::Host, &json!({ "status": written }));
    let again = status_of(Kind::Host, &report, &[5], &observed);
    assert_eq!(again["errorTimestamp"], "1970-01-01T00:00:07Z");

    let other = Report {
        in_service: false,
        ..with(problem(
            Severity::Error,
            ConditionType::Accepted,
            "is worse",
        ))
    };
    let changed = status_of(Kind::Host, &other, &[5], &observed);
    assert_eq!(changed["errorTimestamp"], "1970-01-12T13:46:40Z");
}

#[test]
fn a_host_with_an_unusable_secret_is_in_error_even_if_it_is_served() {
    let report = |severity| {
        with(problem(
            severity,
            ConditionType::ResolvedRefs,
            "is invalid; using the last valid certificate",
        ))
    };
    let host = status_of(
        Kind::Host,
        &report(Severity::Warning),
        &[5],
        &Observed::default(),
    );
    assert!(condition(&host, 1).starts_with("False/"), "{host}");
    assert!(condition(&host, 2).starts_with("True/"), "{host}");
    assert_eq!(host["state"], "Error");
    let text = "spec.field: is invalid; using the last valid certificate";
    assert_eq!(host["errorReason"], text);
    let notice = report(Severity::Notice);
    let host = status_of(Kind::Host, &notice, &[5], &Observed::default());
    assert_eq!(host["state"], "Ready");
    let warning = with(problem(
        Severity::Warning,
        ConditionType::Accepted,
        "expired",
    ));
    let host = status_of(Kind::Host, &warning, &[5], &Observed::default());
    assert_eq!(host["state"], "Ready");
}

#[test]
fn a_host_has_the_source_of_its_certificate() {
    let observed = Observed {
        has_tls_secret: true,
        ..Observed::default()
    };
    let with_tls = status_of(Kind::Host, &served(), &[5], &observed);
    assert_eq!(with_tls["tlsCertificateSource"], "Other");
    assert_eq!(with_tls["state"], "Ready");
    let without = status_of(Kind::Host, &served(), &[5], &Observed::default());
    assert_eq!(without["tlsCertificateSource"], "None");
}

#[test]
fn only_a_condition_that_changes_its_status_gets_a_new_time() {
    let mut written = status_of(Kind::Listener, &served(), &[5], &Observed::default());
    for slot in 0..3 {
        written["conditions"][slot]["lastTransitionTime"] = json!("1970-01-01T00:00:07Z");
    }
    let observed = Observed::of(Kind::Listener, &json!({ "status": written }));
    let status = status_of(Kind::Listener, &served(), &[4], &observed);
    assert_eq!(
        status["conditions"][0]["lastTransitionTime"],
        "1970-01-01T00:00:07Z"
    );
    assert_eq!(
        status["conditions"][2]["lastTransitionTime"],
        "1970-01-12T13:46:40Z"
    );
}

#[test]
fn a_status_that_was_written_is_recognised_when_it_comes_back() {
    for kind in kinds_with_status() {
        let report = with(problem(
            Severity::Error,
            ConditionType::Accepted,
            "is wrong",
        ));
        let written = status_of(kind, &report, &[5], &Observed::default());
        let observed = Observed::of(kind, &json!({ "status": written }));
        let again = status_of(kind, &report, &[5], &observed);
        assert_eq!(
            Observed::of(kind, &json!({ "status": again })),
            observed,
            "{kind}"
        );
    }
}

/// `kubectl get` shows the reason of the first condition whose reason is not its type.
#[test]
fn the_reason_of_a_condition_is_its_type_when_there_is_nothing_to_report() {
    let column = |status: &Value| {
        let conditions = status["conditions"].as_array().unwrap();
        let matters = conditions
            .iter()
            .find(|condition| condition["reason"] != condition["type"]);
        matters.map(|condition| condition["reason"].as_str().unwrap().to_owned())
    };
    let warned = with(problem(
        Severity::Warning,
        ConditionType::Accepted,
        "is odd",
    ));
    for kind in kinds_with_status() {
        let status = |report: &Report, acked: &[u64]| {
            column(&status_of(kind, report, acked, &Observed::default()))
        };
        assert_eq!(status(&served(), &[5]), None, "{kind}");
        assert_eq!(status(&served(), &[4]).as_deref(), Some("Pending"));
        assert_eq!(status(&warned, &[4]).as_deref(), Some("Invalid"));
        assert_eq!(
            status(&Report::default(), &[5]).as_deref(),
            Some("NotServed")
        );
    }
    for reason in Reason::ALL {
        assert!(
            !condition_types(Kind::Mapping).contains(&reason.as_str()),
            "{reason}"
        );
    }
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let report = with(problem(
        Severity::Warning,
        ConditionType::Accepted,
        &"ü".repeat(4000),
    ));
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
    assert!(message.ends_with('…'), "{message}");
}

#[test]
fn many_problems_are_counted_after_the_first_few() {
    let mut report = served();
    for number in 0..9 {
        let text = format!("problem {number}");
        report
            .problems
            .push(problem(Severity::Warning, ConditionType::Accepted, &text));
    }
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.ends_with("spec.field: problem 3; and 5 more"),
        "{message}"
    );
}

#[test]
fn an_address_that_envoy_cannot_bind_has_no_previous_version() {
    let acknowledged = Acknowledged::new([5]);
    let shares = [Share {
        fleet: None,
        report: &served(),
        seq: 5,
        rejected: Some("tcp-8080: cannot bind '0.0.0.0:8080': Address already in use\n"),
        acknowledged: &acknowledged,
    }];
    let facts = Facts {
        shares: &shares,
        observed: &Observed::default(),
        gateway: &Gateway::None,
    };
    let status = status(Kind::Mapping, facts, Timestamp::from_second(NOW).unwrap());
    let expected = "Envoy does not listen on the port: tcp-8080: cannot bind '0.0.0.0:8080': Address already in use";
    assert_eq!(condition(&status, 2), format!("False/Rejected/{expected}"));
    assert_eq!(status["reason"], expected);
}

#[test]
fn messages_have_no_control_characters() {
    let report = with(problem(
        Severity::Error,
        ConditionType::Accepted,
        "invalid prefix \"/\u{1b}[2J\n\"",
    ));
    let status = status_of(Kind::Mapping, &report, &[5], &Observed::default());
    let text = status.to_string();
    assert!(text.contains(r#"/\\u{1b}[2J\\n"#), "{text}");
    assert!(condition(&status, 0).chars().all(|it| !it.is_control()));
}

/// Status of an object of several fleets: reports, and what their Envoys have acknowledged of snapshot 5.
fn status_of_fleets(kind: Kind, fleets: &[(&str, &Report, &[u64])]) -> Value {
    let acknowledged = |acked: &[u64]| Acknowledged::new(acked.iter().copied());
    let acknowledged: Vec<_> = fleets
        .iter()
        .map(|(_, _, acked)| acknowledged(acked))
        .collect();
    let shares: Vec<Share<'_>> = fleets
        .iter()
        .zip(&acknowledged)
        .map(|((id, report, _), acknowledged)| Share {
            fleet: Some(id),
            report,
            seq: 5,
            rejected: None,
            acknowledged,
        })
        .collect();
    let facts = Facts {
        shares: &shares,
        observed: &Observed::default(),
        gateway: &Gateway::None,
    };
    status(kind, facts, Timestamp::from_second(NOW).unwrap())
}

#[test]
fn an_object_of_one_of_several_fleets_has_the_status_of_that_fleet() {
    for kind in kinds_with_status() {
        let expected = status_of(kind, &served(), &[5], &Observed::default());
        let found = status_of_fleets(kind, &[("a", &served(), &[5])]);
        assert_eq!(found, expected, "{kind}");
    }
}

#[test]
fn an_object_of_two_fleets_has_one_status_that_names_both() {
    let attached = Report {
        summary: "attached to Host default/any".to_owned(),
        ..served()
    };
    let status = status_of_fleets(
        Kind::Mapping,
        &[("a", &attached, &[5, 6]), ("b", &served(), &[5])],
    );
    assert_eq!(
        condition(&status, 0),
        "True/Accepted/valid and without conflicts"
    );
    assert_eq!(
        condition(&status, 2),
        "True/Programmed/[a] 2/2 Envoys; attached to Host default/any; [b] 1/1 Envoys"
    );
    assert_eq!(status["state"], "Running");
    assert_eq!(status.get("reason"), None);
    let status = status_of_fleets(
        Kind::Mapping,
        &[("a", &served(), &[5]), ("b", &served(), &[5])],
    );
    assert_eq!(condition(&status, 2), "True/Programmed/[a, b] 1/1 Envoys");
}

#[test]
fn a_condition_of_two_fleets_is_true_if_it_is_for_both() {
    let conflict = with(problem(
        Severity::Warning,
        ConditionType::Accepted,
        "shared",
    ));
    let fleets: [(&str, &Report, &[u64]); 3] = [
        ("a", &served(), &[5]),
        ("b", &conflict, &[4, 5]),
        ("c", &served(), &[]),
    ];
    let status = status_of_fleets(Kind::Host, &fleets);
    assert_eq!(
        condition(&status, 0),
        "True/Invalid/[b] spec.field: shared; [a, c] valid and without conflicts"
    );
    assert_eq!(
        condition(&status, 2),
        "False/Pending/[b] 1/2 Envoys; [c] no Envoy is connected; [a] 1/1 Envoys"
    );
    assert_eq!(status["state"], "Pending");
    let broken = with(problem(Severity::Error, ConditionType::Accepted, "broken"));
    let status = status_of_fleets(Kind::Host, &[("a", &served(), &[5]), ("b", &broken, &[5])]);
    assert_eq!(status["state"], "Error");
    assert_eq!(status["errorReason"], "[b] spec.field: broken");
    let status = status_of_fleets(Kind::Mapping, &[("a", &broken, &[5]), ("b", &broken, &[5])]);
    assert_eq!(status["reason"], "spec.field: broken");
}

#[test]
fn a_status_is_of_the_generation_that_all_fleets_have_seen() {
    let newer = Report {
        generation: 5,
        ..served()
    };
    let status = status_of_fleets(
        Kind::Mapping,
        &[("a", &newer, &[5]), ("b", &served(), &[5])],
    );
    assert_eq!(status["conditions"][2]["observedGeneration"], 4);
}

#[test]
fn hundreds_of_fleets_have_a_message_of_bounded_length_in_which_none_hides_the_others() {
    let ids: Vec<String> = (0..300)
        .map(|n| format!("{n:03}{}", "x".repeat(100)))
        .collect();
    let reports: Vec<Report> = (0..300)
        .map(|n| Report {
            summary: format!("{n}{}", "y".repeat(5000)),
            ..served()
        })
        .collect();
    let fleets: Vec<(&str, &Report, &[u64])> = ids
        .iter()
        .zip(&reports)
        .map(|(id, report)| (id.as_str(), report, [5].as_slice()))
        .collect();
    let status = status_of_fleets(Kind::Mapping, &fleets);
    let message = status["conditions"][2]["message"].as_str().unwrap();
    assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
    for part in ["[000", "; [001", "; [002", "; [003", "; and 296 more"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let same: Vec<(&str, &Report, &[u64])> = fleets
        .iter()
        .map(|(id, _, acked)| (*id, &reports[0], *acked))
        .collect();
    let status = status_of_fleets(Kind::Mapping, &same);
    let message = status["conditions"][2]["message"].as_str().unwrap();
    assert!(message.contains(", 296 more] 1/1 Envoys"), "{message}");
}
