//! A LogService: a service that gets access logs.

use std::{collections::BTreeSet, time::Duration};

use nuncio_crds::v3alpha1::{AdditionalLogHeader, LogDriver, LogServiceSpec};
use nuncio_ir::LoggedHeaders;
use serde_json::Value;

use super::{
    Found, Fragment, LogService, duration, edge, ignored, not_served, parse, replaced,
    upstream::UpstreamFields, without_effect,
};
use crate::{object::ObjectRef, report::Problem, settings::Settings};

const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const BUFFER_BYTES: u32 = 16_384;

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let (spec, mut problems): (LogServiceSpec, _) = match parse::spec(value, object.kind, true) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match service(&spec, object, settings, &mut problems) {
        Ok(service) => (Some(Fragment::LogService(service.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn service(
    spec: &LogServiceSpec,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<LogService, Problem> {
    edge::check_version(spec.protocol_version, object.kind)?;
    let Some(service) = spec.service.as_deref() else {
        return Err(not_served(
            object.kind,
            "spec.service",
            "service is missing",
        ));
    };
    let fields = UpstreamFields {
        service,
        grpc: Some(true),
        stats_name: spec.stats_name.as_deref(),
        ..UpstreamFields::default()
    };
    if spec.grpc == Some(false) {
        let message = "no effect: connections to the service always use HTTP/2";
        problems.push(without_effect("spec.grpc", message));
    }
    Ok(LogService {
        upstream: edge::upstream(fields, object, settings, problems)?,
        flush_interval: flush_interval(spec.flush_interval_time, problems),
        buffer_bytes: buffer_bytes(spec.flush_interval_byte_size, problems),
        headers: headers(spec, problems),
    })
}

fn flush_interval(seconds: Option<i64>, problems: &mut Vec<Problem>) -> Duration {
    let path = "spec.flush_interval_time";
    match seconds.map(u64::try_from) {
        None => FLUSH_INTERVAL,
        Some(Err(_) | Ok(0)) => {
            problems.push(replaced(path, "must be at least 1", "the default of 1"));
            FLUSH_INTERVAL
        }
        Some(Ok(seconds)) => duration::milliseconds(path, seconds.saturating_mul(1000), problems),
    }
}

fn buffer_bytes(bytes: Option<i64>, problems: &mut Vec<Problem>) -> u32 {
    bytes.map_or(BUFFER_BYTES, |bytes| {
        u32::try_from(bytes).unwrap_or_else(|_| {
            problems.push(replaced(
                "spec.flush_interval_byte_size",
                "must be from 0 to 4294967295",
                format!("the default of {BUFFER_BYTES}"),
            ));
            BUFFER_BYTES
        })
    })
}

/// Additional headers; `None` for a log of connections, which is the default.
fn headers(spec: &LogServiceSpec, problems: &mut Vec<Problem>) -> Option<LoggedHeaders> {
    let config = spec.driver_config.as_ref();
    let found = config.map_or(&[][..], |config| &config.additional_log_headers);
    if spec.driver == Some(LogDriver::Http) {
        return Some(logged_headers(found, problems));
    }
    if !found.is_empty() {
        let path = "spec.driver_config.additional_log_headers";
        problems.push(ignored(path, "only driver http logs headers"));
    }
    None
}

fn logged_headers(headers: &[AdditionalLogHeader], problems: &mut Vec<Problem>) -> LoggedHeaders {
    let mut logged = LoggedHeaders::default();
    let mut known = BTreeSet::new();
    for (index, header) in headers.iter().enumerate() {
        let path = format!("spec.driver_config.additional_log_headers[{index}].header_name");
        let text = header.header_name.as_deref().unwrap_or_default();
        let Some(name) = edge::header_name(text) else {
            problems.push(ignored(path, "must be the name of a header"));
            continue;
        };
        if !known.insert(name.clone()) {
            problems.push(ignored(path, format!("duplicate header {name}")));
            continue;
        }
        let lists = [
            (header.during_request, &mut logged.request),
            (header.during_response, &mut logged.response),
            (header.during_trailer, &mut logged.trailer),
        ];
        for (flag, list) in lists {
            if flag.unwrap_or(true) {
                list.push(name.clone());
            }
        }
    }
    logged
}
