//! Level of resolvers: what their names mean.

use std::{mem, sync::Arc};

use super::{Dirty, Store};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::ResolverKind,
};

impl Store {
    pub(super) fn set_resolver(&mut self, object: &ObjectRef, kind: Option<ResolverKind>) {
        let objects = self.resolvers.entry(object.name.clone()).or_default();
        match kind {
            Some(kind) => objects.insert(object.clone(), kind),
            None => objects.remove(object),
        };
        if objects.is_empty() {
            self.resolvers.remove(&object.name);
        }
        self.dirty.resolvers.insert(object.name.clone());
        self.dirty.reports.insert(object.clone());
    }

    pub(super) fn link_resolvers(&mut self) {
        for name in mem::take(&mut self.dirty.resolvers) {
            for user in self.resolver_users.of(&name) {
                self.dirty.look_again(user);
            }
        }
    }

    /// What a name means: the first resolver object of that name in any namespace, or one that is built in.
    pub(super) fn resolver(&self, name: &str) -> Option<ResolverKind> {
        let object = self
            .resolvers
            .get(name)
            .and_then(|objects| objects.values().next());
        object.copied().or(match name {
            "kubernetes-service" => Some(ResolverKind::Service),
            "endpoint" | "kubernetes-endpoint" => Some(ResolverKind::Endpoints),
            _ => None,
        })
    }
}

impl Dirty {
    /// Has whoever refers to something that changed look again.
    pub(super) fn look_again(&mut self, user: &ObjectRef) {
        match user.kind {
            Kind::Mapping => self.mappings.insert(user.clone()),
            Kind::TcpMapping => self.tcp_mappings.insert(user.clone()),
            Kind::Host => self.hosts.insert(user.clone()),
            Kind::TlsContext => self.contexts.insert(user.clone()),
            Kind::KubernetesServiceResolver
            | Kind::KubernetesEndpointResolver
            | Kind::Listener
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Secret
            | Kind::Namespace
            | Kind::Document => false,
        };
    }
}

/// Objects by a plain name that they refer to.
#[derive(Debug, Default)]
pub(super) struct NameUsers(
    std::collections::BTreeMap<Arc<str>, std::collections::BTreeSet<ObjectRef>>,
);

impl NameUsers {
    pub(super) fn add(&mut self, name: &Arc<str>, user: &ObjectRef) {
        self.0.entry(name.clone()).or_default().insert(user.clone());
    }

    pub(super) fn remove(&mut self, name: &str, user: &ObjectRef) {
        if let Some(users) = self.0.get_mut(name) {
            users.remove(user);
            if users.is_empty() {
                self.0.remove(name);
            }
        }
    }

    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = &ObjectRef> + Clone {
        self.0.get(name).into_iter().flatten()
    }
}
