//! Snapshots: all encoded resources at one point in time, with a log of changes.
//!
//! A snapshot shares unchanged resources with the previous one, so its cost is proportional to the changes. A stream that
//! knows which snapshot it has processed last finds the changes since in the log, so it keeps no copy of the client's state.
//! A stream that is further behind than the log compares the two snapshots instead.

use std::{sync::Arc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};
use imbl::{OrdMap, Vector, ordmap::DiffItem};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::{
    Resource, ResourceType, Version, encodings::Encodings, fleet::Protocol, resource::Ref,
};

mod difference;

pub use difference::{Difference, ResourceChange};

/// Number of changes in the log of a type. A stream that is further behind compares snapshots.
const LOG_LENGTH: usize = 1 << 12;

/// An encoded resource, shared by all streams.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Resource name.
    pub name: Arc<str>,
    /// Hash of the content.
    pub version: Version,
    /// The snapshot that brought this version.
    pub since: u64,
    /// See [`Resource::refs`].
    pub refs: Arc<[Ref]>,
    /// See [`Resource::warms`].
    pub warms: bool,
    /// One field `resources` of a `DeltaDiscoveryResponse`: key, length, `Resource`.
    delta: Bytes,
    /// One field `resources` of a `DiscoveryResponse`: key, length, `Any`; a part of `delta`.
    sotw: Bytes,
}

/// Equal versions mean equal content.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for Entry {}

/// Entries by name. Cheap to clone: clones share what is equal.
pub(crate) type Entries = OrdMap<Arc<str>, Arc<Entry>>;

// Field numbers of envoy.service.discovery.v3 and google.protobuf.Any
const RESPONSE_RESOURCES: u32 = 2;
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_RESOURCE: u32 = 2;
const RESOURCE_NAME: u32 = 3;
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

impl Entry {
    /// Encodes a resource. `Resource.resource` and `DiscoveryResponse.resources` have the same field number and type, so the
    /// end of the delta encoding is the SotW encoding.
    fn new(resource: &Resource, since: u64, encodings: &Encodings) -> Self {
        let version = resource.version.to_string();
        let type_url = resource.kind.type_url();
        let field =
            |number, length: usize| key_len(number) + encoded_len_varint(length as u64) + length;
        let any = field(ANY_TYPE_URL, type_url.len()) + field(ANY_VALUE, resource.body.len());
        let inner = field(RESOURCE_NAME, resource.name.len())
            + field(RESOURCE_VERSION, version.len())
            + field(RESOURCE_RESOURCE, any);
        let delta = encodings.of(resource, || {
            let mut buffer = BytesMut::with_capacity(field(RESPONSE_RESOURCES, inner));
            let mut open = |number, length: usize, content: &[u8]| {
                encode_key(number, WireType::LengthDelimited, &mut buffer);
                encode_varint(length as u64, &mut buffer);
                buffer.put_slice(content);
            };
            open(RESPONSE_RESOURCES, inner, &[]);
            open(RESOURCE_NAME, resource.name.len(), resource.name.as_bytes());
            open(RESOURCE_VERSION, version.len(), version.as_bytes());
            open(RESOURCE_RESOURCE, any, &[]);
            open(ANY_TYPE_URL, type_url.len(), type_url.as_bytes());
            open(ANY_VALUE, resource.body.len(), &resource.body);
            buffer.freeze()
        });
        let sotw = delta.slice(delta.len() - field(RESOURCE_RESOURCE, any)..);
        Self {
            name: resource.name.clone(),
            version: resource.version,
            since,
            refs: resource.refs.clone(),
            warms: resource.warms,
            delta,
            sotw,
        }
    }

    /// The resource in a delta response.
    #[must_use]
    pub fn delta(&self) -> Bytes {
        self.delta.clone()
    }

    /// The resource in a SotW response.
    #[must_use]
    pub fn sotw(&self) -> Bytes {
        self.sotw.clone()
    }

    /// The resource in a response of this variant.
    pub(crate) const fn encoded(&self, protocol: Protocol) -> &Bytes {
        match protocol {
            Protocol::Delta => &self.delta,
            Protocol::Sotw => &self.sotw,
        }
    }

    /// Encoded size in a delta response.
    #[must_use]
    pub fn len(&self) -> usize {
        self.delta.len()
    }

    /// Always false: an entry has a name at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.delta.is_empty()
    }
}

/// The resources of one type.
#[derive(Clone, Debug, Default)]
pub struct TypeView {
    entries: Entries,
    /// Changed names with the number of their snapshot, oldest first.
    log: Vector<(u64, Arc<str>)>,
    /// The log has all changes after this snapshot.
    log_start: u64,
    digest: u128,
}

