//! Redirects: `host_redirect` makes `service` the place where clients are sent.

use nuncio_crds::v3alpha1::MappingSpec;
use nuncio_ir::{Redirect, Rewrite};

use super::{check_text, invalid, rewrite};
use crate::{
    reconcile::upstream,
    report::{Problem, Reason},
};

/// Where a Mapping with `host_redirect` sends clients.
pub(super) fn redirect(
    spec: &MappingSpec,
    problems: &mut Vec<Problem>,
) -> Result<Redirect, Problem> {
    let wrong = |flaw: String| invalid("spec.service", &format!("{:?} {flaw}", spec.service));
    let service = upstream::parse(&spec.service, false).map_err(wrong)?;
    Ok(Redirect {
        scheme: service.scheme.map(str::to_owned),
        host: service.authority(),
        path: path(spec, problems)?,
        code: spec.redirect_response_code.map(Into::into),
    })
}

/// The change of the path: the first of `path_redirect`, `prefix_redirect` and `regex_redirect` that is set.
fn path(spec: &MappingSpec, problems: &mut Vec<Problem>) -> Result<Rewrite, Problem> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut found: Vec<(&str, Rewrite)> = Vec::new();
    if let Some(path) = text(&spec.path_redirect) {
        check_text("spec.path_redirect", &path)?;
        found.push(("path_redirect", Rewrite::FullPath(path)));
    }
    if let Some(prefix) = text(&spec.prefix_redirect) {
        check_text("spec.prefix_redirect", &prefix)?;
        found.push(("prefix_redirect", Rewrite::Prefix(prefix)));
    }
    if let Some(map) = &spec.regex_redirect {
        let rewrite = rewrite::regex_map("spec.regex_redirect", map)?;
        found.push(("regex_redirect", rewrite));
    }
    let mut found = found.into_iter();
    let Some((used, path)) = found.next() else {
        return Ok(Rewrite::Keep);
    };
    problems.extend(found.map(|(field, _)| {
        Problem::ignored(
            Reason::IGNORED,
            &format!("spec.{field}"),
            format!("{field} is ignored because {used} is set"),
        )
    }));
    Ok(path)
}

/// Says of each field that is about a backend that a redirect has none.
pub(super) fn without_backend(spec: &MappingSpec, problems: &mut Vec<Problem>) {
    let fields = [
        ("add_request_headers", !spec.add_request_headers.is_empty()),
        (
            "remove_request_headers",
            !spec.remove_request_headers.is_empty(),
        ),
        ("timeout_ms", spec.timeout_ms.is_some()),
        ("idle_timeout_ms", spec.idle_timeout_ms.is_some()),
        ("connect_timeout_ms", spec.connect_timeout_ms.is_some()),
        ("retry_policy", spec.retry_policy.is_some()),
        ("load_balancer", spec.load_balancer.is_some()),
        ("circuit_breakers", !spec.circuit_breakers.is_empty()),
        ("health_checks", !spec.health_checks.is_empty()),
        ("cors", spec.cors.is_some()),
        ("allow_upgrade", !spec.allow_upgrade.is_empty()),
        ("host_rewrite", spec.host_rewrite.is_some()),
    ];
    problems.extend(fields.iter().filter(|(_, set)| *set).map(|(field, _)| {
        Problem::notice(
            Reason::WITHOUT_EFFECT,
            &format!("spec.{field}"),
            format!("{field} has no effect: a redirect goes to no backend"),
        )
    }));
}

/// Says of each field of a redirect that there is none.
pub(super) fn without_effect(spec: &MappingSpec, problems: &mut Vec<Problem>) {
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let fields = [
        ("path_redirect", is_set(&spec.path_redirect)),
        ("prefix_redirect", is_set(&spec.prefix_redirect)),
        ("regex_redirect", spec.regex_redirect.is_some()),
        (
            "redirect_response_code",
            spec.redirect_response_code.is_some(),
        ),
    ];
    problems.extend(fields.iter().filter(|(_, set)| *set).map(|(field, _)| {
        Problem::ignored(
            Reason::IGNORED,
            &format!("spec.{field}"),
            format!("{field} is ignored: without host_redirect there is no redirect"),
        )
    }));
}
