//! Level of clusters: which upstreams are used, and by whom. Equal settings are one cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::Unit;

use self::family::Families;
use self::upstream::{EndpointsKey, Linked, References};
use super::{Store, users::Users};
use crate::{
    object::ObjectRef,
    reconcile::{Name, Origination, Resolver, Upstream},
    report::Problem,
};

mod family;
mod own;
mod settings;
pub(super) mod upstream;

/// Clusters by name, with their users.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    by_name: BTreeMap<Arc<str>, ClusterState>,
    /// Clusters that use a set of endpoints.
    endpoints: Users<EndpointsKey, Arc<str>>,
}

#[derive(Debug, Default)]
struct ClusterState {
    users: BTreeSet<ObjectRef>,
    endpoints: Option<EndpointsKey>,
}

impl Clusters {
    /// The objects that use a cluster.
    pub(super) fn users(&self, name: &str) -> impl Iterator<Item = &ObjectRef> {
        self.by_name
            .get(name)
            .into_iter()
            .flat_map(|state| &state.users)
    }

    /// The objects that use endpoints, by the name of their resource.
    pub(super) fn users_of_endpoints(&self, resource: &str) -> BTreeSet<ObjectRef> {
        self.endpoints
            .keys()
            .filter(|key| *key.resource() == *resource)
            .flat_map(|key| self.endpoints.of(key))
            .flat_map(|cluster| self.users(cluster))
            .cloned()
            .collect()
    }

    /// Whether any cluster uses these endpoints.
    pub(super) fn uses(&self, key: &EndpointsKey) -> bool {
        self.endpoints.has(key)
    }

    /// The endpoints of a Service that are used, one for each port.
    pub(super) fn endpoints_of(&self, service: &Name) -> impl Iterator<Item = &EndpointsKey> {
        let key = |port, families| EndpointsKey {
            service: service.clone(),
            port,
            families,
        };
        let (first, last) = (Families::Preferred, Families::None);
        self.endpoints.keys_in(key(0, first)..=key(u16::MAX, last))
    }
}

impl Store {
    /// Notes what an upstream refers to, so that its object is linked again when that changes.
    pub(super) fn note_references(&mut self, object: &ObjectRef, upstream: &Upstream) {
        if let Some(service) = &upstream.service {
            self.services.users.add(service, object);
        }
        if let Resolver::Named(name) = &upstream.resolver {
            self.resolvers.users.add(name, object);
        }
        if let Origination::Context(name) = &upstream.tls {
            self.tls_contexts.users.add(&name.name, object);
        }
    }

    pub(super) fn forget_references(&mut self, object: &ObjectRef, upstream: &Upstream) {
        if let Some(service) = &upstream.service {
            self.services.users.remove(service, object);
        }
        if let Resolver::Named(name) = &upstream.resolver {
            self.resolvers.users.remove(name, object);
        }
        if let Origination::Context(name) = &upstream.tls {
            self.tls_contexts.users.remove(&name.name, object);
        }
    }

    /// The cluster of an upstream, which replaces the one that its object used before, and problems of the upstream.
    pub(super) fn link_upstream(
        &mut self,
        object: &ObjectRef,
        upstream: &Upstream,
        old: Option<&Arc<str>>,
    ) -> (Arc<str>, Vec<Problem>) {
        if let Some(old) = old
            && let Origination::Context(name) = &upstream.tls
            && self.tls_contexts.is_pending(name)
        {
            // it has to wait for its Secrets; linked again when they have been read
            return (old.clone(), Vec::new());
        }
        let service = upstream.service.as_ref();
        let linked = upstream::link(
            upstream,
            &self.defaults,
            &References {
                service: service.and_then(|name| self.services.get(name)),
                must_be_service: service.is_some_and(|name| {
                    self.settings.in_cluster
                        && (upstream.only_service || self.services.any_in(&name.namespace))
                }),
                resolver: match &upstream.resolver {
                    Resolver::Named(name) => self.resolvers.get(name),
                    Resolver::Default => None,
                },
                own_ports: &self.settings.own_ports,
                tls_context: match &upstream.tls {
                    Origination::Context(name) => self
                        .tls_contexts
                        .find(name)
                        .map(|context| context.and_then(|context| context.client())),
                    Origination::None | Origination::Plain => None,
                },
            },
        );
        let problems = linked.problems.clone();
        let cluster = self.use_cluster(object, linked);
        if old != Some(&cluster) {
            self.release_cluster(object, old);
        }
        (cluster, problems)
    }

    /// Adds a user to a cluster. The name has everything that distinguishes clusters, so an equal name is an equal
    /// cluster.
    fn use_cluster(&mut self, object: &ObjectRef, linked: Linked) -> Arc<str> {
        let name = linked.cluster.name.clone();
        if self.ir.clusters.get(&name).map(AsRef::as_ref) != Some(&linked.cluster) {
            let cluster = Arc::new(linked.cluster);
            self.ir.clusters.insert(name.clone(), cluster);
            self.dirty.units.insert(Unit::Cluster(name.clone()));
        }
        let state = self.clusters.by_name.entry(name.clone()).or_default();
        state.users.insert(object.clone());
        if state.endpoints != linked.endpoints {
            let old = mem::replace(&mut state.endpoints, linked.endpoints.clone());
            self.release_endpoints(&name, old);
            if let Some(key) = linked.endpoints {
                self.clusters.endpoints.add(&key, &name);
                self.dirty.endpoints.insert(key);
            }
        }
        name
    }

    /// Removes a user of a cluster, and the cluster with its last user.
    pub(super) fn release_cluster(&mut self, object: &ObjectRef, name: Option<&Arc<str>>) {
        let Some(name) = name else { return };
        let Some(state) = self.clusters.by_name.get_mut(name) else {
            return;
        };
        state.users.remove(object);
        if !state.users.is_empty() {
            return;
        }
        let endpoints = state.endpoints.take();
        self.clusters.by_name.remove(name);
        self.release_endpoints(name, endpoints);
        self.ir.clusters.remove(name);
        self.dirty.units.insert(Unit::Cluster(name.clone()));
    }

    fn release_endpoints(&mut self, cluster: &Arc<str>, key: Option<EndpointsKey>) {
        let Some(key) = key else { return };
        self.clusters.endpoints.remove(&key, cluster);
        self.dirty.endpoints.insert(key);
    }
}
