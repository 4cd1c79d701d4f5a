//! Level of Mappings: which group a Mapping belongs to, and which cluster its upstream is.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::HttpFilter;

use super::{Store, group::GroupKey};
use crate::{
    object::ObjectRef,
    reconcile::{Mapping, Resolver},
    report::{Problem, Reason, Report},
};

/// Mappings with what they are linked to.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    states: BTreeMap<ObjectRef, MappingState>,
    /// Mappings that override error responses.
    overriding_errors: BTreeSet<ObjectRef>,
}

/// A Mapping with its group and its cluster.
#[derive(Debug, Default)]
pub(super) struct MappingState {
    /// `None`: deleted, but still linked.
    pub(super) mapping: Option<Arc<Mapping>>,
    group: Option<Arc<GroupKey>>,
    /// `None` for a redirect.
    pub(super) cluster: Option<Arc<str>>,
    problems: Vec<Problem>,
}

/// What to do about a Mapping that no Host matches.
fn no_host(mapping: Option<&Mapping>) -> &'static str {
    mapping
        .and_then(|mapping| mapping.knative.advice())
        .unwrap_or(
            "no Host matches; set hostname, or the labels that a Host's mappingSelector requires",
        )
}

impl Mappings {
    /// The state of a Mapping.
    pub(super) fn state(&self, object: &ObjectRef) -> Option<&MappingState> {
        self.states.get(object)
    }

    /// The group of a Mapping.
    pub(super) fn group(&self, object: &ObjectRef) -> Option<&Arc<GroupKey>> {
        self.states.get(object)?.group.as_ref()
    }

    /// The fragment of a Mapping.
    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Arc<Mapping>> {
        self.states.get(object)?.mapping.as_ref()
    }

    /// All Mappings.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.states.keys()
    }

    /// The Mappings whose upstream has the default resolver.
    pub(super) fn with_default_resolver(&self) -> impl Iterator<Item = &ObjectRef> {
        let has_default = |state: &MappingState| {
            let mapping = state.mapping.as_ref();
            let upstream = mapping.and_then(|mapping| mapping.upstream.as_ref());
            upstream.is_some_and(|upstream| upstream.resolver == Resolver::Default)
        };
        let states = self.states.iter();
        states
            .filter(move |(_, state)| has_default(state))
            .map(|(object, _)| object)
    }

    /// Whether any Mapping overrides error responses.
    pub(super) fn override_errors(&self) -> bool {
        !self.overriding_errors.is_empty()
    }
}

impl Store {
    pub(super) fn set_mapping(&mut self, object: &ObjectRef, mapping: Option<Arc<Mapping>>) {
        if let Some(old) = self.mappings.get(object).cloned()
            && let Some(upstream) = &old.upstream
        {
            self.forget_references(object, upstream);
        }
        let upstream = mapping
            .as_ref()
            .and_then(|mapping| mapping.upstream.as_ref());
        if let Some(upstream) = upstream {
            self.note_references(object, upstream);
        }
        self.note_error_overrides(object, mapping.as_deref());
        self.note_labels(object, mapping.as_deref());
        self.note_authorization(object, mapping.as_deref());
        let state = self.mappings.states.entry(object.clone()).or_default();
        state.mapping = mapping;
        self.dirty.mappings.insert(object.clone());
    }

    /// The first Mapping that overrides error responses, and the last, change the filters of listeners.
    fn note_error_overrides(&mut self, object: &ObjectRef, mapping: Option<&Mapping>) {
        let overriding = &mut self.mappings.overriding_errors;
        let overrides = |mapping: &Mapping| {
            let bodies = mapping.forwarding.error_bodies.as_ref();
            !bodies.unwrap_or(&self.defaults.error_bodies).is_empty()
        };
        if mapping.is_some_and(overrides) {
            overriding.insert(object.clone());
        } else {
            overriding.remove(object);
        }
        self.use_error_overrides();
    }

    /// Adds the filter that overrides error responses, or removes it.
    pub(super) fn use_error_overrides(&mut self) {
        let is_used = self.mappings.override_errors() || !self.defaults.error_bodies.is_empty();
        self.use_filter(HttpFilter::CustomResponse, is_used);
    }

