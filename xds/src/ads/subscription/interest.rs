//! Which resources of a type a client subscribes to.

use std::{collections::BTreeSet, sync::Arc};

/// Which resources of a type a client subscribes to.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Whether it subscribes to all.
    pub(super) wildcard: bool,
    /// Whether any request had names. From then on a SotW request without names means nothing instead of everything.
    pub(super) has_named: bool,
    /// Names it subscribes to.
    pub(super) names: BTreeSet<Arc<str>>,
}

impl Interest {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}