impl TypeView {
    /// The resource with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(name)
    }

    /// All resources, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Number of resources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no resource.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All resources by name.
    pub(crate) const fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Names that changed after snapshot `seq`, newest first and possibly with duplicates; `None` if the log does not go
    /// back that far. Costs as much as there are changes.
    #[must_use]
    pub fn changed_since(&self, seq: u64) -> Option<impl Iterator<Item = &Arc<str>>> {
        if seq < self.log_start {
            return None;
        }
        let newer = self.log.iter().rev().take_while(move |(at, _)| *at > seq);
        Some(newer.map(|(_, name)| name))
    }

    /// Names whose version differs between two views. Skips what the views share.
    pub(crate) fn differences<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        before.entries.diff(&self.entries).map(|item| match item {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) => name,
            DiffItem::Update {
                new: (name, _entry),
                ..
            } => name,
        })
    }

    /// Hash of names and versions, equal for equal content.
    #[must_use]
    pub const fn digest(&self) -> u128 {
        self.digest
    }

    fn insert(&mut self, seq: u64, resource: &Resource, encodings: &Encodings) -> bool {
        let is_new = !self.has(&resource.name, resource.version);
        if is_new {
            let entry = Entry::new(resource, seq, encodings);
            self.set(seq, resource.kind, Arc::new(entry));
        }
        is_new
    }

    fn restore(&mut self, seq: u64, kind: ResourceType, entry: &Arc<Entry>) -> bool {
        let is_new = !self.has(&entry.name, entry.version);
        if is_new {
            self.set(seq, kind, entry.clone());
        }
        is_new
    }

    fn has(&self, name: &str, version: Version) -> bool {
        let current = self.entries.get(name);
        current.is_some_and(|current| current.version == version)
    }

    fn set(&mut self, seq: u64, kind: ResourceType, entry: Arc<Entry>) {
        let name = entry.name.clone();
        self.digest ^= digest(kind, &name, entry.version);
        if let Some(old) = self.entries.insert(name.clone(), entry) {
            self.digest ^= digest(kind, &name, old.version);
        }
        self.log_change(seq, name);
    }

    fn remove(&mut self, seq: u64, kind: ResourceType, name: &Arc<str>) -> bool {
        let Some(old) = self.entries.remove(name) else {
            return false;
        };
        self.digest ^= digest(kind, &old.name, old.version);
        self.log_change(seq, name.clone());
        true
    }

    fn log_change(&mut self, seq: u64, name: Arc<str>) {
        self.log.push_back((seq, name));
        while self.log.len() > LOG_LENGTH {
            if let Some((dropped, _)) = self.log.pop_front() {
                self.log_start = dropped;
            }
        }
    }
}

fn digest(kind: ResourceType, name: &str, version: Version) -> u128 {
    let seed = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), kind.index() as u64);
    xxhash_rust::xxh3::xxh3_128_with_seed(&version.0.to_le_bytes(), seed)
}

/// All resources at one point in time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Number of this snapshot, higher than that of all previous ones.
    pub seq: u64,
    /// When it was published; `None` before.
    pub published: Option<Instant>,
    types: [TypeView; ResourceType::ALL.len()],
}

impl Snapshot {
    /// The resources of a type.
    #[must_use]
    pub fn of(&self, kind: ResourceType) -> &TypeView {
        &self.types[kind.index()]
    }

    /// The resource with this type and name.
    #[must_use]
    pub fn get(&self, (kind, name): &Ref) -> Option<&Arc<Entry>> {
        self.of(*kind).get(name)
    }

