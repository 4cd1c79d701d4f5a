//! Encoded resources of large responses. Streams share them: Envoys that connect at the same time, or get the same change,
//! are sent the same resources, so 500 of them take no more memory than one. There is a limit for all of them together;
//! beyond it responses are sent resource by resource, which needs no memory but more CPU time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::{fleet::Protocol, snapshot::Entry};

/// Maximum size of all in bytes.
const LIMIT: usize = 64 << 20;

/// Encoded resources that are being sent. Cheap to clone: clones share their state.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    state: Arc<Mutex<BTreeMap<Key, Weak<Body>>>>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// Addresses of the first and last resource, which are not reused while there is a body of them; and their number.
type Key = (bool, usize, usize, usize);

#[derive(Debug)]
struct Body {
    entries: Vec<Arc<Entry>>,
    encoded: Vec<u8>,
    /// The sum of all bodies.
    bytes: Arc<AtomicUsize>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.encoded.len(), Ordering::Relaxed);
    }
}

/// A body in a chunk of bytes.
struct Shared(Arc<Body>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.encoded
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(LIMIT)
    }
}

impl Bodies {
    fn new(limit: usize) -> Self {
        Self {
            state: Arc::default(),
            bytes: Arc::default(),
            limit,
        }
    }

    /// These resources, encoded one after another; `None` if there is too much already.
    pub(super) fn encoded(&self, protocol: Protocol, entries: &[Arc<Entry>]) -> Option<Bytes> {
        let (first, last) = (entries.first()?, entries.last()?);
        let address = |entry: &Arc<Entry>| Arc::as_ptr(entry).addr();
        let is_delta = protocol == Protocol::Delta;
        let key = (is_delta, address(first), address(last), entries.len());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(body) = state.get(&key).and_then(Weak::upgrade) {
            let mut pairs = body.entries.iter().zip(entries);
            if pairs.all(|(one, other)| Arc::ptr_eq(one, other)) {
                return Some(Bytes::from_owner(Shared(body)));
            }
        }
        let length = entries
            .iter()
            .map(|entry| entry.encoded(protocol).len())
            .sum();
        if self.bytes.load(Ordering::Relaxed) + length > self.limit {
            return None;
        }
        self.bytes.fetch_add(length, Ordering::Relaxed);
        let mut encoded = Vec::with_capacity(length);
        for entry in entries {
            encoded.extend_from_slice(entry.encoded(protocol));
        }
        let body = Arc::new(Body {
            entries: entries.to_vec(),
            encoded,
            bytes: self.bytes.clone(),
        });
        state.retain(|_, body| body.strong_count() > 0);
        state.insert(key, Arc::downgrade(&body));
        Some(Bytes::from_owner(Shared(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, ResourceType, snapshot::Snapshot};

    fn entries(names: &[&str]) -> Vec<Arc<Entry>> {
        let resource =
            |name: &&str| Resource::new(ResourceType::Cluster, *name, vec![1; 100].into());
        let resources: Vec<Resource> = names.iter().map(resource).collect();
        let snapshot = Snapshot::default().next(&resources, &[]).unwrap();
        snapshot.of(ResourceType::Cluster).iter().cloned().collect()
    }

    #[test]
    fn streams_share_the_same_resources() {
        let bodies = Bodies::default();
        let all = entries(&["a", "b", "c"]);
        let first = bodies.encoded(Protocol::Delta, &all).unwrap();
        let second = bodies.encoded(Protocol::Delta, &all).unwrap();
        assert_eq!(first.as_ptr(), second.as_ptr());
        let expected: Vec<u8> = all.iter().flat_map(|entry| entry.delta()).collect();
        assert_eq!(first, expected);
        let sotw = bodies.encoded(Protocol::Sotw, &all).unwrap();
        let expected: Vec<u8> = all.iter().flat_map(|entry| entry.sotw()).collect();
        assert_eq!(sotw, expected);
    }

    #[test]
    fn other_resources_between_the_same_ones_are_told_apart() {
        let bodies = Bodies::default();
        let all = entries(&["a", "b", "c", "d"]);
        let without = |n: usize| {
            let mut some = all.clone();
            some.remove(n);
            some
        };
        let one = bodies.encoded(Protocol::Delta, &without(1)).unwrap();
        let other = bodies.encoded(Protocol::Delta, &without(2)).unwrap();
        assert_ne!(one, other);
    }

    #[test]
    fn all_of_them_together_are_bounded_and_freed() {
        let (one, other) = (entries(&["a", "b"]), entries(&["c", "d"]));
        let length: usize = one.iter().map(|entry| entry.len()).sum();
        let bodies = Bodies::new(length + 10);
        let body = bodies.encoded(Protocol::Delta, &one).unwrap();
        assert!(bodies.encoded(Protocol::Delta, &other).is_none());
        assert!(
            bodies.encoded(Protocol::Delta, &one).is_some(),
            "another stream needs no more"
        );
        drop(body);
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
        assert!(bodies.encoded(Protocol::Delta, &other).is_some());
        assert_eq!(bodies.state.lock().unwrap().len(), 1, "no leftovers");
    }
}
