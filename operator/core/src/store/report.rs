//! Level of reports: one for each object, from what its reconciler and the levels found.

use std::{mem, sync::Arc};

use nuncio_ir::OrdMap;

use super::Store;
use crate::{
    annotation,
    change::{Origin, Source},
    object::{Kind, ObjectRef},
    reconcile::module::{AUTHENTICATION, tls},
    report::{Problem, Reason, Report, Severity},
};

/// Problems of the objects that another one yields, in the report of that one; the most severe. More would only be in the way.
const MOST_PROBLEMS: usize = 50;

/// Reports that are new or differ; `None`: the object is gone.
pub type ReportChanges = Vec<(ObjectRef, Option<Arc<Report>>)>;

/// The report of every object. A clone takes no time and does not change any more.
pub type AllReports = OrdMap<ObjectRef, Arc<Report>>;

/// The latest report of every object.
#[derive(Debug, Default)]
pub(super) struct Reports {
    by_object: AllReports,
}

impl Store {
    /// The report of every object.
    #[must_use]
    pub fn reports(&self) -> &AllReports {
        &self.reports.by_object
    }

    /// Reports that differ from before, and those of objects that were applied.
    pub(super) fn link_reports(&mut self) -> ReportChanges {
        let applied = mem::take(&mut self.dirty.applied);
        let mut dirty = mem::take(&mut self.dirty.reports);
        dirty.extend(applied.iter().cloned());
        let modules = dirty.iter();
        let modules = modules.filter_map(|object| self.tls_source.module(object));
        let modules: Vec<ObjectRef> = modules.cloned().collect();
        dirty.extend(modules);
        let owners = dirty.iter().flat_map(|object| self.objects.owners(object));
        let owners: Vec<ObjectRef> = owners.cloned().collect();
        dirty.extend(owners);
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
    pub(super) fn report(&self, object: &ObjectRef) -> Option<Report> {
        let found = self.objects.get(object)?;
        let origin = self.objects.origin(object);
        let origin = origin.filter(|origin| origin.owner.is_some());
        let mut report = Report {
            generation: found.generation,
            problems: found.problems.clone(),
            in_service: false,
            summary: String::new(),
            owner: origin.and_then(|origin| origin.owner.clone()),
            document: origin.and_then(|origin| self.objects.document(origin, object)),
        };
        report.problems.extend(self.objects.notices(object));
        match object.kind {
            Kind::Listener => self.report_listener(object, &mut report),
            Kind::Host => self.report_host(object, &mut report),
            Kind::Mapping => self.report_mapping(object, &mut report),
            Kind::TcpMapping => self.report_tcp_mapping(object, &mut report),
            Kind::TlsContext => self.report_tls_context(object, &mut report),
            Kind::Module if &*object.name == AUTHENTICATION => {
                self.report_auth_service(object, &mut report);
            }
            Kind::Module if &*object.name == tls::NAME => {
                self.report_tls_module(object, &mut report);
            }
            Kind::Module => self.report_module(object, &mut report),
            Kind::AuthService => self.report_auth_service(object, &mut report),
            Kind::RateLimitService => self.report_rate_limit_service(object, &mut report),
            Kind::LogService => self.report_log_service(object, &mut report),
            Kind::TracingService => self.report_tracing_service(object, &mut report),
            Kind::ConsulResolver => self.report_consul_resolver(object, &mut report),
            Kind::Ingress | Kind::KnativeIngress => self.report_ingress(object, &mut report),
            _ => report.in_service = found.fragment.is_some() && !report.is_error(),
        }
        if matches!(object.kind, Kind::Service | Kind::Ingress) && self.objects.has_owners() {
            self.report_owned(Source::Annotation, object, &mut report);
        }
        report.problems.sort();
        report.problems.dedup();
        Some(report)
    }

    /// Adds what was found in the objects that this one yields; whether any of them is in service. A part that is invalid
    /// leaves the owner accepted.
    pub(super) fn report_owned(
        &self,
        source: Source,
        owner: &ObjectRef,
        report: &mut Report,
    ) -> bool {
        let origin = Origin::owned(source, owner.clone());
        let (mut in_service, mut all) = (false, Vec::new());
        for object in self.objects.owned(&origin) {
            let document = self.objects.document(&origin, &object);
            let used = self.objects.origin(&object);
            if let Some(used) = used.filter(|used| **used != origin) {
                let message = format!("also defined by {used}, which is used");
                let problem = Problem::notice(Reason::DUPLICATE, "", message);
                all.push(part(&object, document, &problem));
                continue;
            }
            let Some(found) = self.report(&object) else {
                continue;
            };
            in_service |= found.in_service;
            let problems = found.problems.into_iter();
            all.extend(problems.map(|problem| part(&object, document, &problem)));
        }
        // each object has all of its own
        all.sort();
        all.truncate(MOST_PROBLEMS);
        report.problems.append(&mut all);
        in_service
    }
}

/// A problem of an object that is in a document of its owner, or generated from it, for the owner, which stays accepted.
fn part(object: &ObjectRef, document: Option<u32>, problem: &Problem) -> Problem {
    let (path, message) = match (document, problem.path.as_str()) {
        (None, path) => (path, format!("{}: {}", object.name, problem.message)),
        (Some(number), "") => (
            annotation::PATH,
            format!("document {number}, {object}: {}", problem.message),
        ),
        (Some(number), path) => (
            annotation::PATH,
            format!("document {number}, {object}, {path}: {}", problem.message),
        ),
    };
    let (severity, reason) = match (problem.severity, problem.reason) {
        (Severity::Error, Reason::INVALID) => (Severity::Warning, Reason::PARTIALLY_INVALID),
        (Severity::Error, reason) => (Severity::Warning, reason),
        other => other,
    };
    Problem {
        severity,
        reason,
        path: path.to_owned(),
        message,
        condition: problem.condition,
    }
}
