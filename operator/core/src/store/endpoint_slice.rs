//! Level of EndpointSlices: the addresses of upstreams that are asked of EDS.

use std::{mem, sync::Arc};

use nuncio_ir::Unit;

use super::{
    Store,
    cluster::upstream::{self, EndpointsKey},
};
use crate::{
    object::ObjectRef,
    reconcile::{EndpointSlice, Name},
};

impl Store {
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

    pub(super) fn endpoints_of(&self, service: &Name) -> Vec<EndpointsKey> {
        let key = |port| EndpointsKey {
            service: service.clone(),
            port,
        };
        self.endpoint_users
            .range(key(0)..=key(u16::MAX))
            .map(|(key, _)| key.clone())
            .collect()
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
