//! Level of Services: where upstreams are found, and which names mean a Service at all.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{Store, users::Users};
use crate::{
    object::ObjectRef,
    reconcile::{Name, Service},
};

/// Services, and who names them.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: BTreeMap<Name, Arc<Service>>,
    /// How many Services a namespace has.
    counts: BTreeMap<Arc<str>, usize>,
    pub(super) users: Users<Name>,
}

impl Services {
    /// The Service of this name.
    pub(super) fn get(&self, name: &Name) -> Option<&Service> {
        self.by_name.get(name).map(AsRef::as_ref)
    }

    /// Whether a namespace has any Service: then `a.b` with `b` that namespace can only mean a Service.
    pub(super) fn any_in(&self, namespace: &str) -> bool {
        self.counts.contains_key(namespace)
    }

    /// The UDP port at which clients reach this target port, by the first Service of the namespace that has one.
    pub(super) fn udp_port(&self, namespace: &str, target: u16) -> Option<u16> {
        let first = Name {
            namespace: namespace.into(),
            name: "".into(),
        };
        self.by_name
            .range(first..)
            .take_while(|(name, _)| &*name.namespace == namespace)
            .find_map(|(_, service)| service.udp.get(&target).copied())
    }

    /// Keeps the number of Services of a namespace; true if it has its first now, or has lost its last.
    fn count(&mut self, namespace: &Arc<str>, more: bool) -> bool {
        let count = self.counts.entry(namespace.clone()).or_default();
        *count = if more { *count + 1 } else { *count - 1 };
        let flipped = *count == usize::from(more);
        if *count == 0 {
            self.counts.remove(namespace);
        }
        flipped
    }
}

impl Store {
    pub(super) fn set_service(&mut self, object: &ObjectRef, service: Option<Arc<Service>>) {
        let name = Name::of(object);
        let old = self.services.by_name.remove(&name);
        let udp = |service: &Option<Arc<Service>>| {
            service
                .as_ref()
                .map(|service| service.udp.clone())
                .unwrap_or_default()
        };
        if udp(&old) != udp(&service) {
            self.dirty.sockets.extend(self.listeners.sockets());
        }
        let had = old.is_some();
        let has = service.is_some();
        if let Some(service) = service {
            self.services.by_name.insert(name.clone(), service);
        }
        if had != has && self.services.count(&name.namespace, has) {
            // names in this namespace change their meaning
            for user in self.services.users.of_namespace(&name.namespace) {
                self.dirty.link_again(user);
            }
        }
        self.mark_named_ports(&name);
        self.dirty.services.insert(name);
    }

    /// A Service decides what the clusters of its users are, and which ports its endpoints have.
    pub(super) fn link_services(&mut self) {
        for name in mem::take(&mut self.dirty.services) {
            for user in self.services.users.of(&name) {
                self.dirty.link_again(user);
            }
            self.dirty.endpoint_slices.insert(name);
        }
    }
}
