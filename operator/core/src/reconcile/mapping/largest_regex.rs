//! The largest regular expression of a Mapping, all of which have been checked: a Module limits their size.

use nuncio_crds::{field::RegexMap, v3alpha1::MappingSpec};

use crate::reconcile::{LargestRegex, Role, regex};

/// The largest one that is used.
pub(super) fn find(spec: &MappingSpec, role: &Role) -> Option<LargestRegex> {
    let regexes = single(spec, role).chain(of_maps(spec));
    let measured = regexes.filter_map(|(path, pattern)| {
        let size = regex::program_size(pattern).ok()?;
        Some((path, pattern, size))
    });
    let (path, pattern, size) = measured.max_by_key(|(_, _, size)| *size)?;
    let pattern = pattern.to_owned();
    Some(LargestRegex {
        path,
        pattern,
        size,
    })
}

/// Those of fields that have one.
fn single<'a>(
    spec: &'a MappingSpec,
    role: &Role,
) -> impl Iterator<Item = (String, &'a str)> + use<'a> {
    let pattern = |is_used: bool, map: &'a Option<RegexMap>| {
        let map = map.as_ref().filter(|_| is_used)?;
        map.pattern.as_deref()
    };
    let text = |is_used: bool, text: &'a Option<String>| text.as_deref().filter(|_| is_used);
    let has_hostname = spec.hostname.as_ref().is_some_and(|name| !name.is_empty());
    let is_host = spec.host_regex == Some(true) && !has_hostname;
    let is_prefix = spec.prefix_regex == Some(true);
    let (rewrite, redirect) = (&spec.regex_rewrite, &spec.regex_redirect);
    let is_redirect = matches!(role, Role::Redirect(_));
    let fields = [
        ("spec.host", text(is_host, &spec.host)),
        (
            "spec.prefix",
            is_prefix.then_some(&spec.prefix).map(String::as_str),
        ),
        (
            "spec.method",
            text(spec.method_regex == Some(true), &spec.method),
        ),
        ("spec.regex_rewrite.pattern", pattern(!is_redirect, rewrite)),
        (
            "spec.regex_redirect.pattern",
            pattern(is_redirect, redirect),
        ),
    ];
    let fields = fields.into_iter();
    fields.filter_map(|(path, pattern)| Some((path.to_owned(), pattern?)))
}

/// Those of fields that have several.
fn of_maps(spec: &MappingSpec) -> impl Iterator<Item = (String, &str)> {
    let maps = [
        ("spec.regex_headers", &spec.regex_headers),
        ("spec.regex_query_parameters", &spec.regex_query_parameters),
    ];
    maps.into_iter().flat_map(|(path, map)| {
        let items = map.iter();
        items.map(move |(name, pattern)| (format!("{path}[{name}]"), pattern.as_str()))
    })
}
