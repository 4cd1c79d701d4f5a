//! Level of probes: routes of every Host that are about the gateway itself. They precede those of Mappings.

use std::{collections::BTreeSet, mem, sync::Arc};

use nuncio_ir::{Action, PathMatch, Route};

use super::{Store, group::share};
use crate::{
    object::ObjectRef,
    reconcile::{Probe, Upstream},
    report::Problem,
};

/// The routes.
#[derive(Debug, Default)]
pub(super) struct Probes {
    routes: Vec<Arc<Route>>,
    /// The probes that the routes are of.
    probes: Vec<Probe>,
    /// Clusters of those that a service answers, with the Module that they are of.
    clusters: BTreeSet<Arc<str>>,
    module: Option<ObjectRef>,
    problems: Vec<Problem>,
}

impl Probes {
    /// The routes, in order.
    pub(super) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Problems of upstreams.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }
}

impl Store {
    /// Makes the routes again. Those that are the same as before stay the same, with their encoded forms.
    pub(super) fn link_probes(&mut self) {
        if !mem::take(&mut self.dirty.probes) {
            return;
        }
        let module = self.modules.current().cloned();
        let new = self.modules.settings().probes.clone();
        let old = mem::replace(&mut self.probes.probes, new.clone());
        self.note_probes(&old, &new, module.as_ref());
        let (mut clusters, mut problems, mut routes) = (BTreeSet::new(), Vec::new(), Vec::new());
        for probe in &new {
            let action = match (&probe.mapping, &module) {
                (Some(mapping), Some(module)) => {
                    let Some(upstream) = &mapping.upstream else {
                        continue;
                    };
                    let (cluster, found) = self.link_upstream(module, upstream, None, false);
                    let Some(cluster) = cluster else { continue };
                    clusters.insert(cluster.clone());
                    problems.extend(found.into_iter().map(|problem| of_probe(probe, problem)));
                    let forward = share::alone(module, mapping, cluster, &self.defaults, None);
                    Action::Forward(forward.into())
                }
                _ => Action::Healthy,
            };
            let path = PathMatch::Prefix(probe.prefix.clone());
            let mut route = Route::new(probe.name.clone(), path, action);
            route.origin = module.as_ref().map(ObjectRef::origin);
            routes.push(Arc::new(route));
        }
        let gone = mem::replace(&mut self.probes.clusters, clusters);
        let old_module = mem::replace(&mut self.probes.module, module);
        if let Some(old_module) = old_module {
            for cluster in gone.difference(&self.probes.clusters.clone()) {
                self.release_cluster(&old_module, Some(cluster));
            }
        }
        self.probes.problems = problems;
        self.dirty.reports.extend(self.modules.current().cloned());
        if self.probes.routes != routes {
            self.probes.routes = routes;
            self.dirty
                .tables
                .extend(self.ir.route_tables.keys().cloned());
        }
    }

    /// Notes what the upstreams of the probes refer to.
    fn note_probes(&mut self, old: &[Probe], new: &[Probe], module: Option<&ObjectRef>) {
        let upstreams = |probes: &[Probe]| -> Vec<Upstream> {
            let mappings = probes.iter().filter_map(|probe| probe.mapping.clone());
            mappings
                .filter_map(|mapping| mapping.upstream.clone())
                .collect()
        };
        if let Some(before) = self.probes.module.clone() {
            for upstream in upstreams(old) {
                self.forget_references(&before, &upstream);
            }
        }
        if let Some(module) = module {
            for upstream in upstreams(new) {
                self.note_references(module, &upstream);
            }
        }
    }
}

/// A problem of an upstream with the path of its probe.
fn of_probe(probe: &Probe, mut problem: Problem) -> Problem {
    let key = probe.name.trim_start_matches("internal_");
    let key = key.trim_end_matches("_mapping");
    let key = key.replace("diagnostics_probe", "diagnostics");
    problem.path = problem
        .path
        .replacen("spec", &format!("spec.config.{key}"), 1);
    problem
}
