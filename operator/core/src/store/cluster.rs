//! Level of clusters: which upstreams are used, and by whom. Equal settings are one cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::Unit;

use self::family::Families;
use self::upstream::{ConsulReference, EndpointsKey, Linked, References};
use super::{Store, resolver::Meaning, users::Users};
use crate::{
    consul::ConsulService,
    object::{Kind, ObjectRef},
    reconcile::{Name, Origination, Resolver, ResolverKind, Upstream},
    report::{Problem, Reason},
};

mod family;
pub(super) mod own;
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
        let key = |port, families| EndpointsKey::Service {
            service: service.clone(),
            port,
            families,
        };
        let (first, last) = (Families::Preferred, Families::None);
        self.endpoints.keys_in(key(0, first)..=key(u16::MAX, last))
    }

    /// The endpoints of a service of Consul that are used.
    pub(super) fn endpoints_of_consul(
        &self,
        service: &ConsulService,
    ) -> impl Iterator<Item = &EndpointsKey> {
        let key = |families| EndpointsKey::Consul {
            service: service.clone(),
            families,
        };
        let (first, last) = (key(Families::Preferred), key(Families::None));
        self.endpoints.keys_in(first..=last)
    }

    /// The endpoints that a cluster uses.
    pub(super) fn endpoints(&self, name: &str) -> Option<&EndpointsKey> {
        self.by_name.get(name)?.endpoints.as_ref()
    }

    /// The clusters that use these endpoints.
    pub(super) fn of_endpoints(&self, key: &EndpointsKey) -> impl Iterator<Item = &Arc<str>> {
        self.endpoints.of(key)
    }

    /// The services of Consul that are used.
    pub(super) fn consul_services(&self) -> impl Iterator<Item = &ConsulService> {
        let keys = self.endpoints.keys();
        keys.filter_map(|key| match key {
            EndpointsKey::Consul { service, .. } => Some(service),
            EndpointsKey::Service { .. } => None,
        })
    }
}

impl Store {
    /// Notes what an upstream refers to, so that its object is linked again when that changes.
    pub(super) fn note_references(&mut self, object: &ObjectRef, upstream: &Upstream) {
        let own = upstream.in_own_namespace.as_ref();
        for service in upstream
            .service
            .iter()
            .chain(own.map(|(_, service)| service))
        {
            self.services.users.add(service, object);
        }
        if let Resolver::Named(name) = &upstream.resolver {
            self.resolvers.users.add(name, object);
        }
        if let Origination::Context(name) = &upstream.tls {
            self.add_context_user(&name.name, object);
        }
    }

    pub(super) fn forget_references(&mut self, object: &ObjectRef, upstream: &Upstream) {
        let own = upstream.in_own_namespace.as_ref();
        for service in upstream
            .service
            .iter()
            .chain(own.map(|(_, service)| service))
        {
            self.services.users.remove(service, object);
        }
        if let Resolver::Named(name) = &upstream.resolver {
            self.resolvers.users.remove(name, object);
        }
        if let Origination::Context(name) = &upstream.tls {
            self.remove_context_user(&name.name, object);
        }
    }

    /// The cluster of an upstream, which replaces the one that its object used before, and problems of the upstream. If the
    /// object can be served as before, it may have to wait; then it has no cluster if it had none.
    pub(super) fn link_upstream(
        &mut self,
        object: &ObjectRef,
        upstream: &Upstream,
        old: Option<&Arc<str>>,
        can_wait: bool,
    ) -> (Option<Arc<str>>, Vec<Problem>) {
        self.consul.stop_waiting(object);
        if let Some(old) = old
            && let Origination::Context(name) = &upstream.tls
            && self.tls_contexts.is_pending(name)
        {
            // it has to wait for its Secrets; linked again when they have been read
            return (Some(old.clone()), Vec::new());
        }
        let resolver_name = self.resolver_name(&upstream.resolver).clone();
        let resolver = self.resolvers.get(&resolver_name);
        let consul = resolver
            .as_ref()
            .and_then(|resolver| self.consul_reference(upstream, resolver));
        let tls_context = match &upstream.tls {
            Origination::Context(name) => self
                .tls_contexts
                .find(name)
                .map(|context| context.and_then(|context| context.client())),
            Origination::None | Origination::Plain => None,
        };
        if let Some(consul) = &consul
            && consul.problem.is_none()
            && can_wait
            && upstream::can_be_in_consul(&consul.service)
            && upstream::can_originate(upstream, tls_context.as_ref())
            && self.has_to_wait_for_consul(object, &consul.service)
        {
            let message = format!(
                "waiting for the first answer of Consul about {:?}",
                upstream.written
            );
            let problem = Problem::unresolved(Reason::CONSUL_UNAVAILABLE, "spec.resolver", message);
            return (old.cloned(), vec![problem]);
        }
        let upstream = &*upstream.in_namespace(self.defaults.uses_own_namespace);
        let stat_name = &self.defaults.mapping.stat_name;
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
                resolver_name: &resolver_name,
                resolver: resolver.as_ref(),
                consul: consul.as_ref(),
                consul_state: consul
                    .as_ref()
                    .and_then(|consul| self.consul.state(&consul.service)),
                own_ports: &self.settings.own_ports,
                stat_name: stat_name.as_ref().filter(|_| object.kind == Kind::Mapping),
                tls_context,
            },
        );
        let mut problems = linked.problems.clone();
        if let Origination::Context(name) = &upstream.tls {
            problems.extend(self.tls_contexts.notice("spec.tls", name));
        }
        let cluster = self.use_cluster(object, linked);
        if old != Some(&cluster) {
            self.release_cluster(object, old);
        }
        (Some(cluster), problems)
    }

    /// Adds a user to a cluster. The name has everything that distinguishes clusters, so an equal name is an equal
    /// cluster.
    pub(super) fn use_cluster(&mut self, object: &ObjectRef, linked: Linked) -> Arc<str> {
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
                self.note_wanted(&key);
                self.dirty.endpoints.insert(key);
            }
        }
        name
    }

    /// Removes a user of the cluster of its upstream, for which it does not wait any more, and the cluster with its last user.
    pub(super) fn release_cluster(&mut self, object: &ObjectRef, name: Option<&Arc<str>>) {
        self.consul.stop_waiting(object);
        if let Some(name) = name {
            self.stop_using_cluster(object, name);
        }
    }

    /// Removes a user of a cluster, and the cluster with its last user.
    pub(super) fn stop_using_cluster(&mut self, object: &ObjectRef, name: &Arc<str>) {
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
        self.note_wanted(&key);
        self.dirty.endpoints.insert(key);
    }

    fn note_wanted(&mut self, key: &EndpointsKey) {
        if let EndpointsKey::Consul { .. } = key {
            self.consul.note_change();
        }
    }

    /// The service of Consul that an upstream is, if its resolver is one for Consul. IP addresses need no resolver.
    fn consul_reference(&self, upstream: &Upstream, resolver: &Meaning) -> Option<ConsulReference> {
        let ResolverKind::Consul(consul) = &resolver.kind else {
            return None;
        };
        if upstream.address.is_some() {
            return None;
        }
        Some(ConsulReference {
            service: ConsulService {
                resolver: resolver.object.as_ref().map(Name::of),
                datacenter: consul.datacenter.clone(),
                name: upstream.written.clone(),
            },
            problem: self.consul_problem(consul),
        })
    }
}
