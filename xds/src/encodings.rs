//! Encoded resources that several fleets have in common. Each is held once, whoever encoded it first, for as long as a
//! snapshot or a stream has it.
//!
//! A hash alone does not decide: whoever configures one fleet must not be able to choose what another one is sent, so the
//! bytes are compared.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;

use crate::{Resource, ResourceType, Version};

/// Encoded resources of several fleets. Cheap to clone: clones share their state. The default shares nothing, which is for
/// one fleet.
#[derive(Clone, Debug, Default)]
pub struct Encodings(Option<Arc<Known>>);

type Key = (ResourceType, Arc<str>, Version);

#[derive(Debug, Default)]
struct Known(Mutex<BTreeMap<Key, Weak<Encoded>>>);

/// A resource as responses have it.
struct Encoded {
    key: Key,
    bytes: Bytes,
    known: Arc<Known>,
}

impl std::fmt::Debug for Encoded {
    /// Without the content, which can be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Encoded").field(&self.key).finish()
    }
}

/// What a snapshot has of it.
struct Handle(Arc<Encoded>);

impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Encodings {
    /// Encodings that snapshots of several fleets share.
    #[must_use]
    pub fn shared() -> Self {
        Self(Some(Arc::default()))
    }

    /// The encoding of a resource, which ends with its body.
    pub(crate) fn of(&self, resource: &Resource, encode: impl FnOnce() -> Bytes) -> Bytes {
        let Some(known) = &self.0 else {
            return encode();
        };
        let key = (resource.kind, resource.name.clone(), resource.version);
        // `Encoded::drop` takes the lock, so none is dropped while it is held
        let mut all = known.lock();
        let found = all.get(&key).and_then(Weak::upgrade);
        if let Some(found) = found {
            drop(all);
            return if found.bytes.ends_with(&resource.body) {
                Bytes::from_owner(Handle(found))
            } else {
                encode()
            };
        }
        let encoded = Arc::new(Encoded {
            key: key.clone(),
            bytes: encode(),
            known: known.clone(),
        });
        all.insert(key, Arc::downgrade(&encoded));
        drop(all);
        Bytes::from_owner(Handle(encoded))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.lock().len())
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Weak<Encoded>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let mut all = self.known.lock();
        // another one may have taken its place
        if all
            .get(&self.key)
            .is_some_and(|known| known.strong_count() == 0)
        {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{self, SnapshotCache, Update, Writer};

    fn cluster(name: &str, body: &[u8]) -> Resource {
        Resource::new(ResourceType::Cluster, name, Bytes::copy_from_slice(body))
    }

    fn apply(writer: &mut Writer, upserts: Vec<Resource>) {
        writer.apply(Update {
            upserts,
            ..Update::default()
        });
    }

    fn bytes(cache: &SnapshotCache, name: &str) -> Bytes {
        let snapshot = cache.snapshot().unwrap();
        let entry = snapshot.of(ResourceType::Cluster).get(name).unwrap();
        assert!(entry.delta().ends_with(&entry.sotw()));
        entry.delta()
    }

    #[test]
    fn two_fleets_hold_an_equal_resource_once() {
        let encodings = Encodings::shared();
        let (mut one, of_one) = cache::channel_of(encodings.clone());
        let (mut other, of_other) = cache::channel_of(encodings.clone());
        apply(&mut one, vec![cluster("a", b"same"), cluster("b", b"1")]);
        apply(&mut other, vec![cluster("a", b"same"), cluster("b", b"2")]);
        let address = |cache, name| bytes(cache, name).as_ptr();
        assert_eq!(address(&of_one, "a"), address(&of_other, "a"));
        assert_ne!(bytes(&of_one, "b"), bytes(&of_other, "b"));
        assert_eq!(encodings.len(), 3);
        // what one of them has no more, the other keeps
        let held = bytes(&of_one, "a");
        apply(&mut one, vec![cluster("a", b"new")]);
        assert_eq!(held, bytes(&of_other, "a"));
        drop((held, one, of_one));
        assert_eq!(encodings.len(), 2);
        drop((other, of_other));
        assert_eq!(encodings.len(), 0, "nothing is kept that nobody has");
    }

    #[test]
    fn one_fleet_shares_nothing_and_costs_nothing() {
        let (mut one, of_one) = cache::channel();
        let (mut other, of_other) = cache::channel();
        apply(&mut one, vec![cluster("a", b"same")]);
        apply(&mut other, vec![cluster("a", b"same")]);
        assert_ne!(bytes(&of_one, "a").as_ptr(), bytes(&of_other, "a").as_ptr());
    }

    #[test]
    fn a_resource_with_the_hash_of_another_is_not_replaced_by_it() {
        let encodings = Encodings::shared();
        let (mut one, _of_one) = cache::channel_of(encodings.clone());
        let (mut other, of_other) = cache::channel_of(encodings.clone());
        let own = cluster("a", b"own");
        let forged = Resource {
            version: own.version,
            ..cluster("a", b"forged")
        };
        apply(&mut one, vec![forged]);
        apply(&mut other, vec![own]);
        assert!(bytes(&of_other, "a").ends_with(b"own"));
    }
}
