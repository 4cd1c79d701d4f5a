//! Settings that all listeners have in common: those of the Module, access logs and tracing.

use std::{mem, sync::Arc};

use nuncio_ir::{AccessLog, HttpOptions, TracingDriver};

use super::Store;

/// Settings that all listeners have in common.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SharedOptions {
    pub(super) http: Arc<HttpOptions>,
    pub(super) tcp_access_logs: Vec<AccessLog>,
    pub(super) buffer_limit_bytes: Option<u32>,
}

impl Store {
    /// Puts the settings together, if something that they are made of changed. A change is one of every listener.
    pub(super) fn link_http_options(&mut self) {
        if !mem::take(&mut self.dirty.shared_options) {
            return;
        }
        let module = self.modules.settings();
        let mut http = module.http.clone();
        http.access_logs = self.service_logs();
        http.tracing = self.tracing().map(Arc::new);
        let tracing = http.tracing.as_ref();
        let datadog =
            tracing.is_some_and(|tracing| matches!(tracing.driver, TracingDriver::Datadog { .. }));
        http.access_logs.extend(module.log.access_log(datadog));
        http.error_bodies.clone_from(&module.defaults.error_bodies);
        let options = SharedOptions {
            http: Arc::new(http),
            tcp_access_logs: self.connection_logs(),
            buffer_limit_bytes: module.buffer_limit_bytes,
        };
        if options != self.shared_options {
            self.shared_options = options;
            self.dirty.sockets.extend(self.listeners.sockets());
        }
    }
}
