//! Level of clusters: which upstreams are used, and by whom. Equal settings are one cluster.

use std::{mem, sync::Arc};

use nuncio_ir::Unit;

use super::{Store, tls_context::ContextState};
use crate::{
    object::ObjectRef,
    reconcile::{Origination, Resolver, Upstream},
    report::Problem,
};

use self::upstream::{Known, Linked};

pub(super) mod upstream;

impl Store {
    /// Notes what an upstream refers to, so that its object looks again when that changes.
    pub(super) fn file_upstream(&mut self, object: &ObjectRef, upstream: &Upstream) {
        if let Some(service) = &upstream.service {
            self.service_users.add(service, object);
        }
        if let Resolver::Named(name) = &upstream.resolver {
            self.resolver_users.add(name, object);
        }
        if let Origination::Context(name) = &upstream.tls {
            self.context_users.add(&name.name, object);
        }
    }

    pub(super) fn unfile_upstream(&mut self, object: &ObjectRef, upstream: &Upstream) {
        if let Some(service) = &upstream.service {
            self.service_users.remove(service, object);
        }
        if let Resolver::Named(name) = &upstream.resolver {
            self.resolver_users.remove(name, object);
        }
        if let Origination::Context(name) = &upstream.tls {
            self.context_users.remove(&name.name, object);
        }
    }

    /// The cluster of an upstream, in place of the one that its object had, and what is wrong with it.
    pub(super) fn link_upstream(
        &mut self,
        object: &ObjectRef,
        upstream: &Upstream,
        old: Option<&Arc<str>>,
    ) -> (Arc<str>, Vec<Problem>) {
        let linked = upstream::link(
            upstream,
            &Known {
                services: &self.services,
                has_services: &|namespace| self.namespaces.contains_key(namespace),
                complete: self.settings.in_cluster,
                resolver: &|name| self.resolver(name),
                context: &|name| {
                    let state = self.context(name)?;
                    Some(state.and_then(ContextState::client))
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

    /// Files the cluster that an object uses. The name says all that distinguishes it, so whoever asks for this name
    /// asks for this cluster.
    fn use_cluster(&mut self, object: &ObjectRef, linked: Linked) -> Arc<str> {
        let name = linked.cluster.name.clone();
        if self.ir.clusters.get(&name).map(AsRef::as_ref) != Some(&linked.cluster) {
            self.ir
                .clusters
                .insert(name.clone(), Arc::new(linked.cluster));
            self.dirty.units.insert(Unit::Cluster(name.clone()));
        }
        let state = self.clusters.entry(name.clone()).or_default();
        state.users.insert(object.clone());
        if state.endpoints != linked.endpoints {
            let old = mem::replace(&mut state.endpoints, linked.endpoints.clone());
            self.release_endpoints(&name, old);
            if let Some(key) = linked.endpoints {
                self.endpoint_users
                    .entry(key.clone())
                    .or_default()
                    .insert(name.clone());
                self.dirty.endpoints.insert(key);
            }
        }
        name
    }

    pub(super) fn release_cluster(&mut self, object: &ObjectRef, name: Option<&Arc<str>>) {
        let Some(name) = name else { return };
        let Some(state) = self.clusters.get_mut(name) else {
            return;
        };
        state.users.remove(object);
        if !state.users.is_empty() {
            return;
        }
        let endpoints = state.endpoints.take();
        self.clusters.remove(name);
        self.release_endpoints(name, endpoints);
        self.ir.clusters.remove(name);
        self.dirty.units.insert(Unit::Cluster(name.clone()));
    }

    fn release_endpoints(&mut self, cluster: &Arc<str>, key: Option<upstream::EndpointsKey>) {
        let Some(key) = key else { return };
        if let Some(users) = self.endpoint_users.get_mut(&key) {
            users.remove(cluster);
            if users.is_empty() {
                self.endpoint_users.remove(&key);
            }
        }
        self.dirty.endpoints.insert(key);
    }
}
