//! The custom resources of `getambassador.io`: what users write. Types with their schemas, and the table of kinds; no I/O.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub mod component;
pub mod conversion;
mod definition;
pub mod field;
pub mod kind;
pub mod v3alpha1;

pub use kind::{KINDS, Kind, KindInfo};

/// API group of the kinds that Nuncio defines.
pub const GROUP: &str = "getambassador.io";

/// Definitions of all kinds, in the order of their names, as clusters get them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all: Vec<_> = KINDS.iter().filter_map(KindInfo::definition).collect();
    all.sort_by(|a, b| a.spec.names.kind.cmp(&b.spec.names.kind));
    all
}
