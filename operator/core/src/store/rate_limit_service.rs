//! Level of RateLimitServices: the first is used. Mappings send it their labels of its domain, so their groups are linked
//! again when that differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{self as ir, FilterSettings, HttpFilter};

use super::Store;
use crate::{
    object::ObjectRef,
    reconcile::{Mapping, RateLimitService},
    report::Report,
};

/// The domain that is used, and who has labels.
#[derive(Debug, Default)]
pub(super) struct RateLimits {
    /// Domain of the service that is used.
    domain: Option<String>,
    /// Mappings with labels, by domain.
    labelled: BTreeMap<String, BTreeSet<ObjectRef>>,
}

impl RateLimits {
    /// The domain whose labels are sent; `None`: no service is used.
    pub(super) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Takes over the labels of a Mapping.
    fn note(&mut self, object: &ObjectRef, old: Option<&Mapping>, new: Option<&Mapping>) {
        for domain in domains(old) {
            if let Some(mappings) = self.labelled.get_mut(domain) {
                mappings.remove(object);
                if mappings.is_empty() {
                    self.labelled.remove(domain);
                }
            }
        }
        for domain in domains(new) {
            let mappings = self.labelled.entry(domain.clone()).or_default();
            mappings.insert(object.clone());
        }
    }
}

fn domains(mapping: Option<&Mapping>) -> impl Iterator<Item = &String> {
    let mapping = mapping.into_iter();
    mapping.flat_map(|mapping| mapping.forwarding.rate_limits.keys())
}

impl Store {
    pub(super) fn set_rate_limit_service(
        &mut self,
        object: &ObjectRef,
        service: Option<Arc<RateLimitService>>,
    ) {
        self.set_edge_service(|store| &mut store.rate_limit_services, object, service);
    }

    /// Notes the labels of a Mapping, before its fragment is replaced.
    pub(super) fn note_labels(&mut self, object: &ObjectRef, mapping: Option<&Mapping>) {
        let old = self.mappings.get(object).cloned();
        let has_labels = |mapping: Option<&Mapping>| domains(mapping).next().is_some();
        if !has_labels(old.as_deref()) && !has_labels(mapping) {
            return;
        }
        self.rate_limits.note(object, old.as_deref(), mapping);
        self.report_label_counts();
    }

    /// Marks the reports of the services: the one that is used counts the Mappings whose labels it gets, and which one
    /// that is can still change in this batch.
    fn report_label_counts(&mut self) {
        let services = self.rate_limit_services.objects().cloned();
        self.dirty.reports.extend(services);
    }

    pub(super) fn link_rate_limit_services(&mut self) {
        self.use_first(|store| &mut store.rate_limit_services);
        let used = self.rate_limit_services.first();
        let settings = used.and_then(|(object, state)| {
            let service = &state.service;
            let default = || self.defaults.label_domain.clone();
            Some(ir::RateLimitService {
                cluster: state.cluster.clone()?,
                domain: service.domain.clone().unwrap_or_else(default),
                timeout: service.timeout,
                deny_on_failure: service.deny_on_failure,
                resource_exhausted: service.resource_exhausted,
                origin: object.origin(),
            })
        });
        let domain = settings.as_ref().map(|settings| settings.domain.clone());
        self.set_filter(
            &HttpFilter::RateLimit,
            settings.map(FilterSettings::RateLimit),
        );
        if domain != self.rate_limits.domain {
            let old = mem::replace(&mut self.rate_limits.domain, domain);
            self.label_domain_changed(old.as_deref());
            self.report_label_counts();
        }
    }

    /// Marks the Mappings whose labels are sent, or are no longer, and those that send default labels.
    fn label_domain_changed(&mut self, old: Option<&str>) {
        let default = self.defaults.label_domain.as_str();
        let has_defaults = self.defaults.labels.contains_key(default);
        let concerns_all = [old, self.rate_limits.domain()].contains(&Some(default));
        let mappings: Vec<&ObjectRef> = if has_defaults && concerns_all {
            self.mappings.objects().collect()
        } else {
            self.rate_limits.labelled.values().flatten().collect()
        };
        for object in mappings {
            // one that is in no group yet is linked after this
            if let Some(group) = self.mappings.group(object) {
                self.dirty.group_member(group, object);
            }
        }
    }

    pub(super) fn report_rate_limit_service(&self, object: &ObjectRef, report: &mut Report) {
        self.rate_limit_services.report(object, report);
        if report.in_service
            && let Some(domain) = self.rate_limits.domain()
        {
            let mappings = self.rate_limits.labelled.get(domain);
            let number = mappings.map_or(0, BTreeSet::len);
            let plural = if number == 1 { "" } else { "s" };
            report.summary = format!("{number} Mapping{plural} with labels of domain {domain:?}");
        }
    }
}
