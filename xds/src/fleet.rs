//! Connected Envoys: what each has acknowledged and rejected. Written by streams, read by status and diagnostics.
//!
//! An ACK costs the same whatever the size of the fleet: streams keep sums up to date, and readers take those. Readers of
//! rejections are not woken by ACKs, and 500 Envoys that reject the same resource are one change.

use std::{
    collections::{BTreeMap, btree_map},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nuncio_ir::EnvoyVersion;
use tokio::sync::watch;

use crate::{ResourceType, Version};

mod delivery;
mod suspects;

pub use delivery::{Delivery, Means, STEPS, Step};
pub(crate) use suspects::Suspects;

use delivery::Progress;

/// Variant of the xDS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// State of the world (SotW): a response has all resources of its type.
    Sotw,
    /// Incremental (delta): a response has changes only.
    Delta,
}

/// A connected Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    /// `node.id`
    pub node: String,
    /// `node.cluster`
    pub cluster: String,
    /// Protocol variant of its stream.
    pub protocol: Protocol,
    /// Its version, if it says so.
    pub version: Option<EnvoyVersion>,
    /// The newest snapshot of which it has acknowledged or rejected everything that it subscribes to; 0 before the first.
    /// See [`FleetState::rejections`] for what it rejected.
    pub acked: u64,
    /// Digest of that snapshot, if it is known.
    pub digest: Option<u128>,
}

/// Part of Envoy's error message for a Listener whose address is taken, or not of its machine. Envoy then has no version of
/// the Listener, and does not try again by itself; its stream sends the Listener again.
pub const CANNOT_BIND: &str = "cannot bind '";

/// A resource that Envoys have rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Type of the resource.
    pub kind: ResourceType,
    /// Name of the resource.
    pub name: Arc<str>,
    /// The rejected version.
    pub version: Version,
    /// The error message of the first Envoy that rejected it.
    pub message: Arc<str>,
    /// How many connected Envoys reject it.
    pub envoys: usize,
}

/// The fleet at one point in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetState {
    /// Connected Envoys, sorted by node id. Those with the same node id are listed each, oldest stream first.
    pub envoys: Vec<Envoy>,
    /// Resources that they have rejected, sorted by type and name.
    pub rejections: Vec<Rejection>,
}

/// Number of connected Envoys by the snapshot that each has acknowledged ([`Envoy::acked`]).
pub type AckedCounts = BTreeMap<u64, usize>;

/// The fleet. Cheap to clone: clones share their state.
#[derive(Clone, Debug)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    streams: Mutex<Streams>,
    acknowledged: watch::Sender<u64>,
    complete: watch::Sender<u64>,
    rejections: watch::Sender<u64>,
    suspects: watch::Sender<Suspects>,
    oldest: watch::Sender<Option<EnvoyVersion>>,
}

type Key = (ResourceType, Arc<str>, Version);

#[derive(Debug, Default)]
struct Streams {
    next: u64,
    members: BTreeMap<u64, Envoy>,
    /// Streams by node id, and whether it was logged that there are several.
    nodes: BTreeMap<String, Node>,
    acked: AckedCounts,
    progress: Progress,
    /// Number of connected Envoys by version.
    versions: BTreeMap<EnvoyVersion, usize>,
    rejections: BTreeMap<Key, Rejection>,
}

