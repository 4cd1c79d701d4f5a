//! A RateLimitService: a service that limits the rate of requests.

use std::time::Duration;

use nuncio_crds::v3alpha1::RateLimitServiceSpec;
use serde_json::Value;

use super::{
    Found, Fragment, RateLimitService, duration, edge, parse, replaced, upstream::UpstreamFields,
};
use crate::{object::ObjectRef, report::Problem, settings::Settings};

/// Timeout of a call, as in Emissary.
const TIMEOUT: Duration = Duration::from_millis(20);

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let (spec, mut problems): (RateLimitServiceSpec, _) =
        match parse::spec(value, object.kind, true) {
            Ok(parsed) => parsed,
            Err(problem) => return (None, vec![problem]),
        };
    match service(&spec, object, settings, &mut problems) {
        Ok(service) => (Some(Fragment::RateLimitService(service.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn service(
    spec: &RateLimitServiceSpec,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<RateLimitService, Problem> {
    edge::check_version(spec.protocol_version, object.kind)?;
    let fields = UpstreamFields {
        service: &spec.service,
        tls: spec.tls.as_deref(),
        grpc: Some(true),
        stats_name: spec.stats_name.as_deref(),
        ..UpstreamFields::default()
    };
    let grpc = spec.grpc.as_ref();
    Ok(RateLimitService {
        upstream: edge::upstream(fields, object, settings, problems)?,
        domain: domain(spec.domain.as_deref(), problems),
        timeout: timeout(spec.timeout_ms, problems),
        deny_on_failure: spec.failure_mode_deny == Some(true),
        resource_exhausted: grpc.and_then(|grpc| grpc.use_resource_exhausted_code) == Some(true),
    })
}

fn domain(domain: Option<&str>, problems: &mut Vec<Problem>) -> Option<String> {
    let domain = domain?;
    if domain.is_empty() {
        let fact = "must not be empty";
        problems.push(replaced("spec.domain", fact, "the domain of the Module"));
    }
    Some(domain.to_owned()).filter(|domain| !domain.is_empty())
}

fn timeout(milliseconds: Option<i64>, problems: &mut Vec<Problem>) -> Duration {
    let path = "spec.timeout_ms";
    match milliseconds.map(u64::try_from) {
        None => TIMEOUT,
        Some(Ok(milliseconds)) => duration::milliseconds(path, milliseconds, problems),
        Some(Err(_)) => {
            let fact = "must not be negative";
            problems.push(replaced(path, fact, "the default of 20"));
            TIMEOUT
        }
    }
}
