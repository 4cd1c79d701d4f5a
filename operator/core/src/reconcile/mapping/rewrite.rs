//! Rewrites of the path.

use nuncio_crds::{field::RegexMap, v3alpha1::MappingSpec};
use nuncio_ir::Rewrite;

use super::{check_regex, check_text, not_served};
use crate::{reconcile::regex, report::Problem};

/// The Mapping's own rewrite: `regex_rewrite`, else `rewrite`.
pub(super) fn own(spec: &MappingSpec) -> Result<Option<Rewrite>, Problem> {
    if let Some(map) = &spec.regex_rewrite {
        return regex_map("spec.regex_rewrite", map).map(Some);
    }
    match spec.rewrite.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(Rewrite::Keep)),
        Some(text) => {
            check_text("spec.rewrite", text)?;
            Ok(Some(Rewrite::Prefix(text.to_owned())))
        }
    }
}

/// A pattern and its replacement, both checked.
pub(super) fn regex_map(path: &str, map: &RegexMap) -> Result<Rewrite, Problem> {
    let pattern = map.pattern.clone().unwrap_or_default();
    let substitution = map.substitution.clone().unwrap_or_default();
    let (of_pattern, of_substitution) = (format!("{path}.pattern"), format!("{path}.substitution"));
    if pattern.is_empty() {
        return Err(not_served(&of_pattern, "must not be empty"));
    }
    check_regex(&of_pattern, &pattern)?;
    check_text(&of_substitution, &substitution)?;
    regex::check_substitution(&pattern, &substitution)
        .map_err(|fact| not_served(&of_substitution, fact))?;
    Ok(Rewrite::Regex {
        pattern,
        substitution,
    })
}
