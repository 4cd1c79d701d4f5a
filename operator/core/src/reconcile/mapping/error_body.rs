//! Bodies that replace those of errors.

use std::collections::BTreeMap;

use nuncio_crds::field::{ErrorResponseBody, ErrorResponseOverride};
use nuncio_ir::{BodyFormat, ErrorBody};

use super::{header, left_out};
use crate::{reconcile::format, report::Problem};

/// Bodies by status code; the first for a code is used. `None` if there are no overrides.
pub(super) fn error_bodies(
    overrides: &[ErrorResponseOverride],
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
            let flaw = "a status code from 400 to 599 was expected";
            problems.push(left_out(&format!("{path}.on_status_code"), flaw));
            continue;
        };
        if bodies.contains_key(&code) {
            problems.push(left_out(
                &path,
                &format!("there is a body for {code} already"),
            ));
            continue;
        }
        match body(&found.body) {
            Ok(body) => {
                bodies.insert(code, body);
            }
            Err((field, flaw)) => {
                problems.push(left_out(&format!("{path}.body{field}"), &flaw));
            }
        }
    }
    Some(bodies)
}

fn body(body: &ErrorResponseBody) -> Result<ErrorBody, (&'static str, String)> {
    let text = |field, text: &str| match format::flaw(text) {
        Some(flaw) => Err((field, format!("the text {flaw}"))),
        None => Ok(()),
    };
    let format = if let Some(found) = &body.text_format {
        text(".text_format", found)?;
        BodyFormat::Text(found.clone())
    } else if !body.json_format.is_empty() {
        for found in body.json_format.values() {
            text(".json_format", found)?;
        }
        BodyFormat::Json(body.json_format.clone())
    } else if body.text_format_source.is_some() {
        let why = "files are not read, since Envoy refuses all routes when one is missing; write the text as text_format";
        return Err((".text_format_source", why.to_owned()));
    } else {
        return Err(("", "it says no text".to_owned()));
    };
    let content_type = body.content_type.clone().filter(|text| !text.is_empty());
    // it becomes the value of a header that is added
    if let Some(why) = content_type.as_deref().and_then(header::value_flaw) {
        return Err((".content_type", why));
    }
    Ok(ErrorBody {
        format,
        content_type,
    })
}
