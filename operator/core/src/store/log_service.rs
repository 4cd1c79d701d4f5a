//! Level of LogServices: all are used.

use std::sync::Arc;

use nuncio_ir::{self as ir, AccessLog};

use super::Store;
use crate::{object::ObjectRef, reconcile::LogService, report::Report};

/// Name of the log of the first service, as in Emissary.
const LOG_NAME: &str = "logservice";

impl Store {
    pub(super) fn set_log_service(&mut self, object: &ObjectRef, service: Option<Arc<LogService>>) {
        self.set_edge_service(|store| &mut store.log_services, object, service);
    }

    pub(super) fn link_log_services(&mut self) {
        for state in self.log_services.states_mut() {
            state.in_use = true;
        }
        self.dirty.shared_options = true;
    }

    /// The logs that services get. Further ones have names of their own, since several may be sent to one place.
    pub(super) fn service_logs(&self) -> Vec<AccessLog> {
        let services = self.log_services.iter().enumerate();
        let log = services.filter_map(|(index, (object, state))| {
            let service = &state.service;
            Some(AccessLog::Service(ir::LogService {
                cluster: state.cluster.clone()?,
                log_name: if index == 0 {
                    LOG_NAME.to_owned()
                } else {
                    format!("{LOG_NAME}/{}/{}", object.namespace, object.name)
                },
                flush_interval: service.flush_interval,
                buffer_bytes: service.buffer_bytes,
                headers: service.headers.clone(),
                origin: object.origin(),
            }))
        });
        log.collect()
    }

    /// Those of them that TCPMappings have, too.
    pub(super) fn connection_logs(&self) -> Vec<AccessLog> {
        let mut logs = self.service_logs();
        logs.retain(|log| matches!(log, AccessLog::Service(service) if service.headers.is_none()));
        logs
    }

    pub(super) fn report_log_service(&self, object: &ObjectRef, report: &mut Report) {
        self.log_services.report(object, report);
    }
}
