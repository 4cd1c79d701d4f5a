//! Level of edge services: services that the gateway calls for its requests, with the clusters of their upstreams.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{
        AuthService, LogService, RateLimitService, TracingService, Upstream, module::AUTHENTICATION,
    },
    report::{Problem, Reason, Report},
};

/// What a kind of edge service has.
pub(super) trait EdgeService {
    /// Where it is called.
    fn upstream(&self) -> &Upstream;
    /// The field that names it.
    const FIELD: &'static str;
}

impl EdgeService for AuthService {
    const FIELD: &'static str = "spec.auth_service";
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

impl EdgeService for RateLimitService {
    const FIELD: &'static str = "spec.service";
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

impl EdgeService for LogService {
    const FIELD: &'static str = "spec.service";
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

impl EdgeService for TracingService {
    const FIELD: &'static str = "spec.service";
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

/// The services of a kind, in the order in which they count.
#[derive(Debug)]
pub(super) struct EdgeServices<T> {
    states: BTreeMap<ObjectRef, EdgeState<T>>,
    /// Services whose fragment is gone, with their clusters.
    gone: BTreeMap<ObjectRef, Arc<str>>,
    /// The one that is used, of a kind of which Envoy takes one.
    used: Option<ObjectRef>,
    /// Whether any differs since the kind was linked.
    pub(super) changed: bool,
}

impl<T> Default for EdgeServices<T> {
    fn default() -> Self {
        Self {
            states: BTreeMap::new(),
            gone: BTreeMap::new(),
            used: None,
            changed: false,
        }
    }
}

/// A service with its cluster.
#[derive(Debug)]
pub(super) struct EdgeState<T> {
    pub(super) service: Arc<T>,
    /// `None`: not linked yet.
    pub(super) cluster: Option<Arc<str>>,
    /// Problems of the upstream, and of the service among others.
    pub(super) problems: Vec<Problem>,
    /// Whether the gateway uses it.
    pub(super) in_use: bool,
}

impl<T> EdgeServices<T> {
    /// The services, in the order in which they count.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &EdgeState<T>)> {
        self.states.iter()
    }

    /// The objects of the services, in the order in which they count.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.states.keys()
    }

    /// The first service.
    pub(super) fn first(&self) -> Option<(&ObjectRef, &EdgeState<T>)> {
        self.states.first_key_value()
    }

    /// The states of the services.
    pub(super) fn states_mut(&mut self) -> impl Iterator<Item = &mut EdgeState<T>> {
        self.states.values_mut()
    }

    /// The state of a service.
    pub(super) fn get(&self, object: &ObjectRef) -> Option<&EdgeState<T>> {
        self.states.get(object)
    }

    /// Takes over a fragment. Returns the one before.
    fn set(&mut self, object: &ObjectRef, service: Option<Arc<T>>) -> Option<Arc<T>> {
        self.changed = true;
        let old = self.states.remove(object);
        let cluster = old.as_ref().and_then(|state| state.cluster.clone());
        let cluster = cluster.or_else(|| self.gone.remove(object));
        match service {
            Some(service) => {
                let state = EdgeState {
                    service,
                    cluster,
                    problems: Vec::new(),
                    in_use: false,
                };
                self.states.insert(object.clone(), state);
            }
            None => self
                .gone
                .extend(cluster.map(|cluster| (object.clone(), cluster))),
        }
        old.map(|state| state.service)
    }

    pub(super) fn report(&self, object: &ObjectRef, report: &mut Report) {
        if let Some(state) = self.states.get(object) {
            report.problems.extend(state.problems.iter().cloned());
            report.in_service = state.in_use;
            if let Some(used) = self.used.as_ref().filter(|used| *used != object) {
                report.problems.push(not_used(used));
            }
        }
    }
}

impl Store {
    /// Uses the first service of a kind of which Envoy takes one.
    pub(super) fn use_first<T>(&mut self, of: fn(&mut Self) -> &mut EdgeServices<T>) {
        let services = of(self);
        let first = services.first().map(|(object, _)| object.clone());
        // a new fragment is not in use
        for (object, state) in &mut services.states {
            state.in_use = Some(object) == first.as_ref();
        }
        if services.used == first {
            return;
        }
        services.used = first;
        let objects: Vec<ObjectRef> = services.states.keys().cloned().collect();
        self.dirty.reports.extend(objects);
    }

