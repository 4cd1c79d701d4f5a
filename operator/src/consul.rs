//! Consul as a source: one blocking query for each service that the Store wants, and its passing instances as changes.
//!
//! What is known of a service stays while its agent is away, and while the agent is replaced by another. A service of which
//! nothing is known yet gets a state within [`PATIENCE`], so that nobody waits for an agent that does not answer.
//!
//! No problem and no log entry has a token, or what the environment variables of an address stand for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use self::slots::Slots;
use crate::{fan_out::Changes, metrics::Metrics};
use nuncio_core::{
    change::{Batch, Change},
    consul::{Agent, ConsulService, ConsulState, WantedConsul},
    reconcile::Name,
};

mod connection;
mod environment;
mod health;
mod service;
mod slots;
mod target;

pub use environment::Environment;

/// How long nothing may be known of a service.
const PATIENCE: Duration = Duration::from_secs(3);
/// Events that wait for [`follow`].
const EVENTS: usize = 64;

/// What the watch of a service has found.
#[derive(Debug)]
struct Event {
    service: ConsulService,
    /// Of which watch of the service.
    epoch: u64,
    found: Found,
}

#[derive(Debug)]
enum Found {
    /// Addresses of the passing instances, sorted.
    Addresses(Vec<SocketAddr>),
    /// Why they cannot be found.
    Failure(String),
}

/// Follows the wanted services until the receiver of changes is gone.
pub async fn follow(
    mut wanted: watch::Receiver<WantedConsul>,
    changes: Changes,
    environment: Environment,
    metrics: Metrics,
) {
    let (events, mut found) = mpsc::channel(EVENTS);
    let mut services = Services {
        environment: Arc::new(environment),
        events,
        tasks: JoinSet::new(),
        epochs: 0,
        slots: BTreeMap::new(),
        services: BTreeMap::new(),
        unknown: BTreeSet::new(),
        failing: BTreeMap::new(),
        metrics,
    };
    loop {
        let wanted_now = wanted.borrow_and_update().clone();
        let mut all = services.want(&wanted_now);
        services.count();
        if !all.is_empty() && changes.send(batch(all)).await.is_err() {
            return;
        }
        loop {
            let deadline = services.deadline();
            let wait = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            all = tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    Err(_stopping) => return,
                },
                Some(event) = found.recv() => {
                    let mut all: Vec<Change> = services.note(event).into_iter().collect();
                    while let Ok(event) = found.try_recv() {
                        all.extend(services.note(event));
                    }
                    all
                }
                () = wait => services.settle(Instant::now()),
                // a watch never ends by itself
                Some(Err(error)) = services.tasks.join_next() => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                    continue;
                }
            };
            services.count();
            if !all.is_empty() && changes.send(batch(all)).await.is_err() {
                return;
            }
        }
    }
}

/// Changes that are received now.
fn batch(changes: Vec<Change>) -> Batch {
    Batch::new(Instant::now().into_std(), changes)
}

/// The services that are watched.
struct Services {
    environment: Arc<Environment>,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    epochs: u64,
    slots: BTreeMap<Option<Arc<str>>, Arc<Slots>>,
    services: BTreeMap<ConsulService, Service>,
    /// Services of which nothing is known though their agent is queried, by the time from which on.
    unknown: BTreeSet<(Instant, ConsulService)>,
    /// Services whose agent fails, by their resolver.
    failing: BTreeMap<Option<Name>, BTreeSet<ConsulService>>,
    metrics: Metrics,
}

