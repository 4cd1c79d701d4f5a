//! The objects of a kind as they were reconciled last. Most events of a kind with a status only show a status, which this
//! process has written itself: they are not reconciled again.

use std::collections::HashMap;

use super::{known::key_of, object::Object};

/// Digests of objects, by the hashes of their names.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    digests: HashMap<u64, u64>,
}

impl Seen {
    /// Records an object; false if it was recorded as it is now.
    pub(crate) fn record(&mut self, object: &Object) -> bool {
        let digest = object.digest();
        self.digests.insert(key_of(&object.metadata), digest) != Some(digest)
    }

    /// Forgets a deleted object.
    pub(crate) fn forget(&mut self, object: &Object) {
        self.digests.remove(&key_of(&object.metadata));
    }
}
