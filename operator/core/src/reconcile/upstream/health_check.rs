//! Active health checks.

use std::time::Duration;

use nuncio_crds::field;
use nuncio_ir::{HealthCheck, HealthChecker};

use super::asked::left_out;
use crate::{
    reconcile::{duration, mapping::header},
    report::Problem,
};

const TIMEOUT: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(5);

/// The check, if any; what Envoy would refuse is left out.
///
/// There is one: Envoy takes no more before 1.40, and from then on wants each to have a name, by a field that
/// `envoy-types` does not have yet.
pub(super) fn health_checks(
    checks: &[field::HealthCheck],
    is_grpc: bool,
    problems: &mut Vec<Problem>,
) -> Vec<HealthCheck> {
    let mut found = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let path = format!("spec.health_checks[{index}]");
        let Some(checker) = checker(&path, &check.health_check, is_grpc, problems) else {
            continue;
        };
        if !found.is_empty() {
            problems.push(left_out(
                &path,
                "Envoy takes one check, and there is one before it",
            ));
            continue;
        }
        let time = |field: &str, text: &Option<String>, default, problems: &mut Vec<Problem>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            let parsed = text.map(|text| (text, duration::parse(text)));
            match parsed {
                None => default,
                Some((_, Ok(time))) if time >= Duration::from_millis(1) => time,
                Some((text, result)) => {
                    let flaw = result
                        .err()
                        .unwrap_or_else(|| "is no time above zero".to_owned());
                    problems.push(left_out(
                        &format!("{path}.{field}"),
                        &format!("{text:?} {flaw}"),
                    ));
                    default
                }
            }
        };
        let threshold = |field: &str, number: Option<i64>, default, problems: &mut Vec<Problem>| {
            let Some(number) = number else { return default };
            u32::try_from(number).unwrap_or_else(|_source| {
                problems.push(left_out(
                    &format!("{path}.{field}"),
                    "a number from 0 was expected",
                ));
                default
            })
        };
        found.push(HealthCheck {
            timeout: time("timeout", &check.timeout, TIMEOUT, problems),
            interval: time("interval", &check.interval, INTERVAL, problems),
            unhealthy_threshold: threshold(
                "unhealthy_threshold",
                check.unhealthy_threshold,
                2,
                problems,
            ),
            healthy_threshold: threshold("healthy_threshold", check.healthy_threshold, 1, problems),
            checker,
        });
    }
    found
}

fn checker(
    path: &str,
    checker: &field::HealthChecker,
    is_grpc: bool,
    problems: &mut Vec<Problem>,
) -> Option<HealthChecker> {
    let is_text = |text: &str| !text.chars().any(char::is_control);
    if let Some(http) = &checker.http {
        let path = format!("{path}.health_check.http");
        let host = http.hostname.clone().unwrap_or_default();
        if http.path.is_empty() || !is_text(&http.path) || !is_text(&host) {
            problems.push(left_out(
                &path,
                "a check has a path, and no control characters",
            ));
            return None;
        }
        return Some(HealthChecker::Http {
            path: http.path.clone(),
            host,
            add_headers: header::added(
                &format!("{path}.add_request_headers"),
                &http.add_request_headers,
                problems,
            ),
            remove_headers: header::removed(
                &format!("{path}.remove_request_headers"),
                &http.remove_request_headers,
                problems,
            ),
            expected: expected(&path, &http.expected_statuses, problems),
        });
    }
    let path = format!("{path}.health_check");
    let Some(grpc) = &checker.grpc else {
        problems.push(left_out(&path, "a check is either http or grpc"));
        return None;
    };
    if !is_grpc {
        problems.push(left_out(
            &format!("{path}.grpc"),
            "a check by gRPC needs grpc: true",
        ));
        return None;
    }
    let authority = grpc.authority.clone().unwrap_or_default();
    if !is_text(&authority) {
        problems.push(left_out(
            &format!("{path}.grpc.authority"),
            "there is a control character in it",
        ));
        return None;
    }
    Some(HealthChecker::Grpc {
        service: grpc.upstream_name.clone(),
        authority,
    })
}

/// Ranges of codes; Envoy's end before their second number.
fn expected(
    path: &str,
    ranges: &[field::StatusRange],
    problems: &mut Vec<Problem>,
) -> Vec<(u16, u16)> {
    let mut found = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        let code = |code: i64| {
            u16::try_from(code)
                .ok()
                .filter(|code| (100..600).contains(code))
        };
        match (code(range.min), code(range.max)) {
            (Some(min), Some(max)) if min <= max => found.push((min, max + 1)),
            _ => problems.push(left_out(
                &format!("{path}.expected_statuses[{index}]"),
                "two codes from 100 to 599 were expected, min being no more than max",
            )),
        }
    }
    found
}
