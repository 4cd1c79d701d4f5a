//! Which resources of a type a client subscribes to.

use xxhash_rust::xxh3::Xxh3;

use super::names::Names;
use crate::snapshot::TypeView;

/// Which resources of a type a client subscribes to.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Whether it subscribes to all.
    pub(super) wildcard: bool,
    /// Whether any request had names. From then on a SotW request without names means nothing instead of everything.
    pub(super) has_named: bool,
    /// Names it subscribes to.
    pub(super) names: Names,
    /// SotW: see [`digest`].
    pub(super) digest: u128,
}

/// A hash of the names in a SotW request.
pub(super) fn digest(names: &[String]) -> u128 {
    let mut hash = Xxh3::new();
    for name in names {
        hash.update(name.as_bytes());
        hash.update(&[0]);
    }
    hash.digest128()
}

impl Interest {
    /// Whether it subscribes to this name. `view` is what is served.
    pub(super) fn contains(&self, name: &str, view: &TypeView) -> bool {
        self.wildcard || self.names.contains(name, view)
    }
}
