//! Level of Namespaces: their labels decide which Hosts a Listener with a namespace selector takes.

use std::{collections::BTreeMap, sync::Arc};

use super::Store;
use crate::{object::ObjectRef, selector::Labels};

/// Labels of namespaces, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    labels: BTreeMap<Arc<str>, Arc<Labels>>,
}

impl Namespaces {
    /// The labels of a namespace.
    pub(super) fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.labels.get(namespace).map(AsRef::as_ref)
    }
}

impl Store {
    pub(super) fn set_namespace(&mut self, object: &ObjectRef, labels: Option<Arc<Labels>>) {
        let namespaces = &mut self.namespaces.labels;
        match labels {
            Some(labels) => namespaces.insert(object.name.clone(), labels),
            None => namespaces.remove(&object.name),
        };
        self.dirty
            .sockets
            .extend(self.listeners.selecting_namespaces());
    }
}
