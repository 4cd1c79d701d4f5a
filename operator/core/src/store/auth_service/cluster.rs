//! The cluster of several default AuthServices, which has the endpoints of all of them.
//!
//! Envoy has no cluster that unites others in turn: those of an aggregate cluster are priorities, of which only the first is used
//! as long as it is healthy. So the combined cluster has the address of each service: the ClusterIP of a Service, which stands for
//! its endpoints, or else a DNS name, which is that of the Service if it has no ClusterIP. Of a service of Consul it has the
//! addresses of all instances.

use std::{collections::BTreeSet, sync::Arc};

use nuncio_ir::{Cluster, Discovery, DnsFamily};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    super::cluster::upstream::{EndpointsKey, Linked},
    settings::Service,
};
use crate::{object::ObjectRef, store::Store};

impl Store {
    /// The cluster of these AuthServices, of which the first has this one.
    pub(super) fn combined_cluster(&mut self, members: &[&Service], first: &Arc<str>) -> Arc<str> {
        let mut targets: Vec<(String, u16)> = Vec::new();
        let mut known = BTreeSet::new();
        let mut family = None;
        let mut of_first = 0;
        for (index, (_, service, cluster)) in members.iter().enumerate() {
            for found in self.targets(&service.upstream, cluster, &mut family) {
                if known.insert(found.clone()) {
                    targets.push(found);
                }
            }
            if index == 0 {
                of_first = targets.len();
            }
        }
        let objects: BTreeSet<ObjectRef> = members.iter().map(|(o, _, _)| o.clone()).collect();
        let leader = self.ir.clusters.get(first).cloned();
        let (Some(leader), true) = (leader, targets.len() > of_first) else {
            self.release_combined(&BTreeSet::new(), None);
            return first.clone();
        };
        let described = xxh3_64(format!("{targets:?}").as_bytes()) >> 32;
        let name: Arc<str> = format!("{first}/with/{described:08x}").into();
        let family = family.unwrap_or(DnsFamily::V4);
        let cluster = Cluster {
            name: name.clone(),
            discovery: Discovery::Several { targets, family },
            by_zone: false,
            ..Cluster::clone(&leader)
        };
        for object in &objects {
            self.use_cluster(
                object,
                Linked {
                    cluster: cluster.clone(),
                    endpoints: None,
                    problems: Vec::new(),
                },
            );
        }
        self.release_combined(&objects, Some(&name));
        self.authorizations.combined = Some((name.clone(), objects));
        name
    }

    /// The addresses of an upstream, as some of several.
    fn targets(
        &self,
        upstream: &crate::reconcile::Upstream,
        cluster: &Arc<str>,
        family: &mut Option<DnsFamily>,
    ) -> Vec<(String, u16)> {
        let Some(found) = self.ir.clusters.get(cluster) else {
            return Vec::new();
        };
        match &found.discovery {
            Discovery::Static { address, port } => vec![(address.to_string(), *port)],
            Discovery::Dns {
                host,
                port,
                family: found,
                ..
            } => {
                family.get_or_insert(*found);
                vec![(host.clone(), *port)]
            }
            Discovery::Endpoints(_) => {
                if let Some(key @ EndpointsKey::Consul { .. }) = self.clusters.endpoints(cluster) {
                    let addresses = self.addresses(key).into_iter();
                    return addresses
                        .map(|address| (address.ip().to_string(), address.port()))
                        .collect();
                }
                let Some(name) = &upstream.service else {
                    return Vec::new();
                };
                let address = self
                    .services
                    .get(name)
                    .and_then(|service| service.cluster_ips.first());
                let host = address.map_or_else(
                    || format!("{}.{}", name.name, name.namespace),
                    ToString::to_string,
                );
                vec![(host, upstream.port)]
            }
            Discovery::Several { .. } | Discovery::Empty => Vec::new(),
        }
    }

    /// Releases the combined cluster for all objects that do not use it any more.
    pub(super) fn release_combined(&mut self, kept: &BTreeSet<ObjectRef>, name: Option<&Arc<str>>) {
        let Some((old, objects)) = self.authorizations.combined.take() else {
            return;
        };
        for object in objects {
            if Some(&old) != name || !kept.contains(&object) {
                // its own upstream may still wait for Consul
                self.stop_using_cluster(&object, &old);
            }
        }
    }
}
