//! Conversion of objects of `getambassador.io` between API versions, as JSON. Pure.
//!
//! `v3alpha1` is the hub: the other versions are converted to it and from it. `v1` and `v2` have the same fields, many of
//! which have another name or shape in `v3alpha1`; a value of an unexpected type is passed on as it is, so that an object with a
//! mistake is reported by its reconciler, and does not keep the others of a list from being read.
//!
//! Conversion loses nothing: what the other version cannot express is [kept](kept) in an annotation, and comes back with the
//! conversion back, except where the field was edited in between. Only `spec.ambassador_id` comes back with a mark and with its
//! default filled in, as in Emissary-ingress, where the mark keeps old releases from using newer objects.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Map, Value};

use crate::{GROUP, KINDS};

pub use review::{Reviewed, review};

mod added_header;
mod ambassador_id;
mod cors;
mod header;
mod hostname;
pub mod kept;
mod label;
mod name;
mod review;
mod schema;
mod service;
mod spec;
mod tag;

/// An API version of `getambassador.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiVersion {
    /// `v1`, with the fields of `v2`.
    V1,
    /// `v2`
    V2,
    /// `v3alpha1`
    V3Alpha1,
}

impl ApiVersion {
    /// All versions, oldest first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V3Alpha1];

    /// Name, without the group.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3Alpha1 => "v3alpha1",
        }
    }

    /// The version of this `apiVersion`, if it is one of the group.
    #[must_use]
    pub fn parse(api_version: &str) -> Option<Self> {
        let (group, name) = api_version.split_once('/')?;
        let mut all = Self::ALL.into_iter();
        all.find(|version| group == GROUP && name == version.name())
    }

    /// Whether a kind has this version.
    #[must_use]
    pub fn has(self, kind: &str) -> bool {
        let mut all = KINDS.iter();
        let found = all.find(|info| info.group == GROUP && info.name == kind);
        found.is_some_and(|info| info.versions.iter().any(|of| of.name == self.name()))
    }

    const fn is_hub(self) -> bool {
        matches!(self, Self::V3Alpha1)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{GROUP}/{}", self.name())
    }
}

/// Why an object cannot be converted: the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Path of the field, such as `spec` or `apiVersion`; empty for the object itself.
    pub path: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for Error {}

/// The object in another version; unchanged if it has that version.
///
/// # Errors
/// The object is none of the group, its kind does not have one of the versions, or `spec` or `metadata` is no object.
pub fn convert(mut object: Value, to: ApiVersion) -> Result<Value, Error> {
    convert_in_place(&mut object, to).map(|()| object)
}

/// Makes an object one of another version, as [`convert`] does. What cannot be converted stays as it is.
///
/// # Errors
/// As of [`convert`].
pub fn convert_in_place(object: &mut Value, to: ApiVersion) -> Result<(), Error> {
    let error = |path, message: String| Err(Error { path, message });
    let Value::Object(object) = object else {
        return error("", "must be an object".to_owned());
    };
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    let Some(from) = text("apiVersion").and_then(ApiVersion::parse) else {
        let api_version = object.get("apiVersion").unwrap_or(&Value::Null);
        return error(
            "apiVersion",
            format!("must be a version of {GROUP}, not {api_version}"),
        );
    };
    for version in [from, to] {
        if !version.has(kind) {
            return error("kind", format!("{version} has no kind {kind:?}"));
        }
    }
    if from == to {
        return Ok(());
    }
    for field in ["spec", "metadata"] {
        if !matches!(
            object.get(field),
            None | Some(Value::Null | Value::Object(_))
        ) {
            return error(field, "must be an object".to_owned());
        }
    }
    if let Some(Value::Object(before)) = object.get_mut("spec").map(Value::take) {
        let mut metadata = match object.get_mut("metadata").map(Value::take) {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        let kind = object.get("kind").and_then(Value::as_str);
        let after = converted(kind.unwrap_or_default(), before, (from, to), &mut metadata);
        object.insert("spec".to_owned(), Value::Object(after));
        object.insert("metadata".to_owned(), Value::Object(metadata));
    }
    object.insert("apiVersion".to_owned(), Value::String(to.to_string()));
    Ok(())
}

/// Paths of what an object of `v1` or `v2` has and the hub does not, because it has no meaning.
#[must_use]
pub fn lost(object: &Value) -> Vec<String> {
    let kind = object.get("kind").and_then(Value::as_str);
    let spec = object.get("spec").and_then(Value::as_object);
    let lost = kind.zip(spec).map(|(kind, spec)| spec::lost(kind, spec));
    let lost = lost.into_iter().flatten();
    lost.map(|path| format!("spec.{path}")).collect()
}

/// The path of a field of the hub, in `v1` and `v2`.
#[must_use]
pub fn old_path(kind: &str, path: &str) -> String {
    match path.strip_prefix("spec.") {
        Some(path) => format!("spec.{}", spec::old_path(kind, path)),
        None => path.to_owned(),
    }
}

/// The schema of a spec in `v1` and `v2`, from that of `v3alpha1`.
pub(crate) fn old_schema(kind: &str, spec: &mut JSONSchemaProps) {
    spec::schema(kind, spec);
}

/// A description in `v1` and `v2`, which have other names for some fields.
pub(crate) fn old_description(kind: &str, description: &str) -> String {
    spec::renamed_in(kind, description)
}

/// The spec in another version. What it loses is kept in the metadata, and what was kept for this version comes back.
fn converted(
    kind: &str,
    before: Map<String, Value>,
    (from, to): (ApiVersion, ApiVersion),
    metadata: &mut Map<String, Value>,
) -> Map<String, Value> {
    if from.is_hub() == to.is_hub() {
        // the same fields, but the identity is marked as on the way through the hub
        let mut spec = before;
        ambassador_id::to_hub(&mut spec);
        ambassador_id::from_hub(&mut spec);
        return spec;
    }
    let step = |spec: &Map<String, Value>, to_hub: bool| {
        let mut spec = spec.clone();
        if to_hub {
            spec::to_hub(kind, &mut spec);
        } else {
            spec::from_hub(kind, &mut spec);
        }
        spec
    };
    let mut after = step(&before, to.is_hub());
    kept::restore(metadata, to, &mut after);
    if !to.is_hub() {
        spec::restored_to_old(kind, &mut after);
    }
    let back = step(&after, from.is_hub());
    kept::keep(metadata, from, &back, &before);
    after
}

#[cfg(test)]
mod tests;
