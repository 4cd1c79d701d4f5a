//! Active health checks.

use std::time::Duration;

use nuncio_crds::field;
use nuncio_ir::{EnvoyVersion, HealthCheck, HealthChecker};

use crate::{
    reconcile::{duration, ignored, mapping::header, replaced},
    report::{Problem, Reason},
};

const TIMEOUT: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(5);

/// The health check, if any; those that Envoy would reject are ignored.
///
/// There is at most one: Envoy supports no more before 1.40, and later versions need a name for each, in a field that
/// `envoy-types` does not have yet.
pub(super) fn health_checks(
    checks: &[field::HealthCheck],
    is_grpc: bool,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Vec<HealthCheck> {
    let mut found = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let path = format!("spec.health_checks[{index}]");
        let Some(checker) = checker(&path, &check.health_check, is_grpc, envoy, problems) else {
            continue;
        };
        if !found.is_empty() {
            problems.push(replaced(
                path,
                "only one health check is supported",
                "the first",
            ));
            continue;
        }
        let mut time = |field: &str, text: &Option<String>, default: Duration| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map_or(Ok(default), duration::parse_positive)
                .unwrap_or_else(|fact| {
                    let instead = format!("the default of {default:?}");
                    problems.push(replaced(format!("{path}.{field}"), fact, instead));
                    default
                })
        };
        let timeout = time("timeout", &check.timeout, TIMEOUT);
        let interval = time("interval", &check.interval, INTERVAL);
        let mut threshold = |field: &str, number: Option<i64>, default: u32| {
            let number = number.map_or(Ok(default), u32::try_from);
            number.unwrap_or_else(|_source| {
                let instead = format!("the default of {default}");
                let fact = "must be from 0 to 4294967295";
                problems.push(replaced(format!("{path}.{field}"), fact, instead));
                default
            })
        };
        found.push(HealthCheck {
            timeout,
            interval,
            unhealthy_threshold: threshold("unhealthy_threshold", check.unhealthy_threshold, 2),
            healthy_threshold: threshold("healthy_threshold", check.healthy_threshold, 1),
            checker,
        });
    }
    found
}

fn checker(
    path: &str,
    checker: &field::HealthChecker,
    is_grpc: bool,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Option<HealthChecker> {
    let is_text = |text: &str| !text.chars().any(char::is_control);
    if let Some(http) = &checker.http {
        let path = format!("{path}.health_check.http");
        let host = http.hostname.clone().unwrap_or_default();
        if http.path.is_empty() || !is_text(&http.path) || !is_text(&host) {
            problems.push(ignored(
                path,
                "path must not be empty, path and hostname must not contain control characters",
            ));
            return None;
        }
        return Some(HealthChecker::Http {
            path: http.path.clone(),
            host,
            add_headers: header::added(
                &format!("{path}.add_request_headers"),
                &http.add_request_headers,
                envoy,
                problems,
            )
            .into_iter()
            .filter_map(|(name, header)| Some((name, header?)))
            .collect(),
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
        problems.push(ignored(path, "set http or grpc"));
        return None;
    };
    if !is_grpc {
        problems.push(ignored(format!("{path}.grpc"), "needs spec.grpc: true"));
        return None;
    }
    let authority = grpc.authority.clone().unwrap_or_default();
    if !is_text(&authority) {
        problems.push(Problem::ignored(
            Reason::PARTIALLY_INVALID,
            format!("{path}.grpc.authority"),
            "must not contain control characters; this health check is ignored",
        ));
        return None;
    }
    Some(HealthChecker::Grpc {
        service: grpc.upstream_name.clone(),
        authority,
    })
}

/// Ranges of status codes. The end of a range is exclusive in Envoy.
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
            _ => problems.push(ignored(
                format!("{path}.expected_statuses[{index}]"),
                "min and max must be status codes from 100 to 599, and min must not be above max",
            )),
        }
    }
    found
}
