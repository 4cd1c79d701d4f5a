//! Versions that an Envoy has rejected. Other streams send them alone in a response, so that a known culprit does not
//! block what would be sent with it.

use std::sync::Arc;

use imbl::{OrdSet, Vector};

use crate::{ResourceType, Version};

/// How many are remembered.
const LIMIT: usize = 4096;

/// Versions that an Envoy has rejected, the latest of them. Cheap to clone: clones share what is equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects {
    versions: OrdSet<(ResourceType, Arc<str>, Version)>,
    /// The same, oldest first.
    order: Vector<(ResourceType, Arc<str>, Version)>,
}

impl Suspects {
    /// Adds a version; false if it is known.
    pub(crate) fn insert(&mut self, key: (ResourceType, Arc<str>, Version)) -> bool {
        if self.versions.insert(key.clone()).is_some() {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
        true
    }

    /// Whether an Envoy has rejected this version.
    pub(crate) fn contains(&self, kind: ResourceType, name: &Arc<str>, version: Version) -> bool {
        !self.versions.is_empty() && self.versions.contains(&(kind, name.clone(), version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut suspects = Suspects::default();
        let name: Arc<str> = "a".into();
        let version = |n: usize| Version(n as u128);
        for n in 0..=LIMIT {
            assert!(suspects.insert((ResourceType::Cluster, name.clone(), version(n))));
        }
        assert!(!suspects.insert((ResourceType::Cluster, name.clone(), version(LIMIT))));
        assert!(suspects.contains(ResourceType::Cluster, &name, version(LIMIT)));
        assert!(!suspects.contains(ResourceType::Cluster, &name, version(0)));
        assert_eq!(suspects.order.len(), LIMIT);
    }
}
