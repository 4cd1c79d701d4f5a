//! Bodies that replace those of error responses.

use std::collections::BTreeMap;

use nuncio_crds::field::{ErrorResponseBody, ErrorResponseOverride};
use nuncio_ir::{BodyFormat, EnvoyVersion, ErrorBody};

use super::header;
use crate::{
    reconcile::{format, ignored},
    report::Problem,
};

/// Bodies by status code; the first for a code is used. `None` if there are no overrides.
pub(in crate::reconcile) fn error_bodies(
    overrides: &[ErrorResponseOverride],
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<u16, ErrorBody>> {
    if overrides.is_empty() {
        return None;
    }
    let mut bodies = BTreeMap::new();
    for (index, found) in overrides.iter().enumerate() {
        let path = format!("spec.error_response_overrides[{index}]");
        let code = u16::try_from(found.on_status_code).ok();
        let Some(code) = code.filter(|code| (400..600).contains(code)) else {
            problems.push(ignored(
                format!("{path}.on_status_code"),
                "must be a status code from 400 to 599",
            ));
            continue;
        };
        if bodies.contains_key(&code) {
            problems.push(ignored(
                path,
                format!("duplicate override for status {code}"),
            ));
            continue;
        }
        match body(&found.body, envoy) {
            Ok(body) => {
                bodies.insert(code, body);
            }
            Err((field, fact)) => problems.push(ignored(format!("{path}.body{field}"), fact)),
        }
    }
    Some(bodies)
}

fn body(
    body: &ErrorResponseBody,
    envoy: EnvoyVersion,
) -> Result<ErrorBody, (&'static str, String)> {
    let check = |field, text: &str| format::check(text, envoy).map_err(|fact| (field, fact));
    let format = if let Some(found) = &body.text_format {
        check(".text_format", found)?;
        BodyFormat::Text(found.clone())
    } else if !body.json_format.is_empty() {
        for found in body.json_format.values() {
            check(".json_format", found)?;
        }
        BodyFormat::Json(body.json_format.clone())
    } else if body.text_format_source.is_some() {
        // Envoy rejects a whole route table when a file is missing
        let fact = "files are not supported; use text_format";
        return Err((".text_format_source", fact.to_owned()));
    } else {
        return Err(("", "set text_format or json_format".to_owned()));
    };
    let content_type = body.content_type.clone().filter(|text| !text.is_empty());
    // it becomes the value of an added header
    if let Some(value) = &content_type {
        header::check_value(value, envoy).map_err(|fact| (".content_type", fact))?;
    }
    Ok(ErrorBody {
        format,
        content_type,
    })
}
