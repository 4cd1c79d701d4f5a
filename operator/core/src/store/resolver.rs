//! Level of resolvers: what their names mean.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{Store, users::Users};
use crate::{object::ObjectRef, reconcile::ResolverKind};

/// Resolvers, and who names them.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    by_name: BTreeMap<Arc<str>, BTreeMap<ObjectRef, ResolverKind>>,
    pub(super) users: Users<Arc<str>>,
}

impl Resolvers {
    /// The resolver of this name: the first object of that name in any namespace, or a built-in one.
    pub(super) fn get(&self, name: &str) -> Option<ResolverKind> {
        let object = self
            .by_name
            .get(name)
            .and_then(|objects| objects.values().next());
        object.copied().or(match name {
            "kubernetes-service" => Some(ResolverKind::Service),
            "endpoint" | "kubernetes-endpoint" => Some(ResolverKind::Endpoints),
            _ => None,
        })
    }
}

impl Store {
    pub(super) fn set_resolver(&mut self, object: &ObjectRef, kind: Option<ResolverKind>) {
        let by_name = &mut self.resolvers.by_name;
        let objects = by_name.entry(object.name.clone()).or_default();
        match kind {
            Some(kind) => objects.insert(object.clone(), kind),
            None => objects.remove(object),
        };
        if objects.is_empty() {
            by_name.remove(&object.name);
        }
        self.dirty.resolvers.insert(object.name.clone());
        self.dirty.reports.insert(object.clone());
    }

    pub(super) fn link_resolvers(&mut self) {
        for name in mem::take(&mut self.dirty.resolvers) {
            for user in self.resolvers.users.of(&name) {
                self.dirty.link_again(user);
            }
        }
    }
}
