//! Level of Consul: which of its services upstreams use, and what is known of them.
//!
//! A service is queried once an upstream uses it, which takes a moment. Until the first answer its addresses are unknown,
//! so whatever begins to use it is served as before: requests are not lost to a service that has no addresses yet. Who
//! queries Consul gives an answer for each wanted service soon, even if it is that there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Store, users::Users};
use crate::{
    change::{ResourceVersion, Subject, Touched},
    consul::{Agent, ConsulService, ConsulState, WantedConsul},
    object::{Kind, ObjectRef},
    reconcile::{ConsulResolver, Name, Part, ResolverKind, Secret, served},
    report::{Problem, Reason, Report},
};

/// Services of Consul.
#[derive(Debug, Default)]
pub(super) struct Consul {
    known: BTreeMap<ConsulService, ConsulState>,
    /// Objects that are served as before until the first answer.
    waiting: Users<ConsulService>,
    waiting_for: BTreeMap<ObjectRef, ConsulService>,
    generation: u64,
}

/// Why an agent cannot be queried.
enum Unready {
    /// A Secret has not been read.
    Waiting,
    /// A Secret is missing or invalid: at which field, for which reason, and the fact.
    Wrong(&'static str, Reason, String),
}

impl Consul {
    /// What is known of a service.
    pub(super) fn state(&self, service: &ConsulService) -> Option<&ConsulState> {
        self.known.get(service)
    }

    /// What is wanted may differ.
    pub(super) fn note_change(&mut self) {
        self.generation += 1;
    }

    fn wait(&mut self, object: &ObjectRef, service: &ConsulService) {
        self.waiting.add(service, object);
        self.waiting_for.insert(object.clone(), service.clone());
        self.note_change();
    }

    /// The object uses what it waited for, or does not want it any more.
    pub(super) fn stop_waiting(&mut self, object: &ObjectRef) {
        if let Some(service) = self.waiting_for.remove(object) {
            self.waiting.remove(&service, object);
            self.note_change();
        }
    }
}

impl Store {
    pub(super) fn set_consul(&mut self, service: &ConsulService, state: Option<ConsulState>) {
        let state = state.map(|mut state| {
            let own_ports = &self.settings.own_ports;
            state
                .addresses
                .retain(|address| !super::cluster::own::is_own(address, own_ports));
            state
        });
        let old = match state {
            Some(state) => self.consul.known.insert(service.clone(), state),
            None => self.consul.known.remove(service),
        };
        let new = self.consul.known.get(service);
        if old.as_ref() != new {
            self.touched.push(Touched {
                subject: Subject::Consul(service.clone()),
                version: ResourceVersion::Unknown,
                is_gone: new.is_none(),
            });
        }
        let addresses = |state: Option<&ConsulState>| state.map(|state| state.addresses.clone());
        if addresses(old.as_ref()) != addresses(new) {
            let keys = self.clusters.endpoints_of_consul(service);
            self.dirty.endpoints.extend(keys.cloned());
            // several AuthServices are one cluster, which has their addresses
            let are_several = self.auth_services.iter().nth(1).is_some();
            self.auth_services.changed |= are_several;
        }
        if told(old.as_ref()) != told(new) {
            let keys = self.clusters.endpoints_of_consul(service);
            let clusters = keys.flat_map(|key| self.clusters.of_endpoints(key));
            let users = clusters.flat_map(|cluster| self.clusters.users(cluster));
            for user in users.chain(self.consul.waiting.of(service)) {
                self.dirty.link_again(user);
            }
        }
        if let Some(resolver) = &service.resolver {
            let Name { namespace, name } = resolver;
            let object = ObjectRef::new(Kind::ConsulResolver, namespace, name);
            self.dirty.reports.insert(object);
        }
    }

    /// Whether the addresses of a service are unknown only because its agent has not answered yet. If so, the object waits
    /// for the first answer.
    pub(super) fn has_to_wait_for_consul(
        &mut self,
        object: &ObjectRef,
        service: &ConsulService,
    ) -> bool {
        let waits = self.settings.queries_consul && !self.consul.known.contains_key(service);
        if waits {
            self.consul.wait(object, service);
        }
        waits
    }

    /// Whether some objects wait for a first answer, or need one: edge services do not wait for theirs.
    #[must_use]
    pub fn waits_for_consul(&self) -> bool {
        let is_unknown = |service: &ConsulService| self.consul.state(service).is_none();
        let mut wanted = self.wanted_consul().into_iter();
        self.settings.queries_consul
            && (!self.consul.waiting_for.is_empty()
                || wanted.any(|(service, agent)| agent.is_some() && is_unknown(&service)))
    }

    /// Equal as long as [`Store::wanted_consul`] is.
    #[must_use]
    pub fn wanted_consul_generation(&self) -> u64 {
        self.consul.generation
    }

