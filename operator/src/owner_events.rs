//! Problems of Services and Ingresses, as Events on them: their statuses have no place for what is wrong with an annotation, or
//! with what an Ingress stands for. `kubectl describe` shows Events.
//!
//! The leader writes them, each once, some time after the problem has appeared: most pass when the next object is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::select_all;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use nuncio_core::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason, Report, Severity},
    store::ReportChanges,
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, warn};

use crate::{api::api_resource, metrics::Metrics};

/// Name of the controller in Events.
const CONTROLLER: &str = "getambassador.io/nuncio";
/// What is done when a problem is found.
const ACTION: &str = "Configure";
/// Pause after a change, so that what is only passing is not written.
const SETTLE: Duration = Duration::from_secs(2);
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Pause between two Events, so that thousands of problems do not keep the apiserver busy.
const PACE: Duration = Duration::from_millis(50);
/// Events of one object for one change; more would only be in the way.
const MOST_EVENTS: usize = 10;
/// Longest note of an Event, in bytes (Event v1 in the Kubernetes API: 1 kB).
const MOST_NOTE: usize = 1000;
/// The resource that the permission is for.
const RESOURCE: &str = "events.events.k8s.io";
/// What it is for, as the metric names it.
const PURPOSE: &str = "Events";

/// What is wrong with Services and Ingresses.
#[derive(Clone, Debug, Default)]
pub struct OwnerProblems {
    /// Those with problems.
    reports: Arc<BTreeMap<ObjectRef, Arc<Report>>>,
    /// Those with an object that an Envoy rejected, and its message.
    rejected: Arc<BTreeMap<ObjectRef, String>>,
}

impl OwnerProblems {
    /// Takes over reports that have changed; whether that is anything that is written.
    pub(crate) fn collect(&mut self, changes: &ReportChanges) -> bool {
        let mut has_changed = false;
        for (object, report) in changes {
            if !is_owner(object) {
                continue;
            }
            let report = report.as_ref().filter(|report| !report.is_clean());
            if self.reports.get(object) == report {
                continue;
            }
            has_changed = true;
            let all = Arc::make_mut(&mut self.reports);
            match report {
                Some(report) => all.insert(object.clone(), report.clone()),
                None => all.remove(object),
            };
        }
        has_changed
    }

    /// Takes over what Envoys reject; whether it differs.
    pub(crate) fn reject(&mut self, rejected: &BTreeMap<ObjectRef, String>) -> bool {
        let rejected = rejected.iter().filter(|(object, _)| is_owner(object));
        let differs = !rejected.clone().eq(self.rejected.iter());
        if differs {
            let rejected = rejected.map(|(object, message)| (object.clone(), message.clone()));
            self.rejected = Arc::new(rejected.collect());
        }
        differs
    }

    /// What Events say, by object.
    fn entries(&self) -> impl Iterator<Item = (&ObjectRef, BTreeSet<Entry>)> {
        let reports = self.reports.iter();
        let reports = reports.map(|(object, report)| (object, Entry::all(report)));
        let rejected = self.rejected.iter();
        let rejected = rejected.map(|(object, message)| {
            let message = format!("Envoy rejected configuration: {message}");
            let problem = Problem::ignored(Reason::REJECTED, "", message);
            (object, BTreeSet::from([Entry::of(&problem)]))
        });
        reports.chain(rejected)
    }
}

/// Whether the status of an object has no place for what is wrong with it.
fn is_owner(object: &ObjectRef) -> bool {
    matches!(object.kind, Kind::Service | Kind::Ingress)
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    reason: Reason,
    note: String,
}

impl Entry {
    fn of(problem: &Problem) -> Self {
        let mut note = match problem.path.as_str() {
            "" => problem.message.clone(),
            path => format!("{path}: {}", problem.message),
        };
        if note.len() > MOST_NOTE {
            note.truncate(note.floor_char_boundary(MOST_NOTE - '…'.len_utf8()));
            note.push('…');
        }
        Self {
            reason: problem.reason,
            note,
        }
    }

    /// What is worse than a hint.
    fn all(report: &Report) -> BTreeSet<Self> {
        let problems = report.problems.iter();
        let problems = problems.filter(|problem| problem.severity != Severity::Notice);
        problems.take(MOST_EVENTS).map(Self::of).collect()
    }
}

/// What the writer needs.
pub struct Writer {
    /// Connection to the apiserver.
    pub client: Client,
    /// The objects with problems of each fleet.
    pub problems: Vec<watch::Receiver<OwnerProblems>>,
    /// Whether this replica writes.
    pub leading: watch::Receiver<bool>,
    /// Name of this replica.
    pub identity: String,
    /// Metrics of missing permissions.
    pub metrics: Metrics,
}

