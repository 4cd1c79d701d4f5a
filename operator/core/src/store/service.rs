//! Level of Services: what changed, and who has to look again.

use std::{mem, sync::Arc};

use super::{Store, name_of};
use crate::{object::ObjectRef, reconcile::Service};

impl Store {
    pub(super) fn set_service(&mut self, object: &ObjectRef, service: Option<Arc<Service>>) {
        let name = name_of(object);
        let old = self.services.remove(&name);
        let udp = |service: &Option<Arc<Service>>| {
            service
                .as_ref()
                .map(|service| service.udp.clone())
                .unwrap_or_default()
        };
        if udp(&old) != udp(&service) {
            self.dirty.sockets.extend(self.sockets.keys().copied());
        }
        let had = old.is_some();
        let has = service.is_some();
        if let Some(service) = service {
            self.services.insert(name.clone(), service);
        }
        if had != has {
            self.count_namespace(&name.namespace, has);
        }
        self.dirty.services.insert(name);
    }

    /// Keeps the number of Services of a namespace. Where the first comes or the last goes, names in it change their
    /// meaning.
    fn count_namespace(&mut self, namespace: &Arc<str>, more: bool) {
        let count = self.namespaces.entry(namespace.clone()).or_default();
        *count = if more { *count + 1 } else { *count - 1 };
        let flipped = *count == usize::from(more);
        if *count == 0 {
            self.namespaces.remove(namespace);
        }
        if flipped {
            for user in self.service_users.of_namespace(namespace) {
                self.dirty.look_again(user);
            }
        }
    }

    /// A Service decides what the clusters of its users are, and which ports its endpoints have.
    pub(super) fn link_services(&mut self) {
        for name in mem::take(&mut self.dirty.services) {
            for user in self.service_users.of(&name) {
                self.dirty.look_again(user);
            }
            self.dirty.slices.insert(name);
        }
        for name in mem::take(&mut self.dirty.slices) {
            let keys = self.endpoints_of(&name);
            self.dirty.endpoints.extend(keys);
        }
    }
}
