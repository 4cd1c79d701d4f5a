//! What fails.

use std::fmt;

use fastrand::Rng;

use crate::fault_proxy::{self, Reply, Scope};

/// One of the two replicas with its Envoy: the first Envoy is never disturbed itself.
pub(super) type Side = usize;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A replica is killed, and started again at the end.
    ReplicaKilled(Side),
    /// A replica is stopped, and continued at the end.
    ReplicaStopped(Side),
    /// The second Envoy is killed, and started again at the end.
    EnvoyKilled,
    /// The second Envoy is stopped, and continued at the end.
    EnvoyStopped,
    /// Nothing is carried between an Envoy and its replica.
    EnvoyCut(Side),
    /// Connections between an Envoy and its replica carry nothing any more, without an end.
    EnvoyHalfOpen(Side),
    /// Nothing is carried between a replica and the apiserver.
    WatchesCut(Side),
    /// Connections between a replica and the apiserver carry nothing any more, without an end.
    WatchesHalfOpen(Side),
    /// Connections between a replica and the apiserver end.
    WatchesClosed(Side),
    /// A replica gets these answers in place of those of the apiserver.
    Answered(Side, fault_proxy::Fault),
    /// The apiserver is killed, and started again at the end.
    ApiserverKilled,
    /// The apiserver is stopped, and continued at the end.
    ApiserverStopped,
    /// etcd is killed, and started again at the end.
    EtcdKilled,
    /// etcd is stopped, and continued at the end.
    EtcdStopped,
    /// Nothing is carried between the apiserver and etcd.
    EtcdCut,
    /// The Lease of the leader is deleted.
    LeaseDeleted,
}

/// What a fault disturbs: only one at a time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Replica(Side),
    Envoy,
    EnvoyLink(Side),
    Network(Side),
    Answers(Side),
    /// The apiserver and etcd, which need each other.
    Cluster,
}

/// Answers that keep a replica from reading.
const REPLIES: [Reply; 8] = [
    Reply::Status(401),
    Reply::Status(403),
    Reply::Status(410),
    Reply::Status(429),
    Reply::Status(500),
    Reply::Page,
    Reply::NoBackend,
    Reply::Silence,
];
const SCOPES: [Scope; 6] = [
    Scope::All,
    Scope::Kind("mappings"),
    Scope::Kind("endpointslices"),
    Scope::Kind("secrets"),
    Scope::Kind("hosts"),
    Scope::Status,
];

impl Fault {
    /// One at random.
    pub(super) fn random(random: &mut Rng) -> Self {
        let side = random.usize(..2);
        match random.u8(..18) {
            0 | 1 => Self::ReplicaKilled(side),
            2 => Self::ReplicaStopped(side),
            3 | 4 => Self::EnvoyKilled,
            5 => Self::EnvoyStopped,
            6 => Self::EnvoyCut(side),
            7 => Self::EnvoyHalfOpen(side),
            8 => Self::WatchesCut(side),
            9 => Self::WatchesHalfOpen(side),
            10 | 11 => Self::WatchesClosed(side),
            12 => Self::ApiserverKilled,
            13 => Self::ApiserverStopped,
            14 => Self::EtcdKilled,
            15 => random
                .choice([Self::EtcdStopped, Self::EtcdCut])
                .unwrap_or(Self::EtcdCut),
            16 => Self::LeaseDeleted,
            _ => {
                let scope = random.choice(SCOPES).unwrap_or(Scope::All);
                let reply = random.choice(REPLIES).unwrap_or(Reply::Silence);
                Self::Answered(side, fault_proxy::Fault { scope, reply })
            }
        }
    }

    /// What it disturbs until it ends; `None` if it is over at once.
    pub(super) const fn place(self) -> Option<Place> {
        Some(match self {
            Self::ReplicaKilled(side) | Self::ReplicaStopped(side) => Place::Replica(side),
            Self::EnvoyKilled | Self::EnvoyStopped => Place::Envoy,
            Self::EnvoyCut(side) => Place::EnvoyLink(side),
            Self::WatchesCut(side) => Place::Network(side),
            Self::Answered(side, _) => Place::Answers(side),
            Self::ApiserverKilled
            | Self::ApiserverStopped
            | Self::EtcdKilled
            | Self::EtcdStopped
            | Self::EtcdCut => Place::Cluster,
            Self::EnvoyHalfOpen(_)
            | Self::WatchesHalfOpen(_)
            | Self::WatchesClosed(_)
            | Self::LeaseDeleted => return None,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(side, fault) => write!(
                f,
                "replica {side} is answered {:?} to {:?}",
                fault.reply, fault.scope
            ),
            other => write!(f, "{other:?}"),
        }
    }
}