impl Writer {
    /// Writes until the task is dropped.
    pub async fn run(mut self) {
        let mut written = BTreeMap::new();
        let mut is_forbidden = false;
        loop {
            if self.leading.wait_for(|leading| *leading).await.is_err() {
                return;
            }
            sleep(SETTLE).await;
            let current = self.current();
            match self.write(current, &mut written).await {
                Ok(()) => {
                    if is_forbidden {
                        is_forbidden = false;
                        self.metrics.missing_permission(RESOURCE, PURPOSE, false);
                    }
                    let changes = self.problems.iter_mut();
                    let changes = changes.map(|problems| Box::pin(problems.changed()));
                    if select_all(changes).await.0.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let now_forbidden =
                        matches!(&error, kube::Error::Api(status) if status.code == 403);
                    if now_forbidden && !is_forbidden {
                        warn!(%error, "missing permission to create Events; problems of Services and Ingresses are in the log only");
                        self.metrics.missing_permission(RESOURCE, PURPOSE, true);
                    } else {
                        debug!(%error, "cannot write an Event; retrying");
                    }
                    is_forbidden |= now_forbidden;
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// What all fleets have found.
    fn current(&mut self) -> BTreeMap<ObjectRef, BTreeSet<Entry>> {
        let mut all: BTreeMap<ObjectRef, BTreeSet<Entry>> = BTreeMap::new();
        for problems in &mut self.problems {
            let problems = problems.borrow_and_update().clone();
            for (object, entries) in problems.entries() {
                all.entry(object.clone()).or_default().extend(entries);
            }
        }
        all
    }

    /// Writes what is new, and forgets what has passed.
    async fn write(
        &self,
        current: BTreeMap<ObjectRef, BTreeSet<Entry>>,
        written: &mut BTreeMap<ObjectRef, BTreeSet<Entry>>,
    ) -> Result<(), kube::Error> {
        written.retain(|object, _| current.contains_key(object));
        for (object, entries) in current {
            let before = written.entry(object.clone()).or_default();
            before.retain(|entry| entries.contains(entry));
            let new: Vec<Entry> = entries.difference(before).cloned().collect();
            if new.is_empty() {
                continue;
            }
            let Some(reference) = self.reference(&object).await? else {
                continue;
            };
            for entry in new {
                self.publish(&reference, &entry).await?;
                before.insert(entry);
                sleep(PACE).await;
            }
        }
        Ok(())
    }

    /// A reference to an object, with its UID, by which `kubectl describe` finds its Events; `None` if it is gone.
    async fn reference(&self, object: &ObjectRef) -> Result<Option<ObjectReference>, kube::Error> {
        let resource = api_resource(object.kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let only = ListParams::default().fields(&format!("metadata.name={}", object.name));
        let found = api.list_metadata(&only).await?.items.into_iter().next();
        Ok(found.map(|found| ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: found.metadata.name,
            namespace: found.metadata.namespace,
            uid: found.metadata.uid,
            resource_version: found.metadata.resource_version,
            ..ObjectReference::default()
        }))
    }

    /// Writes an Event. One that repeats another of the same reason, as the recorder would count it, may say something else.
    async fn publish(&self, reference: &ObjectReference, entry: &Entry) -> Result<(), kube::Error> {
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance: Some(self.identity.clone()),
        };
        let event = Event {
            type_: EventType::Warning,
            reason: entry.reason.to_string(),
            note: Some(entry.note.clone()),
            action: ACTION.to_owned(),
            secondary: None,
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        match recorder.publish(&event, reference).await {
            // the namespace is going away, or the Event is invalid for a name that is too long
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 422 => {
                debug!(%status, "Event not written");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.reason == "NamespaceTerminating" => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(problems: Vec<Problem>) -> Arc<Report> {
        Arc::new(Report {
            problems,
            ..Report::default()
        })
    }

    #[test]
    fn only_owners_with_problems_are_collected() {
        let mut all = OwnerProblems::default();
        let problem = Problem::ignored(Reason::NOT_YAML, "metadata", "ignored");
        let hint = Problem::notice(Reason::DUPLICATE, "", "a hint");
        let service = ObjectRef::new(Kind::Service, "default", "a");
        let mapping = ObjectRef::new(Kind::Mapping, "default", "a");
        let mut change = |object: &ObjectRef, problems: Option<&Problem>| {
            let report = problems.map(|problem| report(vec![problem.clone()]));
            all.collect(&vec![(object.clone(), report)])
        };
        assert!(!change(&mapping, Some(&problem)));
        assert!(!change(&service, Some(&hint)));
        assert!(change(&service, Some(&problem)));
        assert!(!change(&service, Some(&problem)));
        assert!(change(&service, Some(&hint)));
        assert!(change(&service, Some(&problem)));
        assert!(change(&service, None));
        assert_eq!(all.entries().count(), 0);
    }

    #[test]
    fn what_an_envoy_rejects_is_collected_once() {
        let mut all = OwnerProblems::default();
        let [service, mapping] =
            [Kind::Service, Kind::Mapping].map(|kind| ObjectRef::new(kind, "default", "a"));
        let none = BTreeMap::new();
        let rejected = [&service, &mapping].map(|object| (object.clone(), "a reason".to_owned()));
        let rejected = BTreeMap::from(rejected);
        assert!(!all.reject(&none));
        assert!(all.reject(&rejected));
        assert!(!all.reject(&rejected));
        let entries: Vec<_> = all.entries().collect();
        let expected = Entry {
            reason: Reason::REJECTED,
            note: "Envoy rejected configuration: a reason".to_owned(),
        };
        assert_eq!(entries, [(&service, BTreeSet::from([expected]))]);
        assert!(all.reject(&none));
        assert_eq!(all.entries().count(), 0);
    }

    #[test]
    fn notes_are_short_enough() {
        let problem = |message: &str| Problem::ignored(Reason::NOT_YAML, "a.b", message);
        let entry = Entry::of(&problem("text"));
        assert_eq!(entry.note, "a.b: text");
        let entry = Entry::of(&problem(&"ä".repeat(2000)));
        assert!(entry.note.len() <= MOST_NOTE && entry.note.ends_with('…'));
        let many = (0..50).map(|number| problem(&number.to_string()));
        assert_eq!(Entry::all(&report(many.collect())).len(), MOST_EVENTS);
    }
}
