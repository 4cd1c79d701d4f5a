//! Level of Namespaces: their labels may decide which Hosts a Listener takes.

use std::sync::Arc;

use super::Store;
use crate::{object::ObjectRef, reconcile::Namespaces, selector::Labels};

impl Store {
    /// Labels of a namespace may decide which Hosts a Listener takes.
    pub(super) fn set_namespace(&mut self, object: &ObjectRef, labels: Option<Arc<Labels>>) {
        match labels {
            Some(labels) => self.namespace_labels.insert(object.name.clone(), labels),
            None => self.namespace_labels.remove(&object.name),
        };
        let selects = |claim: &ObjectRef| {
            let listener = self.listeners.get(claim);
            listener.is_some_and(|listener| matches!(listener.namespaces, Namespaces::Selected(_)))
        };
        let concerned = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.claims.iter().any(selects));
        let concerned: Vec<_> = concerned.map(|(key, _)| *key).collect();
        self.dirty.sockets.extend(concerned);
    }
}
