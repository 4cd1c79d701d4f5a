//! Tags of spans, each with exactly one source.

use std::collections::BTreeSet;

use nuncio_crds::v3alpha1::{CustomTag, NamedTag, TracingServiceSpec};
use nuncio_ir::SpanTag;

use crate::{
    reconcile::{edge, ignored, overridden},
    report::Problem,
};

/// The tags. `tag_headers` is a short form, which counts if there are no `custom_tags`.
pub(super) fn tags(
    spec: &TracingServiceSpec,
    problems: &mut Vec<Problem>,
) -> Vec<(String, SpanTag)> {
    let mut known = BTreeSet::new();
    let mut tags = Vec::new();
    let mut add = |path: String, tag: Result<(String, SpanTag), &str>| match tag {
        Ok((name, _)) if !known.insert(name.clone()) => {
            problems.push(ignored(path, format!("duplicate tag {name:?}")));
        }
        Ok(tag) => tags.push(tag),
        Err(fact) => problems.push(ignored(path, fact)),
    };
    if spec.custom_tags.is_empty() {
        for (index, header) in spec.tag_headers.iter().enumerate() {
            add(format!("spec.tag_headers[{index}]"), of_header(header));
        }
        return tags;
    }
    for (index, tag) in spec.custom_tags.iter().enumerate() {
        add(format!("spec.custom_tags[{index}]"), custom(tag));
    }
    if !spec.tag_headers.is_empty() {
        problems.push(overridden("tag_headers", "custom_tags"));
    }
    tags
}

fn of_header(header: &str) -> Result<(String, SpanTag), &'static str> {
    let name = edge::header_name(header).ok_or("must be the name of a header")?;
    let default = String::new();
    Ok((header.to_owned(), SpanTag::Header { name, default }))
}

fn custom(tag: &CustomTag) -> Result<(String, SpanTag), &'static str> {
    if tag.tag.is_empty() {
        return Err("tag must not be empty");
    }
    let default = |named: &NamedTag| named.default_value.clone().unwrap_or_default();
    let source = match (&tag.literal, &tag.environment, &tag.request_header) {
        (Some(literal), None, None) if literal.value.is_empty() => {
            return Err("literal.value must not be empty");
        }
        (Some(literal), None, None) => SpanTag::Literal(literal.value.clone()),
        (None, Some(variable), None) if !is_variable(&variable.name) => {
            return Err("environment.name must be the name of an environment variable");
        }
        (None, Some(variable), None) => SpanTag::Environment {
            name: variable.name.clone(),
            default: default(variable),
        },
        (None, None, Some(header)) => SpanTag::Header {
            name: edge::header_name(&header.name)
                .ok_or("request_header.name must be the name of a header")?,
            default: default(header),
        },
        _ => return Err("must have exactly one of literal, environment and request_header"),
    };
    Ok((tag.tag.clone(), source))
}

/// Whether a text can be the name of an environment variable.
fn is_variable(text: &str) -> bool {
    !text.is_empty() && !text.contains(['=', '\0'])
}
