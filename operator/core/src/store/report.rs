//! Level of reports: one for each object, from what its reconciler and the levels found.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    report::Report,
};

/// Reports that are new or differ; `None`: the object is gone.
pub type ReportChanges = Vec<(ObjectRef, Option<Arc<Report>>)>;

/// The latest report of every object.
#[derive(Debug, Default)]
pub(super) struct Reports {
    by_object: BTreeMap<ObjectRef, Arc<Report>>,
}

impl Store {
    /// The report of every object.
    #[must_use]
    pub fn reports(&self) -> &BTreeMap<ObjectRef, Arc<Report>> {
        &self.reports.by_object
    }

    /// Reports that differ from before, and those of objects that were applied.
    pub(super) fn link_reports(&mut self) -> ReportChanges {
        let applied = mem::take(&mut self.dirty.applied);
        let mut dirty = mem::take(&mut self.dirty.reports);
        dirty.extend(applied.iter().cloned());
        let mut changes = Vec::new();
        for object in dirty {
            let Some(report) = self.report(&object) else {
                if self.reports.by_object.remove(&object).is_some() {
                    changes.push((object, None));
                }
                continue;
            };
            let report = Arc::new(report);
            let same = self.reports.by_object.get(&object) == Some(&report);
            if !same {
                let reports = &mut self.reports.by_object;
                reports.insert(object.clone(), report.clone());
            }
            if !same || applied.contains(&object) {
                changes.push((object, Some(report)));
            }
        }
        changes
    }

    /// The report of an object as it is now; `None`: there is no such object.
    fn report(&self, object: &ObjectRef) -> Option<Report> {
        let found = self.objects.get(object)?;
        let mut report = Report {
            generation: found.generation,
            problems: found.problems.clone(),
            in_service: false,
            summary: String::new(),
        };
        report.problems.extend(self.objects.notices(object));
        match object.kind {
            Kind::Listener => self.report_listener(object, &mut report),
            Kind::Host => self.report_host(object, &mut report),
            Kind::Mapping => self.report_mapping(object, &mut report),
            Kind::TcpMapping => self.report_tcp_mapping(object, &mut report),
            Kind::TlsContext => self.report_tls_context(object, &mut report),
            _ => report.in_service = found.fragment.is_some() && !report.is_error(),
        }
        report.problems.sort();
        report.problems.dedup();
        Some(report)
    }
}
