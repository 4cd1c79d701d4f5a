//! HTTP filters of all listeners, and the settings of those that are resources of their own.

use std::{collections::BTreeSet, sync::Arc};

use nuncio_ir::{FilterSettings, HttpFilter, Unit};

use super::Store;
use crate::object::ObjectRef;

/// The filters that listeners have.
#[derive(Debug)]
pub(super) struct Filters {
    used: BTreeSet<HttpFilter>,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            used: BTreeSet::from([
                HttpFilter::Cors,
                HttpFilter::AuthorizationGuard,
                HttpFilter::Authorization(None),
            ]),
        }
    }
}

impl Filters {
    /// The filters that listeners have.
    pub(super) fn used(&self) -> &BTreeSet<HttpFilter> {
        &self.used
    }
}

impl Store {
    /// Adds a filter to all listeners, or removes it.
    pub(super) fn use_filter(&mut self, filter: HttpFilter, is_used: bool) {
        let changed = if is_used {
            self.filters.used.insert(filter)
        } else {
            self.filters.used.remove(&filter)
        };
        if changed {
            self.dirty.sockets.extend(self.listeners.sockets());
        }
    }

    /// Takes over the settings of a filter that is a resource; `None`: no listener has it.
    pub(super) fn set_filter(&mut self, filter: &HttpFilter, settings: Option<FilterSettings>) {
        self.use_filter(filter.clone(), settings.is_some());
        let is_permanent = HttpFilter::PERMANENT.contains(filter);
        let settings = settings.or_else(|| is_permanent.then_some(FilterSettings::Off));
        let old = self.ir.filters.get(filter).map(AsRef::as_ref);
        if old == settings.as_ref() {
            return;
        }
        let by_host = self.tables_by_host();
        match settings {
            Some(settings) => self.ir.filters.insert(filter.clone(), Arc::new(settings)),
            None => self.ir.filters.remove(filter),
        };
        if by_host != self.tables_by_host() {
            self.dirty.sockets.extend(self.listeners.sockets());
        }
        self.dirty.units.insert(Unit::Filter(filter.clone()));
    }

    /// The objects whose content is in a filter.
    pub(super) fn filter_owners(&self, filter: &HttpFilter) -> BTreeSet<ObjectRef> {
        match filter {
            HttpFilter::Authorization(service) => {
                self.authorization_owners(service.as_deref()).collect()
            }
            HttpFilter::RateLimit => {
                let services = self.rate_limit_services.iter();
                services
                    .filter(|(_, state)| state.in_use)
                    .map(|(o, _)| o.clone())
                    .collect()
            }
            _ => self.modules.current().into_iter().cloned().collect(),
        }
    }
}