    /// Hash of all names and versions, equal for equal content on every replica.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.types
            .iter()
            .fold(0, |digest, view| digest ^ view.digest)
    }

    /// The next snapshot; `None` if nothing changed.
    #[must_use]
    pub fn next(&self, upserts: &[Resource], removals: &[Ref]) -> Option<Self> {
        self.next_with(upserts, &[], removals, &Encodings::default())
    }

    /// The same, with entries of earlier snapshots, and with what other fleets have encoded.
    pub(crate) fn next_with(
        &self,
        upserts: &[Resource],
        restored: &[(ResourceType, Arc<Entry>)],
        removals: &[Ref],
        encodings: &Encodings,
    ) -> Option<Self> {
        let mut next = self.clone();
        next.seq += 1;
        next.published = None;
        let mut changed = false;
        for resource in upserts {
            changed |= next.types[resource.kind.index()].insert(next.seq, resource, encodings);
        }
        for (kind, entry) in restored {
            changed |= next.types[kind.index()].restore(next.seq, *kind, entry);
        }
        for (kind, name) in removals {
            changed |= next.types[kind.index()].remove(next.seq, *kind, name);
        }
        changed.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

    fn resource(name: &str, body: &'static [u8]) -> Resource {
        Resource::new(ResourceType::Cluster, name, Bytes::from_static(body))
    }

    #[test]
    fn entry_is_a_field_of_both_responses() {
        let entry = Entry::new(&resource("a", b"body"), 1, &Encodings::default());
        let delta = DeltaDiscoveryResponse::decode(entry.delta()).unwrap();
        let sotw = DiscoveryResponse::decode(entry.sotw()).unwrap();
        assert_eq!(delta.resources.len(), 1);
        assert_eq!(delta.resources[0].name, "a");
        assert_eq!(delta.resources[0].version, entry.version.to_string());
        assert_eq!(
            delta.resources[0].resource.as_ref(),
            Some(&sotw.resources[0])
        );
        assert_eq!(sotw.resources[0].type_url, ResourceType::Cluster.type_url());
        assert_eq!(sotw.resources[0].value, b"body");
    }

    #[test]
    fn log_has_the_changes_since_a_snapshot() {
        let first = Snapshot::default()
            .next(&[resource("a", b"1"), resource("b", b"1")], &[])
            .unwrap();
        let second = first
            .next(&[resource("a", b"2"), resource("b", b"1")], &[])
            .unwrap();
        let third = second
            .next(&[], &[(ResourceType::Cluster, "b".into())])
            .unwrap();
        let since = |seq| -> Vec<&str> {
            third
                .of(ResourceType::Cluster)
                .changed_since(seq)
                .unwrap()
                .map(AsRef::as_ref)
                .collect()
        };
        assert_eq!(since(0), ["b", "a", "b", "a"]);
        assert_eq!(since(1), ["b", "a"]);
        assert_eq!(since(2), ["b"]);
        assert!(since(3).is_empty());
        assert!(
            third
                .next(
                    &[resource("a", b"2")],
                    &[(ResourceType::Cluster, "b".into())]
                )
                .is_none()
        );
    }

    #[test]
    fn digest_depends_on_content_only() {
        let one = Snapshot::default()
            .next(&[resource("a", b"1"), resource("b", b"2")], &[])
            .unwrap();
        let other = Snapshot::default()
            .next(&[resource("b", b"1")], &[])
            .unwrap();
        assert_ne!(one.digest(), other.digest());
        let other = other
            .next(&[resource("b", b"2"), resource("a", b"1")], &[])
            .unwrap();
        assert_eq!(one.digest(), other.digest());
    }

    #[test]
    fn changes_before_the_log_are_found_by_comparison() {
        let many: Vec<Resource> = (0..=LOG_LENGTH)
            .map(|n| resource(&format!("{n:05}"), b"1"))
            .collect();
        let first = Snapshot::default().next(&many, &[]).unwrap();
        let first_view = first.of(ResourceType::Cluster);
        assert!(first_view.changed_since(0).is_none());
        assert!(first_view.changed_since(1).is_some());
        let second = first
            .next(
                &[resource("00007", b"2"), resource("new", b"1")],
                &[(ResourceType::Cluster, "00009".into())],
            )
            .unwrap();
        let names: Vec<&str> = second
            .of(ResourceType::Cluster)
            .differences(first_view)
            .map(AsRef::as_ref)
            .collect();
        assert_eq!(names, ["00007", "00009", "new"]);
    }

    #[test]
    fn one_change_is_found_without_a_walk_of_the_log() {
        let many: Vec<Resource> = (0..LOG_LENGTH)
            .map(|n| resource(&n.to_string(), b"1"))
            .collect();
        let first = Snapshot::default().next(&many, &[]).unwrap();
        let second = first.next(&[resource("7", b"2")], &[]).unwrap();
        let view = second.of(ResourceType::Cluster);
        // the shortest of many, during which nothing else ran
        let time = |work: &dyn Fn() -> usize| {
            let times = (0..100).map(|_| {
                let started = Instant::now();
                assert!(work() > 0);
                started.elapsed()
            });
            times.min().unwrap()
        };
        let recent = time(&|| view.changed_since(1).unwrap().count());
        let all = time(&|| {
            view.changed_since(0).map_or(LOG_LENGTH, Iterator::count) + view.log.iter().count()
        });
        assert!(recent * 20 < all, "{recent:?} of {all:?} for the whole log");
    }
}
