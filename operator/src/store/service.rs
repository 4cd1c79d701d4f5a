//! Level of Services, EndpointSlices and Secrets: what changed, and who has to look again.

use std::{mem, sync::Arc};

use nuncio_xds::{Unit, ir};

use super::{EndpointsKey, Store, name_of, upstream};
use crate::{
    object::ObjectRef,
    reconcile::{EndpointSlice, Name, Secret, Service},
};

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

    pub(super) fn set_endpoint_slice(
        &mut self,
        object: &ObjectRef,
        slice: Option<Arc<EndpointSlice>>,
    ) {
        if let Some(service) = self.slice_services.remove(object) {
            if let Some(slices) = self.slices.get_mut(&service) {
                slices.remove(object);
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
            }
            self.dirty.slices.insert(service);
        }
        if let Some(slice) = slice {
            let service = slice.service.clone();
            self.slice_services.insert(object.clone(), service.clone());
            self.slices
                .entry(service.clone())
                .or_default()
                .insert(object.clone(), slice);
            self.dirty.slices.insert(service);
        }
    }

    pub(super) fn set_secret(&mut self, object: &ObjectRef, secret: Option<Arc<Secret>>) {
        let name = name_of(object);
        match secret {
            Some(secret) => self.secrets.insert(name.clone(), secret),
            None => self.secrets.remove(&name),
        };
        if name == self.fallback_secret() {
            self.dirty.default_host = true;
        }
        self.dirty.secrets.insert(name);
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

    fn endpoints_of(&self, service: &Name) -> Vec<EndpointsKey> {
        let key = |port| EndpointsKey {
            service: service.clone(),
            port,
        };
        self.endpoint_users
            .range(key(0)..=key(u16::MAX))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// A certificate is a resource of its own: only Hosts that could not use it before, or cannot any more, change.
    pub(super) fn link_secrets(&mut self) {
        for name in mem::take(&mut self.dirty.secrets) {
            for user in self.secret_users.of(&name) {
                self.dirty.look_again(user);
            }
            let resource: Arc<str> = name.to_string().into();
            let used = self.secret_users.of(&name).next().is_some();
            if !used {
                self.missing_secrets.remove(&name);
            }
            let certificate = self
                .secrets
                .get(&name)
                .and_then(|secret| secret.certificate.as_ref().ok());
            let secret = certificate.filter(|_| used).map(|certificate| {
                Arc::new(ir::Secret {
                    name: resource.clone(),
                    content: ir::SecretContent::Certificate {
                        chain: certificate.chain.clone(),
                        private_key: certificate.key.clone(),
                    },
                })
            });
            let changed = match secret {
                Some(secret) => {
                    self.ir.secrets.insert(resource.clone(), secret.clone()) != Some(secret)
                }
                None => self.ir.secrets.remove(&resource).is_some(),
            };
            if changed {
                self.dirty.units.insert(Unit::Secret(resource));
            }
        }
    }

    /// Addresses of the upstreams that are asked of EDS.
    pub(super) fn link_endpoints(&mut self) {
        for key in mem::take(&mut self.dirty.endpoints) {
            let resource = key.resource();
            let changed = if self.endpoint_users.contains_key(&key) {
                let service = self.services.get(&key.service).map(AsRef::as_ref);
                let slices = self.slices.get(&key.service);
                let slices = slices
                    .into_iter()
                    .flat_map(|slices| slices.values().map(AsRef::as_ref));
                let endpoints = Arc::new(upstream::endpoints(&key, service, &slices));
                self.ir
                    .endpoints
                    .insert(resource.clone(), endpoints.clone())
                    != Some(endpoints)
            } else {
                self.ir.endpoints.remove(&resource).is_some()
            };
            if changed {
                self.dirty.units.insert(Unit::Endpoints(resource));
            }
        }
    }
}
