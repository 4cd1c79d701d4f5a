//! Connected Envoys: what each has acknowledged and rejected. Written by streams, read by status and diagnostics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{ResourceType, Version};

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
    /// The newest snapshot of which it has acknowledged or rejected everything that it subscribes to; 0 before the first.
    /// See [`FleetState::rejections`] for what it rejected.
    pub acked: u64,
    /// Digest of that snapshot; `None` if there was a newer one before it was acknowledged.
    pub digest: Option<u128>,
}

/// A resource that an Envoy has rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `node.id` of the Envoy.
    pub node: String,
    /// Type of the resource.
    pub kind: ResourceType,
    /// Name of the resource.
    pub name: Arc<str>,
    /// The rejected version.
    pub version: Version,
    /// Envoy's error message.
    pub message: Arc<str>,
}

/// The fleet at one point in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetState {
    /// Connected Envoys, sorted by node id, each with its newest stream only.
    pub envoys: Vec<Envoy>,
    /// Resources that they have rejected.
    pub rejections: Vec<Rejection>,
}

/// The fleet. Cheap to clone: clones share their state.
#[derive(Clone, Debug)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    streams: Mutex<Streams>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Streams {
    next: u64,
    members: BTreeMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    envoy: Envoy,
    rejections: Vec<Rejection>,
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
                changes: watch::channel(0).0,
            }),
        }
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> FleetState {
        let streams = self.lock();
        let newest: BTreeMap<&str, &Member> = streams
            .members
            .values()
            .map(|member| (member.envoy.node.as_str(), member))
            .collect();
        FleetState {
            envoys: newest.values().map(|member| member.envoy.clone()).collect(),
            rejections: newest
                .values()
                .flat_map(|member| member.rejections.iter().cloned())
                .collect(),
        }
    }

    /// Receives a growing number on every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Adds a stream, which is removed when the membership is dropped.
    pub(crate) fn join(&self, envoy: Envoy) -> Membership {
        let mut streams = self.lock();
        let id = streams.next;
        streams.next += 1;
        let member = Member {
            envoy,
            rejections: Vec::new(),
        };
        streams.members.insert(id, member);
        drop(streams);
        self.notify();
        Membership {
            fleet: self.clone(),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        // no code panics while holding the lock, and the state would still be usable
        self.inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.inner.changes.send_modify(|changes| *changes += 1);
    }
}

/// Membership of a stream in the fleet.
#[derive(Debug)]
pub(crate) struct Membership {
    fleet: Fleet,
    id: u64,
}

impl Membership {
    /// Records what the Envoy has acknowledged and rejected; returns whether that has changed.
    pub(crate) fn update(
        &self,
        acked: u64,
        digest: Option<u128>,
        rejections: Vec<Rejection>,
    ) -> bool {
        let mut streams = self.fleet.lock();
        let Some(member) = streams.members.get_mut(&self.id) else {
            return false;
        };
        if member.envoy.acked == acked && member.rejections == rejections {
            return false;
        }
        if member.envoy.acked != acked {
            member.envoy.acked = acked;
            member.envoy.digest = digest;
        }
        member.rejections = rejections;
        drop(streams);
        self.fleet.notify();
        true
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.fleet.lock().members.remove(&self.id);
        self.fleet.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envoy(node: &str) -> Envoy {
        Envoy {
            node: node.to_owned(),
            cluster: String::new(),
            protocol: Protocol::Delta,
            acked: 0,
            digest: None,
        }
    }

    #[test]
    fn reconnected_envoy_counts_once() {
        let fleet = Fleet::new();
        let old = fleet.join(envoy("a"));
        old.update(7, None, Vec::new());
        let new = fleet.join(envoy("a"));
        new.update(9, None, Vec::new());
        assert_eq!(fleet.state().envoys.len(), 1);
        assert_eq!(fleet.state().envoys[0].acked, 9);
        drop(new);
        assert_eq!(fleet.state().envoys[0].acked, 7);
        drop(old);
        assert!(fleet.state().envoys.is_empty());
    }

    #[test]
    fn rejection_keeps_the_digest_of_the_acknowledged_snapshot() {
        let fleet = Fleet::new();
        let member = fleet.join(envoy("a"));
        member.update(1, Some(77), Vec::new());
        let rejection = Rejection {
            node: "a".to_owned(),
            kind: ResourceType::Cluster,
            name: "c".into(),
            version: Version(1),
            message: "no".into(),
        };
        member.update(1, None, vec![rejection]);
        let state = fleet.state();
        assert_eq!(state.envoys[0].digest, Some(77));
        assert_eq!(state.rejections.len(), 1);
    }

    #[test]
    fn only_changes_are_notified() {
        let fleet = Fleet::new();
        let member = fleet.join(envoy("a"));
        let mut changes = fleet.subscribe();
        member.update(0, None, Vec::new());
        assert!(!changes.has_changed().unwrap());
        member.update(1, None, Vec::new());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        drop(member);
        assert!(changes.has_changed().unwrap());
    }
}