    /// Looks at all Mappings again, for another default.
    pub(super) fn note_all_error_overrides(&mut self) {
        let states = self.mappings.states.iter();
        let all: Vec<_> = states
            .map(|(object, state)| (object.clone(), state.mapping.clone()))
            .collect();
        for (object, mapping) in all {
            self.note_error_overrides(&object, mapping.as_deref());
        }
        self.use_error_overrides();
    }

    pub(super) fn link_mappings(&mut self) {
        for object in mem::take(&mut self.dirty.mappings) {
            self.dirty.reports.insert(object.clone());
            let Some(state) = self.mappings.states.get(&object) else {
                continue;
            };
            let (old_group, old_cluster) = (state.group.clone(), state.cluster.clone());
            let Some(mapping) = state.mapping.clone() else {
                self.leave_group(&object, old_group);
                self.release_cluster(&object, old_cluster.as_ref());
                self.mappings.states.remove(&object);
                continue;
            };
            let key = GroupKey::new(&mapping);
            let (cluster, problems) = match &mapping.upstream {
                None => {
                    self.release_cluster(&object, old_cluster.as_ref());
                    (None, Vec::new())
                }
                Some(upstream) => {
                    // a redirect cannot be served as before
                    let can_wait = old_cluster.is_some() || old_group.is_none();
                    self.link_upstream(&object, upstream, old_cluster.as_ref(), can_wait)
                }
            };
            let is_waiting = mapping.upstream.is_some() && cluster.is_none();
            let group = if is_waiting {
                None
            } else if old_group.as_deref() == Some(&key) {
                old_group
            } else {
                self.leave_group(&object, old_group);
                Some(self.join_group(&object, key))
            };
            if let Some(group) = &group {
                self.dirty.group_member(group, &object);
            }
            let state = MappingState {
                mapping: Some(mapping),
                group,
                cluster,
                problems,
            };
            self.mappings.states.insert(object, state);
        }
    }

    pub(super) fn report_mapping(&self, object: &ObjectRef, report: &mut Report) {
        report.problems.extend(self.regex_problem(object));
        let Some(state) = self.mappings.states.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        report.problems.extend(self.authorization_problems(object));
        let Some((key, group)) = state
            .group
            .as_ref()
            .and_then(|key| Some((key, self.groups.get(key)?)))
        else {
            return;
        };
        let hosts: BTreeSet<&ObjectRef> = group.hosts_of(object).collect();
        let is_served = |host: &&ObjectRef| self.hosts.is_served(host);
        let served = hosts.iter().copied().any(|host| is_served(&host));
        let mut serving = hosts.iter().filter(|host| group.serves(object, host));
        let gets_requests = serving.any(|host| !served || is_served(host));
        report.in_service = served && gets_requests;
        // what no requests on one Host mean is of interest only if there are none on any
        let is_idle = |problem: &&Problem| {
            [Reason::NO_SHARE, Reason::NOTHING_TO_SHADOW].contains(&problem.reason)
        };
        let problems = group.problems(object);
        let problems = problems.filter(|problem| !gets_requests || !is_idle(problem));
        report.problems.extend(problems.cloned());
        let outcome = if gets_requests {
            "this Mapping is not served on Hosts that match both"
        } else {
            "this Mapping is not served"
        };
        let left_out = group.left_out(object).into_iter().map(|problem| Problem {
            message: format!("{}; {outcome}", problem.message),
            ..problem.clone()
        });
        report.problems.extend(left_out);
        if hosts.is_empty() {
            report.problems.push(Problem::ignored(
                Reason::NO_MATCHING_HOST,
                "",
                no_host(state.mapping.as_deref()),
            ));
        } else if served {
            report.summary = format!("attached to {}", some(&hosts));
            report.problems.extend(self.shadowed.problems(object));
            let hosts = hosts.into_iter().filter(is_served).collect();
            report
                .problems
                .extend(self.overlap(object, key, group, &hosts));
        } else {
            report.problems.push(Problem::ignored(
                Reason::NO_LISTENER,
                "",
                format!("no Listener serves {}", some(&hosts)),
            ));
        }
    }
}

/// One Host by name, several by number.
fn some(hosts: &BTreeSet<&ObjectRef>) -> String {
    match hosts.first() {
        Some(only) if hosts.len() == 1 => only.to_string(),
        _ => format!("{} Hosts", hosts.len()),
    }
}