    /// The services of Consul that something uses, or waits for.
    #[must_use]
    pub fn wanted_consul(&self) -> WantedConsul {
        let used = self.clusters.consul_services();
        let all: BTreeSet<&ConsulService> = used.chain(self.consul.waiting.keys()).collect();
        let mut agents: BTreeMap<Option<&Name>, Option<Arc<Agent>>> = BTreeMap::new();
        all.into_iter()
            .map(|service| {
                let agent = agents
                    .entry(service.resolver.as_ref())
                    .or_insert_with_key(|resolver| self.agent_of(*resolver));
                (service.clone(), agent.clone())
            })
            .collect()
    }

    /// The agent of a resolver, if it can be queried now.
    fn agent_of(&self, resolver: Option<&Name>) -> Option<Arc<Agent>> {
        let Some(name) = resolver else {
            return Some(Arc::default());
        };
        let object = ObjectRef::new(Kind::ConsulResolver, &name.namespace, &name.name);
        match self.resolvers.of(&object)? {
            ResolverKind::Consul(resolver) => self.agent(resolver).ok().map(Arc::new),
            _ => None,
        }
    }

    /// The agent of a resolver.
    fn agent(&self, resolver: &ConsulResolver) -> Result<Agent, Unready> {
        let token = resolver.token.as_ref();
        let trusted = resolver.trusted.as_ref();
        let certificate = resolver.certificate.as_ref();
        Ok(Agent {
            address: resolver.address.clone(),
            token: self.part("spec.token_secret", token, |secret| &secret.token)?,
            trusted: self.part("spec.ca_secret", trusted, |secret| &secret.trusted)?,
            certificate: self.part("spec.tls_secret", certificate, |secret| &secret.certificate)?,
            server_name: resolver.server_name.clone(),
        })
    }

    /// A part of a Secret, or of the one that it replaces.
    fn part<T: Clone>(
        &self,
        path: &'static str,
        name: Option<&Name>,
        part: impl Fn(&Secret) -> &Part<T>,
    ) -> Result<Option<T>, Unready> {
        let Some(name) = name else { return Ok(None) };
        let Some(secret) = self.secrets.get(name) else {
            if self.settings.reads_secrets_on_demand && self.secrets.is_unread(name) {
                return Err(Unready::Waiting);
            }
            let fact = format!("Secret {name} does not exist");
            return Err(Unready::Wrong(path, Reason::SECRET_NOT_FOUND, fact));
        };
        let part = part(secret);
        served(part).cloned().map(Some).ok_or_else(|| {
            let reason = part.as_ref().err().map(|unusable| unusable.reason.as_str());
            let reason = reason.unwrap_or_default();
            let fact = format!("Secret {name} cannot be used: {reason}");
            Unready::Wrong(path, Reason::INVALID_SECRET, fact)
        })
    }

    /// Why the agent of a resolver cannot be queried, until somebody changes a Secret.
    pub(super) fn consul_problem(&self, resolver: &ConsulResolver) -> Option<String> {
        match self.agent(resolver) {
            Err(Unready::Wrong(_, _, fact)) => Some(fact),
            Ok(_) | Err(Unready::Waiting) => None,
        }
    }

    pub(super) fn report_consul_resolver(&self, object: &ObjectRef, report: &mut Report) {
        let Some(ResolverKind::Consul(resolver)) = self.resolvers.of(object) else {
            return;
        };
        match self.agent(resolver) {
            Ok(_) => report.in_service = true,
            Err(Unready::Waiting) => {}
            Err(Unready::Wrong(path, reason, fact)) => {
                let message =
                    format!("{fact}; the agent is not queried, and known addresses are kept");
                report
                    .problems
                    .push(Problem::unresolved(reason, path, message));
            }
        }
        let name = Name::of(object);
        let own = |service: &ConsulService| service.resolver.as_ref() == Some(&name);
        let mut states = self.consul.known.iter().filter(|(service, _)| own(service));
        let failing = states.find_map(|(service, state)| Some((service, state.problem.as_ref()?)));
        if let Some((service, problem)) = failing {
            let message = format!(
                "service {}: {problem}; known addresses are kept",
                service.name
            );
            report.problems.push(Problem::unresolved(
                Reason::CONSUL_UNAVAILABLE,
                "spec.address",
                message,
            ));
        }
        if let Some(winner) = self.resolvers.winner(object)
            && winner != object
        {
            report.in_service = false;
            report.problems.push(Problem::ignored(
                Reason::CONFLICT,
                "metadata.name",
                format!("{winner} has the same name and is used instead"),
            ));
        }
    }
}

/// What users of a service are told: whether anything is known, which families have an address, and why requests get 503.
fn told(state: Option<&ConsulState>) -> Option<(bool, bool, Option<&str>)> {
    let state = state?;
    let has = |v4: bool| {
        state
            .addresses
            .iter()
            .any(|address| address.is_ipv4() == v4)
    };
    let problem = state.problem.as_deref();
    Some((
        has(true),
        has(false),
        problem.filter(|_| state.addresses.is_empty()),
    ))
}

#[cfg(test)]
mod tests;
