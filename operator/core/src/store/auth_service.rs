//! Level of AuthServices: which filter calls which of them.
//!
//! All default AuthServices are one filter of every listener, and each one that a Mapping names is a filter that only the routes
//! of such Mappings use. If a service cannot be used, its filter answers 500: nothing that a service is to authorize is served
//! without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{Authorization, FilterSettings, HttpFilter};

use super::{Store, edge_service::EdgeState, users::Users};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{AuthService, Mapping, Origination, Role},
    report::{Problem, Reason, Report},
};

mod cluster;
mod settings;
#[cfg(test)]
mod tests;

/// What AuthServices come to.
#[derive(Debug, Default)]
pub(super) struct Authorizations {
    /// AuthServices that are invalid, and whether they are default ones.
    unusable: BTreeMap<ObjectRef, bool>,
    /// Mappings by the AuthService that they name.
    users: Users<Arc<str>>,
    /// Mappings with `auth_context_extensions`.
    with_extensions: BTreeSet<ObjectRef>,
    /// Cluster of several default AuthServices, with those that use it.
    combined: Option<(Arc<str>, BTreeSet<ObjectRef>)>,
    /// What the filter of each named AuthService does.
    named: BTreeMap<Arc<str>, Outcome>,
    /// What the filter of the default AuthServices does.
    default: Outcome,
    /// Default AuthServices that are in use.
    members: BTreeSet<ObjectRef>,
    /// Problems of AuthServices among others.
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
}

/// What a filter does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    /// There is no such service.
    #[default]
    None,
    /// The service is called, with or without context extensions.
    Called { with_extensions: bool },
    /// The service cannot be used.
    Unusable,
}

/// What is wrong with an AuthService.
enum Candidate<'a> {
    Usable(&'a EdgeState<AuthService>),
    Unusable,
}

impl Store {
    pub(super) fn set_auth_service(
        &mut self,
        object: &ObjectRef,
        service: Option<Arc<AuthService>>,
        unusable: Option<bool>,
    ) {
        match unusable {
            Some(is_default) => {
                let unusable = &mut self.authorizations.unusable;
                unusable.insert(object.clone(), is_default);
            }
            None => {
                self.authorizations.unusable.remove(object);
            }
        }
        self.set_edge_service(|store| &mut store.auth_services, object, service);
    }

    /// Notes which AuthService a Mapping names.
    pub(super) fn note_authorization(&mut self, object: &ObjectRef, mapping: Option<&Mapping>) {
        let old = self.mappings.get(object).and_then(|old| named(old));
        let new = mapping.and_then(named);
        if old != new {
            let users = &mut self.authorizations.users;
            if let Some(old) = old {
                users.remove(&old, object);
                self.dirty.reports.insert(auth_service(&old));
            }
            if let Some(new) = new {
                users.add(&new, object);
                self.dirty.reports.insert(auth_service(&new));
            }
            self.auth_services.changed = true;
        }
        let extended = &mut self.authorizations.with_extensions;
        if mapping.is_some_and(has_extensions) {
            extended.insert(object.clone());
        } else {
            extended.remove(object);
        }
    }

    /// Takes over what the AuthServices come to, and marks the reports that differ.
    pub(super) fn link_auth_services(&mut self) {
        let mut problems = BTreeMap::new();
        let (members, default) = self.default_authorization(&mut problems);
        let old_members = mem::replace(&mut self.authorizations.members, members);
        if let Some(default) = default {
            self.set_filter(&HttpFilter::Authorization(None), Some(default));
        }
        let default = self.outcome(&HttpFilter::Authorization(None));
        if mem::replace(&mut self.authorizations.default, default) != default {
            let extended = self.authorizations.with_extensions.iter();
            self.dirty.reports.extend(extended.cloned());
        }
        self.link_named_services();
        let old = mem::replace(&mut self.authorizations.problems, problems);
        let new = &self.authorizations.problems;
        let differ = old.keys().chain(new.keys());
        let differ = differ.filter(|object| old.get(*object) != new.get(*object));
        self.dirty.reports.extend(differ.cloned());
        let moved = old_members.symmetric_difference(&self.authorizations.members);
        self.dirty.reports.extend(moved.cloned());
    }