/// A service.
struct Service {
    agent: Option<Arc<Agent>>,
    task: Option<AbortHandle>,
    epoch: u64,
    wanted_since: Instant,
    /// What was sent; `None`: nothing.
    sent: Option<ConsulState>,
    /// Why nothing is known of it.
    failure: Option<String>,
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Services {
    /// Starts and stops watches, so that there is one for each of these.
    fn want(&mut self, wanted: &WantedConsul) -> Vec<Change> {
        let gone = self
            .services
            .keys()
            .filter(|name| !wanted.contains_key(*name));
        let gone: Vec<ConsulService> = gone.cloned().collect();
        let mut changes = Vec::new();
        for name in gone {
            if let Some(service) = self.services.remove(&name) {
                self.unknown.remove(&(service.wanted_since, name.clone()));
            }
            self.note_problem(&name, None);
            changes.push(Change::Consul(name, None));
        }
        for (name, agent) in wanted {
            let now = Instant::now();
            let service = self
                .services
                .entry(name.clone())
                .or_insert_with(|| Service {
                    agent: None,
                    task: None,
                    epoch: 0,
                    wanted_since: now,
                    sent: None,
                    failure: None,
                });
            if service.agent == *agent {
                continue;
            }
            let mark = |since| (since, name.clone());
            self.unknown.remove(&mark(service.wanted_since));
            if service.agent.is_none() {
                service.wanted_since = now;
            }
            if service.sent.is_none() && agent.is_some() {
                self.unknown.insert(mark(service.wanted_since));
            }
            if let Some(task) = service.task.take() {
                task.abort();
            }
            service.agent.clone_from(agent);
            self.epochs += 1;
            service.epoch = self.epochs;
            let Some(agent) = agent else { continue };
            let slots = self.slots.entry(agent.address.clone()).or_default();
            let watch = service::Watch {
                service: name.clone(),
                epoch: self.epochs,
                agent: agent.clone(),
                environment: self.environment.clone(),
                slots: slots.clone(),
                events: self.events.clone(),
            };
            service.task = Some(self.tasks.spawn(watch.run(slots.enter())));
        }
        self.slots.retain(|_, slots| Arc::strong_count(slots) > 1);
        changes
    }

    /// Notes what a watch has found.
    fn note(&mut self, event: Event) -> Option<Change> {
        let service = self.services.get_mut(&event.service)?;
        if service.epoch != event.epoch {
            return None;
        }
        let state = match event.found {
            Found::Addresses(addresses) => ConsulState {
                addresses,
                problem: None,
            },
            Found::Failure(problem) => match &service.sent {
                Some(sent) => ConsulState {
                    addresses: sent.addresses.clone(),
                    problem: Some(problem),
                },
                None => {
                    // the agent may be about to start
                    service.failure = Some(problem);
                    return None;
                }
            },
        };
        self.send(&event.service, state)
    }

    /// When the patience with some service ends.
    fn deadline(&self) -> Option<Instant> {
        self.unknown.first().map(|(since, _)| *since + PATIENCE)
    }

    /// Gives a state to services of which nothing has been known for too long.
    fn settle(&mut self, now: Instant) -> Vec<Change> {
        let late = self.unknown.iter();
        let late = late.take_while(|(since, _)| *since + PATIENCE <= now);
        let late: Vec<ConsulService> = late.map(|(_, name)| name.clone()).collect();
        late.into_iter()
            .filter_map(|name| {
                let service = self.services.get_mut(&name)?;
                let address = service.agent.as_ref()?.address.clone();
                let problem = service.failure.take().unwrap_or_else(|| {
                    let shown = self.environment.shown(address.as_deref());
                    format!(
                        "Consul agent at {shown}: no answer within {} s",
                        PATIENCE.as_secs()
                    )
                });
                let state = ConsulState {
                    addresses: Vec::new(),
                    problem: Some(problem),
                };
                self.send(&name, state)
            })
            .collect()
    }

    /// The state of a service as a change, if it differs from the one before.
    fn send(&mut self, name: &ConsulService, state: ConsulState) -> Option<Change> {
        let service = self.services.get_mut(name)?;
        if service.sent.as_ref() == Some(&state) {
            return None;
        }
        self.unknown.remove(&(service.wanted_since, name.clone()));
        service.sent = Some(state.clone());
        self.note_problem(name, state.problem.as_deref());
        Some(Change::Consul(name.clone(), Some(state)))
    }

    /// Notes why the agent of a service fails, and logs the first failure for a resolver and the end of the last.
    fn note_problem(&mut self, service: &ConsulService, problem: Option<&str>) {
        let resolver = &service.resolver;
        let Some(problem) = problem else {
            let Some(failing) = self.failing.get_mut(resolver) else {
                return;
            };
            failing.remove(service);
            if failing.is_empty() {
                self.failing.remove(resolver);
                info!(
                    resolver = shown(resolver.as_ref()),
                    "Consul agent recovered"
                );
            }
            return;
        };
        let failing = self.failing.entry(resolver.clone()).or_default();
        if failing.is_empty() {
            warn!(resolver = shown(resolver.as_ref()), %service, problem, "Consul agent failed; keeping known addresses and retrying");
        }
        failing.insert(service.clone());
    }

    /// Counts services, and those that fail.
    fn count(&self) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let failing = self.failing.values().map(BTreeSet::len).sum();
        self.metrics.consul_failing.set(number(failing));
        self.metrics
            .consul_services
            .set(number(self.services.len()));
    }
}

/// A resolver in logs.
fn shown(resolver: Option<&Name>) -> String {
    resolver.map_or_else(|| "consul".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests;
