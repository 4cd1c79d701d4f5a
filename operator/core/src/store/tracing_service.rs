//! Level of TracingServices: the first is used.

use std::sync::Arc;

use nuncio_ir::Tracing;

use super::Store;
use crate::{object::ObjectRef, reconcile::TracingService, report::Report};

impl Store {
    pub(super) fn set_tracing_service(
        &mut self,
        object: &ObjectRef,
        service: Option<Arc<TracingService>>,
    ) {
        self.set_edge_service(|store| &mut store.tracing_services, object, service);
    }

    pub(super) fn link_tracing_services(&mut self) {
        self.use_first(|store| &mut store.tracing_services);
        self.dirty.shared_options = true;
    }

    /// Where traces are sent.
    pub(super) fn tracing(&self) -> Option<Tracing> {
        let (object, state) = self.tracing_services.first()?;
        let service = &state.service;
        Some(Tracing {
            cluster: state.cluster.clone()?,
            driver: service.driver.clone(),
            client_sampling: service.sampling.client,
            random_sampling: service.sampling.random,
            overall_sampling: service.sampling.overall,
            tags: service.tags.clone(),
            origin: object.origin(),
        })
    }

    pub(super) fn report_tracing_service(&self, object: &ObjectRef, report: &mut Report) {
        self.tracing_services.report(object, report);
    }
}
