//! Level of EndpointSlices: the addresses of upstreams that use EDS.

use std::{collections::BTreeMap, mem, net::SocketAddr, sync::Arc};

use nuncio_ir::{Endpoints, Unit};

use super::{
    Store,
    cluster::upstream::{self, EndpointsKey},
};
use crate::{
    object::ObjectRef,
    reconcile::{EndpointSlice, Name},
};

/// EndpointSlices by the Service that they belong to.
#[derive(Debug, Default)]
pub(super) struct EndpointSlices {
    by_service: BTreeMap<Name, BTreeMap<ObjectRef, Arc<EndpointSlice>>>,
    services: BTreeMap<ObjectRef, Name>,
}

impl EndpointSlices {
    /// The slices of a Service.
    fn of(&self, service: &Name) -> impl Iterator<Item = &EndpointSlice> + Clone {
        let slices = self.by_service.get(service).into_iter();
        slices.flat_map(|slices| slices.values().map(AsRef::as_ref))
    }

    /// Removes a slice; returns its Service.
    fn remove(&mut self, object: &ObjectRef) -> Option<Name> {
        let service = self.services.remove(object)?;
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.remove(object);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
        Some(service)
    }

    fn insert(&mut self, object: &ObjectRef, slice: Arc<EndpointSlice>) {
        let service = slice.service.clone();
        self.services.insert(object.clone(), service.clone());
        let slices = self.by_service.entry(service).or_default();
        slices.insert(object.clone(), slice);
    }
}

impl Store {
    pub(super) fn set_endpoint_slice(
        &mut self,
        object: &ObjectRef,
        slice: Option<Arc<EndpointSlice>>,
    ) {
        let old = self.endpoint_slices.remove(object);
        self.dirty.endpoint_slices.extend(old);
        if let Some(slice) = slice {
            self.dirty.endpoint_slices.insert(slice.service.clone());
            self.endpoint_slices.insert(object, slice);
        }
    }

    /// Marks the endpoints of Services whose slices, or whose ports, changed.
    pub(super) fn link_endpoint_slices(&mut self) {
        for service in mem::take(&mut self.dirty.endpoint_slices) {
            let keys = self.clusters.endpoints_of(&service);
            self.dirty.endpoints.extend(keys.cloned());
        }
    }

    /// Addresses of the upstreams that use EDS.
    pub(super) fn link_endpoints(&mut self) {
        for key in mem::take(&mut self.dirty.endpoints) {
            let resource = key.resource();
            let changed = if self.clusters.uses(&key) {
                let addresses = self.addresses(&key);
                let endpoints = Arc::new(Endpoints {
                    name: resource.clone(),
                    zones: self.zones(&key, &addresses),
                    addresses,
                });
                let old = self
                    .ir
                    .endpoints
                    .insert(resource.clone(), endpoints.clone());
                old != Some(endpoints)
            } else {
                self.ir.endpoints.remove(&resource).is_some()
            };
            if changed {
                self.dirty.units.insert(Unit::Endpoints(resource));
            }
        }
    }

    /// The addresses of endpoints, sorted.
    pub(super) fn addresses(&self, key: &EndpointsKey) -> Vec<SocketAddr> {
        match key {
            EndpointsKey::Service {
                service,
                port,
                families,
            } => upstream::endpoints(
                (*port, *families),
                self.services.get(service),
                &self.endpoint_slices.of(service),
                &self.settings.own_ports,
            ),
            EndpointsKey::Consul { service, families } => {
                let state = self.consul.state(service);
                let addresses = state.map(|state| state.addresses.clone());
                families.select(addresses.unwrap_or_default(), SocketAddr::is_ipv4)
            }
        }
    }

    /// The zones that addresses are meant for.
    fn zones(
        &self,
        key: &EndpointsKey,
        addresses: &[SocketAddr],
    ) -> BTreeMap<SocketAddr, Arc<str>> {
        match key {
            EndpointsKey::Service { service, .. } => upstream::zones(
                addresses,
                self.services.get(service),
                self.endpoint_slices.of(service),
            ),
            EndpointsKey::Consul { .. } => BTreeMap::new(),
        }
    }
}