    /// Files the fragment of an edge service.
    pub(super) fn set_edge_service<T: EdgeService>(
        &mut self,
        of: fn(&mut Self) -> &mut EdgeServices<T>,
        object: &ObjectRef,
        service: Option<Arc<T>>,
    ) {
        let old = of(self).set(object, service.clone());
        if let Some(old) = old {
            self.forget_references(object, old.upstream());
        }
        if let Some(service) = service {
            self.note_references(object, service.upstream());
        }
        self.dirty.edge_services.insert(object.clone());
    }

    /// Marks the edge services of every kind.
    pub(super) fn link_all_edge_services_again(&mut self) {
        let marks = &mut self.dirty.edge_services;
        marks.extend(self.auth_services.objects().cloned());
        marks.extend(self.rate_limit_services.objects().cloned());
        marks.extend(self.log_services.objects().cloned());
        marks.extend(self.tracing_services.objects().cloned());
    }

    /// Links the upstreams of edge services that changed, then each kind of which one did.
    pub(super) fn link_edge_services(&mut self) {
        for object in mem::take(&mut self.dirty.edge_services) {
            self.dirty.reports.insert(object.clone());
            match object.kind {
                Kind::Module if &*object.name != AUTHENTICATION => self.dirty.probes = true,
                Kind::Module | Kind::AuthService => {
                    self.link_edge_upstream(|s| &mut s.auth_services, &object);
                }
                Kind::RateLimitService => {
                    self.link_edge_upstream(|s| &mut s.rate_limit_services, &object);
                }
                Kind::LogService => self.link_edge_upstream(|s| &mut s.log_services, &object),
                Kind::TracingService => {
                    self.link_edge_upstream(|s| &mut s.tracing_services, &object);
                }
                _ => {}
            }
        }
        if mem::take(&mut self.auth_services.changed) {
            self.link_auth_services();
        }
        if mem::take(&mut self.rate_limit_services.changed) {
            self.link_rate_limit_services();
        }
        if mem::take(&mut self.log_services.changed) {
            self.link_log_services();
        }
        if mem::take(&mut self.tracing_services.changed) {
            self.link_tracing_services();
        }
    }

    fn link_edge_upstream<T: EdgeService>(
        &mut self,
        of: fn(&mut Self) -> &mut EdgeServices<T>,
        object: &ObjectRef,
    ) {
        let services = of(self);
        services.changed = true;
        let Some(state) = services.states.get(object) else {
            let gone = services.gone.remove(object);
            self.release_cluster(object, gone.as_ref());
            return;
        };
        let (service, old) = (state.service.clone(), state.cluster.clone());
        // a new service is linked at once: it must not be left out until Consul has answered
        let can_wait = old.is_some();
        let upstream = service.upstream();
        let (cluster, problems) = self.link_upstream(object, upstream, old.as_ref(), can_wait);
        let problems = problems.into_iter().map(of_edge_service::<T>).collect();
        if let Some(state) = of(self).states.get_mut(object) {
            state.cluster = cluster;
            state.problems = problems;
        }
    }
}

/// The problem of a service that another one of its kind precedes.
fn not_used(used: &ObjectRef) -> Problem {
    let kind = used.kind;
    let message =
        format!("only one {kind} is used, and {used} comes first by name; this {kind} is not used");
    Problem::ignored(Reason::NOT_FIRST, "", message)
}

/// A problem of an upstream in the words of a service that has no requests of its own.
fn of_edge_service<T: EdgeService>(mut problem: Problem) -> Problem {
    if problem.path == "spec.service" {
        T::FIELD.clone_into(&mut problem.path);
    }
    problem.message = problem
        .message
        .replace("; requests get 503", "; calls to this service fail");
    problem
}
