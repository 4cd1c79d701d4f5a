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

/// Clusters that are new to the client and have not been acknowledged. A cluster is in one group at most.
#[derive(Debug, Default)]
pub(super) struct Warming {
    groups: Vec<Group>,
}

/// Clusters of a response.
#[derive(Debug)]
struct Group {
    nonce: u64,
    /// Until when routes wait for them.
    until: Instant,
    /// Sorted by name.
    clusters: Vec<Arc<Entry>>,
}

/// The endpoints that a cluster waits for.
fn endpoints(cluster: &Entry) -> Option<&Arc<str>> {
    let mut refs = cluster.refs.iter();
    let endpoints = refs.find(|(kind, _)| *kind == ResourceType::Endpoints);
    endpoints.map(|(_, name)| name)
}

impl Warming {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.groups.iter().any(|group| {
            let place = group
                .clusters
                .binary_search_by(|found| (*found.name).cmp(name));
            place.is_ok()
        })
    }

    /// These clusters are sent. Routes do not wait longer for one that was sent before and is still warming.
    pub(super) fn sent(
        &mut self,
        clusters: impl Iterator<Item = Arc<Entry>>,
        nonce: u64,
        now: Instant,
    ) {
        let clusters = clusters.filter(|cluster| cluster.warms || endpoints(cluster).is_some());
        let mut clusters: Vec<Arc<Entry>> = clusters.collect();
        clusters.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut groups: BTreeMap<Instant, Vec<Arc<Entry>>> = BTreeMap::new();
        if !self.groups.is_empty() {
            let (again, new) = clusters
                .into_iter()
                .partition(|found| self.contains(&found.name));
            clusters = new;
            for cluster in again {
                if let Some(until) = self.remove(&cluster.name) {
                    groups.entry(until).or_default().push(cluster);
                }
            }
        }
        if !clusters.is_empty() {
            clusters.shrink_to_fit();
            groups.entry(now + TIMEOUT).or_default().extend(clusters);
        }
        for (until, mut clusters) in groups {
            clusters.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            self.groups.push(Group {
                nonce,
                until,
                clusters,
            });
        }
    }

    /// Removes a cluster, and returns until when routes would have waited for it.
    pub(super) fn remove(&mut self, name: &str) -> Option<Instant> {
        let until = self.groups.iter_mut().find_map(|group| {
            let clusters = &mut group.clusters;
            let place = clusters.binary_search_by(|found| (*found.name).cmp(name));
            clusters.remove(place.ok()?);
            Some(group.until)
        });
        self.groups.retain(|group| !group.clusters.is_empty());
        until
    }

    /// These endpoints are sent; whether a cluster waited for them.
    pub(super) fn endpoints_sent(&mut self, sent: &[Arc<Entry>]) -> bool {
        if self.is_empty() {
            return false;
        }
        let sent: BTreeSet<&str> = sent.iter().map(|entry| &*entry.name).collect();
        let mut has_waited = false;
        for group in &mut self.groups {
            let before = group.clusters.len();
            group.clusters.retain(|cluster| {
                let endpoints = endpoints(cluster).filter(|_| !cluster.warms);
                endpoints.is_none_or(|endpoints| !sent.contains(&**endpoints))
            });
            has_waited |= group.clusters.len() != before;
        }
        self.groups.retain(|group| !group.clusters.is_empty());
        has_waited
    }

    /// The response is acknowledged or rejected.
    pub(super) fn finish(&mut self, nonce: u64) {
        self.groups.retain(|group| group.nonce != nonce);
    }

    /// Gives up waiting for those that take too long; whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.groups.len();
        self.groups.retain(|group| group.until > now);
        self.groups.len() != before
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.groups.iter().map(|group| group.until).min()
    }
}