    /// What the filter of the default AuthServices does, `None`: as before, and those that it calls.
    fn default_authorization(
        &mut self,
        problems: &mut BTreeMap<ObjectRef, Vec<Problem>>,
    ) -> (BTreeSet<ObjectRef>, Option<FilterSettings>) {
        let usable = self.auth_services.iter();
        let usable = usable.filter(|(_, state)| state.service.is_default);
        let invalid = self.authorizations.unusable.iter();
        let invalid = invalid.filter(|(_, is_default)| **is_default);
        let mut candidates: BTreeMap<&ObjectRef, Candidate<'_>> = usable
            .map(|(object, state)| (object, self.candidate(state)))
            .collect();
        candidates.extend(invalid.map(|(object, _)| (object, Candidate::Unusable)));
        let is_pending = candidates.values().any(|candidate| match candidate {
            Candidate::Usable(state) => self.is_pending(state),
            Candidate::Unusable => false,
        });
        if is_pending && self.authorizations.default != Outcome::None {
            return (self.authorizations.members.clone(), None);
        }
        let unusable = candidates
            .iter()
            .find(|(_, candidate)| matches!(candidate, Candidate::Unusable));
        if let Some((unusable, _)) = unusable {
            let message = format!("requests get 500 because {unusable} is invalid");
            let problem = Problem::ignored(Reason::INVALID_AUTH_SERVICE, "", message);
            for (object, candidate) in &candidates {
                if matches!(candidate, Candidate::Usable(_)) {
                    problems.insert((*object).clone(), vec![problem.clone()]);
                }
            }
            let settings = FilterSettings::AuthorizationError(misconfigured(unusable));
            self.release_combined(&BTreeSet::new(), None);
            return (BTreeSet::new(), Some(settings));
        }
        let services: Vec<(ObjectRef, Arc<AuthService>, Arc<str>)> = candidates
            .into_iter()
            .filter_map(|(object, candidate)| match candidate {
                Candidate::Usable(state) => Some((
                    object.clone(),
                    state.service.clone(),
                    state.cluster.clone()?,
                )),
                Candidate::Unusable => None,
            })
            .collect();
        let members = settings::members(&services, problems);
        let Some((_, _, cluster)) = members.first().copied() else {
            self.release_combined(&BTreeSet::new(), None);
            return (BTreeSet::new(), Some(FilterSettings::Off));
        };
        let objects: BTreeSet<ObjectRef> = members.iter().map(|(o, _, _)| o.clone()).collect();
        let cluster = self.combined_cluster(&members, cluster);
        let settings = settings::combined(&members, &cluster, &self.defaults, problems);
        (objects, Some(settings))
    }

    /// The filters of the AuthServices that Mappings name.
    fn link_named_services(&mut self) {
        let keys: BTreeSet<Arc<str>> = self.authorizations.users.keys().cloned().collect();
        let old = mem::take(&mut self.authorizations.named);
        for key in old.keys().filter(|key| !keys.contains(*key)) {
            self.set_filter(&HttpFilter::Authorization(Some(key.clone())), None);
        }
        for key in keys {
            let filter = HttpFilter::Authorization(Some(key.clone()));
            let object = auth_service(&key);
            let state = self.auth_services.get(&object);
            let is_kept =
                old.contains_key(&key) && state.is_some_and(|state| self.is_pending(state));
            if !is_kept {
                let settings = match state.map(|state| (self.candidate(state), state)) {
                    Some((Candidate::Usable(_), state)) => match &state.cluster {
                        Some(cluster) => settings::alone(
                            vec![object.origin()],
                            &state.service,
                            cluster,
                            &self.defaults,
                        ),
                        None => FilterSettings::AuthorizationError(misconfigured(&object)),
                    },
                    None if !self.authorizations.unusable.contains_key(&object) => {
                        FilterSettings::AuthorizationError(format!("{object} does not exist"))
                    }
                    _ => FilterSettings::AuthorizationError(misconfigured(&object)),
                };
                self.set_filter(&filter, Some(settings));
            }
            let exists = state_exists(self, &object);
            let outcome = if exists {
                self.outcome(&filter)
            } else {
                Outcome::None
            };
            if old.get(&key) != Some(&outcome) {
                let users = self.authorizations.users.of(&key);
                self.dirty.reports.extend(users.cloned());
                self.dirty.reports.insert(object);
            }
            self.authorizations.named.insert(key, outcome);
        }
    }

    /// What a filter does.
    fn outcome(&self, filter: &HttpFilter) -> Outcome {
        match self.ir.filters.get(filter).map(AsRef::as_ref) {
            Some(FilterSettings::Authorization(service)) => Outcome::Called {
                with_extensions: matches!(service.call, nuncio_ir::AuthorizationCall::Grpc),
            },
            Some(FilterSettings::AuthorizationError(_)) => Outcome::Unusable,
            _ => Outcome::None,
        }
    }

    /// Whether the Secrets of the service's TLSContext have not been read yet.
    fn is_pending(&self, state: &EdgeState<AuthService>) -> bool {
        match &state.service.upstream.tls {
            Origination::Context(name) => self.tls_contexts.is_pending(name),
            Origination::None | Origination::Plain => false,
        }
    }

