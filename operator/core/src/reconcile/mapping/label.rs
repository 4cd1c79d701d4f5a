//! Labels: how requests are described to a rate limit service.

use std::collections::BTreeMap;

use nuncio_crds::field::{self, LabelSpecifier};
use nuncio_ir::RateLimitPart;

use crate::{
    reconcile::{LabelGroup, ignored, is_header_name},
    report::Problem,
};

/// Groups whose names start with this do not get default labels.
const WITHOUT_DEFAULTS: &str = "v0_ratelimit_";

/// Groups of labels by domain.
pub(super) fn rate_limits(
    labels: &BTreeMap<String, Vec<field::LabelGroup>>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Vec<LabelGroup>> {
    labels
        .iter()
        .map(|(domain, groups)| {
            let path = format!("spec.labels.{domain}");
            (domain.clone(), of_domain(&path, groups, problems))
        })
        .collect()
}

fn of_domain(
    path: &str,
    groups: &[field::LabelGroup],
    problems: &mut Vec<Problem>,
) -> Vec<LabelGroup> {
    let mut found = Vec::new();
    for (index, field::LabelGroup(group)) in groups.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (Some((name, list)), 1) = (group.first_key_value(), group.len()) else {
            problems.push(ignored(path, "must have exactly one name"));
            continue;
        };
        let mut parts = Vec::new();
        for (at, specifier) in list.iter().enumerate() {
            match part(specifier) {
                Ok(part) => parts.push(part),
                Err(fact) => problems.push(ignored(format!("{path}.{name}[{at}]"), fact)),
            }
        }
        found.push(LabelGroup {
            parts,
            takes_defaults: !name.starts_with(WITHOUT_DEFAULTS),
        });
    }
    found
}

/// The entry of a description that a label is.
///
/// # Errors
/// What is wrong with it.
pub(in crate::reconcile) fn part(
    specifier: &LabelSpecifier,
) -> Result<RateLimitPart, &'static str> {
    let kinds = [
        specifier.source_cluster.is_some(),
        specifier.destination_cluster.is_some(),
        specifier.remote_address.is_some(),
        specifier.request_headers.is_some(),
        specifier.generic_key.is_some(),
    ];
    if kinds.into_iter().filter(|is_set| *is_set).count() > 1 {
        return Err("must have exactly one kind of label");
    }
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