#[derive(Debug, Default)]
struct Node {
    streams: Vec<u64>,
    /// The last of them, as its members see it without the lock.
    newest: Arc<AtomicU64>,
    is_shared: bool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// An empty fleet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                streams: Mutex::default(),
                acknowledged: watch::channel(0).0,
                complete: watch::channel(0).0,
                rejections: watch::channel(0).0,
                suspects: watch::channel(Suspects::default()).0,
                oldest: watch::channel(None).0,
            }),
        }
    }

    /// The current state. Costs as much as there are Envoys; see [`Fleet::acked_counts`] and [`Fleet::rejections`].
    #[must_use]
    pub fn state(&self) -> FleetState {
        let streams = self.lock();
        let ids = streams.nodes.values().flat_map(|node| &node.streams);
        FleetState {
            envoys: ids
                .filter_map(|id| streams.members.get(id).cloned())
                .collect(),
            rejections: streams.rejections.values().cloned().collect(),
        }
    }

    /// How many Envoys have acknowledged which snapshot.
    #[must_use]
    pub fn acked_counts(&self) -> AckedCounts {
        self.lock().acked.clone()
    }

    /// Whether an Envoy with this node id is connected.
    #[must_use]
    pub fn has_node(&self, node: &str) -> bool {
        self.lock().nodes.contains_key(node)
    }

    /// Rejected resources, sorted by type and name.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        self.lock().rejections.values().cloned().collect()
    }

    /// Receives a growing number whenever an Envoy comes, goes, or acknowledges a snapshot.
    #[must_use]
    pub fn subscribe_acknowledged(&self) -> watch::Receiver<u64> {
        self.inner.acknowledged.subscribe()
    }

    /// Receives the newest snapshot that all connected Envoys have acknowledged, whenever that is another one: once for a
    /// snapshot, however many Envoys there are.
    #[must_use]
    pub fn subscribe_complete(&self) -> watch::Receiver<u64> {
        self.inner.complete.subscribe()
    }

    /// When Envoys acknowledged a snapshot.
    #[must_use]
    pub fn delivery(&self, seq: u64) -> Delivery {
        self.lock().progress.of(seq)
    }

    /// When all connected Envoys had acknowledged the snapshots after this one, in their order. A step is about its own snapshot
    /// and those since the step before.
    #[must_use]
    pub fn complete_after(&self, seq: u64) -> Vec<Step> {
        self.lock().progress.complete_after(seq)
    }

    /// Receives a growing number whenever a resource is rejected by the first Envoy, or no longer by any.
    #[must_use]
    pub fn subscribe_rejections(&self) -> watch::Receiver<u64> {
        self.inner.rejections.subscribe()
    }

    /// Receives the oldest version of a connected Envoy whenever that is another one. `None`: none is connected, or none says
    /// its version.
    #[must_use]
    pub fn subscribe_oldest(&self) -> watch::Receiver<Option<EnvoyVersion>> {
        self.inner.oldest.subscribe()
    }

    /// Versions that any Envoy has rejected lately.
    pub(crate) fn suspects(&self) -> watch::Receiver<Suspects> {
        self.inner.suspects.subscribe()
    }

    /// Adds a stream, which is removed when the membership is dropped.
    pub(crate) fn join(&self, envoy: Envoy) -> Membership {
        let mut streams = self.lock();
        let id = streams.next;
        streams.next += 1;
        *streams.acked.entry(envoy.acked).or_default() += 1;
        let node = streams.nodes.entry(envoy.node.clone()).or_default();
        node.streams.push(id);
        node.newest.store(id, Ordering::Relaxed);
        let newest = node.newest.clone();
        let membership = Membership {
            fleet: self.clone(),
            id,
            node: envoy.node.as_str().into(),
            newest,
            acked: envoy.acked,
            reached: 0,
            rejected: BTreeMap::new(),
        };
        if let Some(version) = envoy.version {
            *streams.versions.entry(version).or_default() += 1;
        }
        streams.members.insert(id, envoy);
        self.tell_oldest(&streams);
        drop(streams);
        notify(&self.inner.acknowledged);
        membership
    }

    /// Sends the oldest version, if it is another one.
    fn tell_oldest(&self, streams: &Streams) {
        let oldest = streams.versions.keys().next().copied();
        self.inner
            .oldest
            .send_if_modified(|told| std::mem::replace(told, oldest) != oldest);
    }

    /// See [`Progress::advance`].
    fn advance(&self, streams: &mut Streams, node: &Arc<str>, from: u64, to: Option<u64>) {
        if streams.progress.advance(node, from, to) {
            let complete = streams.progress.complete();
            self.inner.complete.send_replace(complete);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        // no code panics while holding the lock, and the state would still be usable
        self.inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn notify(changes: &watch::Sender<u64>) {
    changes.send_modify(|changes| *changes += 1);
}

/// Moves an Envoy from one count to another.
fn recount(counts: &mut AckedCounts, from: u64, to: Option<u64>) {
    if let btree_map::Entry::Occupied(mut count) = counts.entry(from) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
    if let Some(to) = to {
        *counts.entry(to).or_default() += 1;
    }
}

/// Membership of a stream in the fleet.
#[derive(Debug)]
pub(crate) struct Membership {
    fleet: Fleet,
    id: u64,
    node: Arc<str>,
    newest: Arc<AtomicU64>,
    acked: u64,
    /// The newest snapshot that it has ever acknowledged. `acked` is less for a while when it subscribes to more.
    reached: u64,
    rejected: BTreeMap<(ResourceType, Arc<str>), Version>,
}

impl Membership {
    /// Records that the Envoy has acknowledged this snapshot.
    pub(crate) fn acknowledge(&mut self, acked: u64, digest: Option<u128>) {
        let before = std::mem::replace(&mut self.acked, acked);
        let mut streams = self.fleet.lock();
        if let Some(envoy) = streams.members.get_mut(&self.id) {
            envoy.acked = acked;
            envoy.digest = digest;
        }
        recount(&mut streams.acked, before, Some(acked));
        if acked > self.reached {
            let before = std::mem::replace(&mut self.reached, acked);
            self.fleet
                .advance(&mut streams, &self.node, before, Some(acked));
        }
        drop(streams);
        notify(&self.fleet.inner.acknowledged);
    }

    /// Records that the Envoy rejects this version; returns whether it is the first that does.
    pub(crate) fn reject(
        &mut self,
        kind: ResourceType,
        name: &Arc<str>,
        version: Version,
        message: &Arc<str>,
    ) -> bool {
        self.accept(kind, name);
        self.rejected.insert((kind, name.clone()), version);
        let mut streams = self.fleet.lock();
        let key = (kind, name.clone(), version);
        let rejection = streams
            .rejections
            .entry(key.clone())
            .or_insert_with(|| Rejection {
                kind,
                name: name.clone(),
                version,
                message: message.clone(),
                envoys: 0,
            });
        rejection.envoys += 1;
        let is_first = rejection.envoys == 1;
        drop(streams);
        if is_first {
            self.fleet
                .inner
                .suspects
                .send_if_modified(|suspects| suspects.insert(key));
            notify(&self.fleet.inner.rejections);
        }
        is_first
    }

    /// Records that the Envoy does not reject the resource any more.
    pub(crate) fn accept(&mut self, kind: ResourceType, name: &Arc<str>) {
        let Some(version) = self.rejected.remove(&(kind, name.clone())) else {
            return;
        };
        let mut streams = self.fleet.lock();
        let is_last = streams.withdraw((kind, name.clone(), version));
        drop(streams);
        if is_last {
            notify(&self.fleet.inner.rejections);
        }
    }

    /// Whether this request proves that several Envoys have the same node id: the Envoy is alive, and another with its node
    /// id has connected later. True once for each node id. Takes no lock while there is no other.
    pub(crate) fn proves_shared_node(&self) -> bool {
        if self.newest.load(Ordering::Relaxed) == self.id {
            return false;
        }
        let mut streams = self.fleet.lock();
        let Some(node) = streams.nodes.get_mut(&*self.node) else {
            return false;
        };
        let is_older = node.streams.last().is_some_and(|newest| *newest != self.id);
        is_older && !std::mem::replace(&mut node.is_shared, true)
    }
}

impl Streams {
    /// An Envoy does not reject this version any more; whether it was the last one.
    fn withdraw(&mut self, key: Key) -> bool {
        let btree_map::Entry::Occupied(mut rejection) = self.rejections.entry(key) else {
            return false;
        };
        rejection.get_mut().envoys -= 1;
        let is_last = rejection.get().envoys == 0;
        if is_last {
            rejection.remove();
        }
        is_last
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut streams = self.fleet.lock();
        let member = streams.members.remove(&self.id);
        if let Some(version) = member.and_then(|member| member.version) {
            let versions = &mut streams.versions;
            if let btree_map::Entry::Occupied(mut count) = versions.entry(version) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            self.fleet.tell_oldest(&streams);
        }
        recount(&mut streams.acked, self.acked, None);
        if self.reached > 0 {
            self.fleet
                .advance(&mut streams, &self.node, self.reached, None);
        }
        if let Some(node) = streams.nodes.get_mut(&*self.node) {
            node.streams.retain(|id| *id != self.id);
            if let Some(newest) = node.streams.last() {
                node.newest.store(*newest, Ordering::Relaxed);
            }
            if node.streams.is_empty() {
                streams.nodes.remove(&*self.node);
            }
        }
        let mut is_last = false;
        for ((kind, name), version) in std::mem::take(&mut self.rejected) {
            is_last |= streams.withdraw((kind, name, version));
        }
        drop(streams);
        notify(&self.fleet.inner.acknowledged);
        if is_last {
            notify(&self.fleet.inner.rejections);
        }
    }
}

#[cfg(test)]
mod tests;
