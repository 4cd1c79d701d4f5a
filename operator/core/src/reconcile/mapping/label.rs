//! Labels: how requests are described to a rate limit service.

use std::collections::BTreeMap;

use nuncio_crds::field::{LabelGroup, LabelSpecifier};
use nuncio_ir::{RateLimit, RateLimitPart};

use crate::{
    reconcile::{ignored, is_header_name},
    report::Problem,
};

/// Descriptions by domain, one for each group of labels.
pub(super) fn rate_limits(
    labels: &BTreeMap<String, Vec<LabelGroup>>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Vec<RateLimit>> {
    labels
        .iter()
        .map(|(domain, groups)| {
            let path = format!("spec.labels.{domain}");
            (domain.clone(), descriptions(&path, groups, problems))
        })
        .collect()
}

fn descriptions(path: &str, groups: &[LabelGroup], problems: &mut Vec<Problem>) -> Vec<RateLimit> {
    let mut limits = Vec::new();
    for (index, LabelGroup(group)) in groups.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if group.len() > 1 {
            problems.push(ignored(path, "must have exactly one name"));
            continue;
        }
        let specifiers = group.iter().flat_map(|(name, list)| {
            let place = |(at, specifier)| (format!("{path}.{name}[{at}]"), specifier);
            list.iter().enumerate().map(place).collect::<Vec<_>>()
        });
        let mut parts = Vec::new();
        for (path, specifier) in specifiers {
            match part(specifier) {
                Ok(part) => parts.push(part),
                Err(fact) => problems.push(ignored(path, fact)),
            }
        }
        if !parts.is_empty() {
            limits.push(RateLimit { parts });
        }
    }
    limits
}

fn part(specifier: &LabelSpecifier) -> Result<RateLimitPart, &'static str> {
    if specifier.source_cluster.is_some() {
        return Ok(RateLimitPart::SourceCluster);
    }
    if specifier.destination_cluster.is_some() {
        return Ok(RateLimitPart::DestinationCluster);
    }
    if specifier.remote_address.is_some() {
        return Ok(RateLimitPart::RemoteAddress);
    }
    if let Some(generic) = &specifier.generic_key {
        let key = generic.key.clone().filter(|key| !key.is_empty());
        return if generic.value.is_empty() {
            Err("value must not be empty")
        } else {
            Ok(RateLimitPart::Fixed {
                key: key.unwrap_or_else(|| "generic_key".to_owned()),
                value: generic.value.clone(),
            })
        };
    }
    let Some(headers) = &specifier.request_headers else {
        return Err(
            "must be source_cluster, destination_cluster, remote_address, request_headers or generic_key",
        );
    };
    let name = headers
        .header_name
        .strip_prefix(':')
        .unwrap_or(&headers.header_name);
    if headers.key.is_empty() || !is_header_name(name) {
        return Err("request_headers must have a key and a valid header_name");
    }
    Ok(RateLimitPart::Header {
        key: headers.key.clone(),
        header: headers.header_name.to_ascii_lowercase(),
        optional: headers.omit_if_not_present == Some(true),
    })
}
