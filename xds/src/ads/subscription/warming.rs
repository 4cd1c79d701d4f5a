//! New clusters that Envoy has been sent and cannot use yet: it looks up a name, checks health, or waits for a Secret or for
//! endpoints. It acknowledges no clusters meanwhile, so an ACK means that they are warm. A cluster that waits only for
//! endpoints is also warm once Envoy has got these, after the cluster and before any routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{ResourceType, snapshot::Entry};

/// How long routes to a cluster wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Clusters that are new to the client and have not been acknowledged.
#[derive(Debug, Default)]
pub(super) struct Warming {
    clusters: BTreeMap<Arc<str>, Cluster>,
}

#[derive(Debug)]
struct Cluster {
    /// The response in which it was sent.
    nonce: u64,
    /// Until when routes wait for it.
    until: Instant,
    /// The endpoints that it waits for; `None` if it waits for something else, too.
    endpoints: Option<Arc<str>>,
}

impl Warming {
    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.clusters.keys()
    }

    /// The cluster is sent.
    pub(super) fn insert(&mut self, cluster: &Entry, nonce: u64, now: Instant) {
        let mut refs = cluster.refs.iter();
        let endpoints = refs.find(|(kind, _)| *kind == ResourceType::Endpoints);
        let endpoints = endpoints.map(|(_, name)| name.clone());
        if endpoints.is_none() && !cluster.warms {
            return;
        }
        let before = self.clusters.get(&cluster.name);
        let state = Cluster {
            nonce,
            until: before.map_or(now + TIMEOUT, |before| before.until),
            endpoints: endpoints.filter(|_| !cluster.warms),
        };
        self.clusters.insert(cluster.name.clone(), state);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.clusters.remove(name);
    }

    /// These endpoints are sent; whether a cluster waited for them.
    pub(super) fn endpoints_sent(&mut self, sent: &[Arc<Entry>]) -> bool {
        if self.is_empty() {
            return false;
        }
        let sent: BTreeSet<&str> = sent.iter().map(|entry| &*entry.name).collect();
        self.retain(|cluster| {
            let endpoints = cluster.endpoints.as_deref();
            endpoints.is_none_or(|endpoints| !sent.contains(endpoints))
        })
    }

    /// The response is acknowledged or rejected.
    pub(super) fn finish(&mut self, nonce: u64) {
        self.retain(|cluster| cluster.nonce != nonce);
    }

    /// Gives up waiting for those that take too long; whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.retain(|cluster| cluster.until > now)
    }

    /// Whether any were removed.
    fn retain(&mut self, is_kept: impl Fn(&Cluster) -> bool) -> bool {
        let before = self.clusters.len();
        self.clusters.retain(|_, cluster| is_kept(cluster));
        self.clusters.len() != before
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clusters.values().map(|cluster| cluster.until).min()
    }
}