    /// Whether a service can be called as it is meant to be. One that cannot be found or does not respond can be called: what
    /// happens then is its own setting.
    fn candidate<'a>(&self, state: &'a EdgeState<AuthService>) -> Candidate<'a> {
        let cluster = state.cluster.as_ref();
        let cluster = cluster.and_then(|cluster| self.ir.clusters.get(cluster));
        let has_tls = cluster.is_some_and(|cluster| cluster.tls.is_some());
        let lacks_tls = state.service.upstream.tls != Origination::None && !has_tls;
        let is_own = state
            .problems
            .iter()
            .any(|problem| problem.reason == Reason::OWN_ENDPOINT);
        if cluster.is_none() || lacks_tls || is_own {
            Candidate::Unusable
        } else {
            Candidate::Usable(state)
        }
    }

    /// The AuthServices whose content is in a filter.
    pub(super) fn authorization_owners(
        &self,
        service: Option<&str>,
    ) -> Box<dyn Iterator<Item = ObjectRef> + '_> {
        match service {
            None => {
                let invalid = self.authorizations.unusable.keys();
                Box::new(self.authorizations.members.iter().chain(invalid).cloned())
            }
            Some(service) => Box::new(std::iter::once(auth_service(service))),
        }
    }

    pub(super) fn report_auth_service(&self, object: &ObjectRef, report: &mut Report) {
        self.auth_services.report(object, report);
        let Some(state) = self.auth_services.get(object) else {
            return;
        };
        if matches!(self.candidate(state), Candidate::Unusable) {
            for problem in &mut report.problems {
                if let Some((fact, _)) = problem.message.split_once("; calls to this service fail")
                {
                    problem.message = format!("{fact}; requests get 500 until it is fixed");
                }
            }
        }
        let problems = self.authorizations.problems.get(object);
        report
            .problems
            .extend(problems.into_iter().flatten().cloned());
        let is_member = self.authorizations.members.contains(object);
        let key = key(object);
        let can_be_named = object.kind == Kind::AuthService;
        let users = self.authorizations.users.of(&*key);
        let users = users.filter(|_| can_be_named).count();
        let is_named = can_be_named
            && matches!(
                self.authorizations.named.get(&key),
                Some(Outcome::Called { .. })
            );
        report.in_service = is_member || is_named;
        let plural = if users == 1 { "" } else { "s" };
        report.summary = match (is_member, users) {
            _ if !report.in_service => String::new(),
            (true, 0) => "authorizes requests".to_owned(),
            (true, users) => format!("authorizes requests; named by {users} Mapping{plural}"),
            (false, users) => format!("named by {users} Mapping{plural}"),
        };
        if !state.service.is_default && users == 0 {
            let message = "no effect: default is false, and no Mapping names this AuthService";
            let problem = Problem::notice(Reason::WITHOUT_EFFECT, "spec.default", message);
            report.problems.push(problem);
        }
    }

    /// Problems of a Mapping with the AuthService that authorizes its requests.
    pub(super) fn authorization_problems(&self, object: &ObjectRef) -> Vec<Problem> {
        let Some(mapping) = self.mappings.get(object) else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let mut outcome = self.authorizations.default;
        if let Some(key) = named(mapping) {
            let service = auth_service(&key);
            outcome = self
                .authorizations
                .named
                .get(&key)
                .copied()
                .unwrap_or_default();
            let (reason, message) = match outcome {
                Outcome::Called { .. } => (None, String::new()),
                Outcome::None => (
                    Some(Reason::AUTH_SERVICE_NOT_FOUND),
                    format!("{service} does not exist; requests get 500 until it is created"),
                ),
                Outcome::Unusable => (
                    Some(Reason::INVALID_AUTH_SERVICE),
                    format!(
                        "{service} is invalid (see its conditions); requests get 500 until it is fixed"
                    ),
                ),
            };
            if let Some(reason) = reason {
                problems.push(Problem::unresolved(reason, "spec.auth_service", message));
            }
        }
        if has_extensions(mapping) {
            let why = match outcome {
                Outcome::Called {
                    with_extensions: true,
                }
                | Outcome::Unusable => None,
                Outcome::None => Some("there is no AuthService"),
                Outcome::Called { .. } => Some("only an AuthService with proto grpc gets them"),
            };
            problems.extend(why.map(|why| {
                let message = format!("no effect: {why}");
                let path = "spec.auth_context_extensions";
                Problem::notice(Reason::WITHOUT_EFFECT, path, message)
            }));
        }
        problems
    }
}

fn state_exists(store: &Store, object: &ObjectRef) -> bool {
    store.auth_services.get(object).is_some() || store.authorizations.unusable.contains_key(object)
}

/// The text of the body for an AuthService that cannot be used.
fn misconfigured(object: &ObjectRef) -> String {
    format!("{object} is misconfigured; see its conditions")
}

/// The key of the filter of an AuthService.
fn key(object: &ObjectRef) -> Arc<str> {
    format!("{}/{}", object.namespace, object.name).into()
}

/// The AuthService of this key.
fn auth_service(key: &str) -> ObjectRef {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    ObjectRef::new(Kind::AuthService, namespace, name)
}

/// The AuthService that a Mapping names.
fn named(mapping: &Mapping) -> Option<Arc<str>> {
    match &mapping.forwarding.authorization {
        Authorization::By { service, .. } if mapping.role == Role::Forward => Some(service.clone()),
        _ => None,
    }
}

fn has_extensions(mapping: &Mapping) -> bool {
    match &mapping.forwarding.authorization {
        Authorization::By { extensions, .. } | Authorization::CheckWith(extensions) => {
            !extensions.is_empty() && mapping.role == Role::Forward
        }
        Authorization::Check | Authorization::Disabled => false,
    }
}
