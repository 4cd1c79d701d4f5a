//! Redirects: with `host_redirect`, clients are redirected to `service`.

use nuncio_crds::v3alpha1::MappingSpec;
use nuncio_ir::{Redirect, Rewrite};

use super::{check_text, not_served, rewrite};
use crate::{
    reconcile::{Shared, header_changes, overridden, upstream, without_effect},
    report::{Problem, Reason},
};

/// Where a Mapping with `host_redirect` redirects clients.
pub(super) fn redirect(
    spec: &MappingSpec,
    shared: &Shared,
    problems: &mut Vec<Problem>,
) -> Result<Redirect, Problem> {
    let service =
        upstream::parse(&spec.service, false).map_err(|fact| not_served("spec.service", fact))?;
    Ok(Redirect {
        scheme: service.scheme.map(str::to_owned),
        host: service.authority(),
        path: path(spec, problems)?,
        code: spec.redirect_response_code.map(Into::into),
        response_headers: header_changes(
            shared.add_response_headers.clone().unwrap_or_default(),
            shared.remove_response_headers.clone().unwrap_or_default(),
        ),
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
    problems.extend(found.map(|(field, _)| overridden(field, used)));
    Ok(path)
}

/// Reports the fields that configure a backend, which a redirect does not have.
pub(super) fn report_backend_fields(spec: &MappingSpec, problems: &mut Vec<Problem>) {
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
        ("auth_service", spec.auth_service.is_some()),
        ("labels", !spec.labels.is_empty()),
    ];
    problems.extend(fields.iter().filter(|(_, set)| *set).map(|(field, _)| {
        let message = format!("{field} has no effect because host_redirect is set");
        without_effect(format!("spec.{field}"), message)
    }));
}

/// Reports the fields of a redirect on a Mapping that does not redirect.
pub(super) fn report_redirect_fields(spec: &MappingSpec, problems: &mut Vec<Problem>) {
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
            format!("spec.{field}"),
            format!("{field} is ignored because host_redirect is not set"),
        )
    }));
}
