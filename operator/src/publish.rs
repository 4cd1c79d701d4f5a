//! The publish loop: changes are applied to the Store, dirty units are rendered, what differs goes to the snapshot cache,
//! and reports go to the status book.
//!
//! There is no debounce: a change is published at once. Changes that arrive during a round are applied together in the
//! next one; slow Envoys skip to the newest snapshot by themselves.
//!
//! Nothing is published before every source has been listed: a snapshot of a part would remove configuration. Consul counts
//! as listed when there is a state for each service that is used; who queries it gives one soon, even without an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nuncio_xds::{
    Unit,
    cache::Update,
    fleet::{CANNOT_BIND, Fleet, Rejection},
    ir::ListenerKey,
    quarantine::{Culprit, Culprits, Elsewhere, Quarantine},
    render,
    resource::Ref,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{interval, sleep_until},
};
use tracing::{debug, info};

use self::{attribution::Attribution, oldest::Oldest};
use crate::{
    gateway::Gateways,
    ingress_status::ServedIngresses,
    journal::{Journal, LISTED, Pending, Publication, Round},
    metrics::Metrics,
    owner_events::OwnerProblems,
    status::Book,
};
use nuncio_core::{
    change::{Batch, Change, Source},
    consul::WantedConsul,
    last_usable::LastUsable,
    object::{Kind, ObjectRef},
    settings::Settings,
    store::{Loss, Outcome, Store, WantedSecrets},
};

mod attribution;
mod fallback;
mod oldest;

/// How often certificates are checked for having expired.
const CLOCK: Duration = Duration::from_secs(60);

/// Where the loop sends its results.
pub struct Outputs {
    /// The snapshot for Envoys.
    pub quarantine: Quarantine,
    /// The connected Envoys and what they rejected.
    pub fleet: Fleet,
    /// What other replicas hear of that.
    pub rejections: watch::Sender<Vec<Rejection>>,
    /// What is heard of other replicas.
    pub elsewhere: watch::Receiver<Elsewhere>,
    /// The gateway, for readers.
    pub gateways: Gateways,
    /// What was published, and why.
    pub journal: Journal,
    /// Reports and statuses of objects.
    pub book: Book,
    /// Becomes true with the first snapshot.
    pub ready: watch::Sender<bool>,
    /// Listeners whose addresses an Envoy cannot bind.
    pub unbound: watch::Sender<Vec<String>>,
    /// The Secrets to fetch.
    pub wanted_secrets: watch::Sender<WantedSecrets>,
    /// The services of Consul to query.
    pub wanted_consul: watch::Sender<WantedConsul>,
    /// The Ingresses that are served.
    pub served_ingresses: watch::Sender<ServedIngresses>,
    /// Services and Ingresses with problems.
    pub owner_problems: watch::Sender<OwnerProblems>,
    /// Metrics of this loop.
    pub metrics: Metrics,
}

/// What would be lost if the apiserver had only these objects of a kind? Asked before a list is believed.
#[derive(Debug)]
pub struct Question {
    /// The kind.
    pub kind: Kind,
    /// The objects in the list.
    pub listed: BTreeSet<ObjectRef>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Loss>,
}

/// Runs until the sources are gone. The objects of `fallback` are served until every source has been listed.
pub async fn run(
    mut inputs: mpsc::Receiver<Batch>,
    mut questions: mpsc::Receiver<Question>,
    outputs: Outputs,
    settings: Settings,
    fallback: Vec<Change>,
) {
    let mut rejections = outputs.fleet.subscribe_rejections();
    let mut elsewhere = outputs.elsewhere.clone();
    let mut oldest = outputs.fleet.subscribe_oldest();
    let gateways = outputs.gateways.clone();
    let mut publisher = Publisher::new(outputs, settings.clone());
    publisher.publish_fallback(fallback, &settings);
    let mut clock = interval(CLOCK);
    loop {
        tokio::select! {
            batch = inputs.recv() => {
                let Some(batch) = batch else { return };
                publisher.apply(batch);
                while let Ok(more) = inputs.try_recv() {
                    publisher.apply(more);
                }
                publisher.publish();
            }
            () = gateways.wanted() => publisher.show(),
            Some(question) = questions.recv() => publisher.answer(question),
            Ok(()) = rejections.changed() => publisher.report_rejections(),
            Ok(()) = elsewhere.changed() => {
                let heard = elsewhere.borrow_and_update().clone();
                publisher.outputs.quarantine.hear(heard);
                publisher.check_versions();
                publisher.report_rejections();
            }
            Ok(()) = oldest.changed() => publisher.check_versions(),
            () = until(publisher.oldest.deadline()) => publisher.check_versions(),
            _ = clock.tick() => {
                publisher.store.set_time(Timestamp::now().as_second());
                publisher.publish();
                publisher.outputs.quarantine.review();
            }
        }
        publisher.record();
    }
}

/// Waits until then, if there is such a time.
async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

struct Publisher {
    outputs: Outputs,
    store: Store,
    /// What this replica remembers of Secrets and of the Module's script.
    last_usable: LastUsable,
    /// Kinds that have been listed.
    synced: BTreeSet<Kind>,
    published: bool,
    /// What was published before.
    fallback: BTreeSet<Unit>,
    attribution: Attribution,
    rejections: Vec<Rejection>,
    culprits: Culprits,
    /// Those that were reported.
    reported: Vec<Culprit>,
    /// Generation of the wanted Secrets that were sent.
    wanted: Option<(u64, bool)>,
    /// Generation of the wanted services of Consul that were sent.
    wanted_consul: u64,
    /// What changed since the last round that could be published.
    pending: Pending,
    /// The last snapshot with an update.
    shown: Option<u64>,
    /// The last round, until it is recorded.
    round: Option<Round>,
    oldest: Oldest,
}

impl Publisher {
    fn new(mut outputs: Outputs, settings: Settings) -> Self {
        outputs.quarantine.record(LISTED);
        Self {
            outputs,
            store: Store::new(settings),
            last_usable: LastUsable::default(),
            synced: BTreeSet::new(),
            published: false,
            fallback: BTreeSet::new(),
            attribution: Attribution::default(),
            rejections: Vec::new(),
            culprits: Culprits::default(),
            reported: Vec::new(),
            wanted: None,
            wanted_consul: 0,
            pending: Pending::default(),
            shown: None,
            round: None,
            oldest: Oldest::default(),
        }
    }

    fn apply(&mut self, batch: Batch) {
        let count = batch.changes.len() as u64;
        self.outputs.metrics.changes.inc_by(count);
        for change in batch.changes {
            if let Change::Replace(Source::Api, kind, _) = &change {
                self.synced.insert(*kind);
            }
            self.store.apply(self.last_usable.complete(change));
            let touched = self.store.touched();
            self.pending.add(batch.received, &batch.deleted, touched);
        }
    }

    /// Files objects for the oldest version of a connected Envoy, also of other replicas.
    fn check_versions(&mut self) {
        let here = *self.outputs.fleet.subscribe_oldest().borrow();
        let elsewhere = self.outputs.elsewhere.borrow().oldest;
        let connected = here.into_iter().chain(elsewhere).min();
        if let Some(oldest) = self.oldest.observe(connected, tokio::time::Instant::now()) {
            debug!(%oldest, "objects are served for another oldest version of Envoy");
            self.store.apply(Change::OldestEnvoy(oldest));
            self.publish();
        }
    }

    /// Publishes objects that the first snapshot replaces. The process is not ready yet.
    fn publish_fallback(&mut self, changes: Vec<Change>, settings: &Settings) {
        if let Some((update, units)) = fallback::resources(changes, settings) {
            let resources = update.upserts.len();
            self.fallback = units;
            self.outputs.quarantine.apply(update);
            self.record();
            info!(
                resources,
                "published the static configuration, which is served until the cluster has been listed"
            );
        }
    }

    fn publish(&mut self) {
        let is_missing = |except: Option<Kind>| {
            Kind::WATCHED
                .into_iter()
                .any(|kind| Some(kind) != except && !self.synced.contains(&kind))
        };
        if is_missing(Some(Kind::Secret)) {
            return;
        }
        let first = !self.published;
        if is_missing(None) {
            // linking finds the wanted Secrets; what it made dirty is kept until they are there
            let early = self.store.link();
            self.send_wanted_secrets();
            self.send_wanted_consul();
            self.store.keep(early);
            return;
        }
        let started = Instant::now();
        let mut outcome = self.store.link();
        outcome.units.append(&mut self.fallback);
        let linked = started.elapsed();
        self.send_served_ingresses();
        self.send_wanted_secrets();
        self.send_wanted_consul();
        if first && self.store.waits_for_consul() {
            self.store.keep(outcome);
            return;
        }
        let certificates = mem::take(&mut outcome.certificates);
        let certificates = certificates.iter().map(|name| {
            let served = self.store.served_certificate(name);
            (&**name, served)
        });
        self.outputs.metrics.count_certificates(certificates);
        let causes = self.pending.take();
        if outcome.units.is_empty() && outcome.reports.is_empty() && !first {
            return;
        }
        let update = self.render(&outcome);
        let (upserts, removals) = (update.upserts.len(), update.removals.len());
        if first {
            let rejected = self.outputs.book.observed_rejected();
            self.attribution.start(&update, rejected);
        } else {
            let changed = outcome.reports.iter().map(|(object, _)| object.clone());
            let quarantine = &mut self.outputs.quarantine;
            quarantine.review();
            let is_tried = |resource: &Ref| quarantine.is_tried(resource);
            self.attribution
                .record(&update, changed.collect(), is_tried);
        }
        let seq = self.outputs.quarantine.apply(update);
        self.round = Some(Round {
            seq,
            is_first: first,
            causes,
            linking: linked,
            rendering: started.elapsed().saturating_sub(linked),
        });
        self.record();
        self.show_as(seq);
        let owners = &self.outputs.owner_problems;
        owners.send_if_modified(|all| all.collect(&outcome.reports));
        self.outputs.book.record(seq, outcome.reports);
        self.outputs
            .metrics
            .published(started.elapsed(), upserts + removals);
        if first {
            self.published = true;
            info!(resources = upserts, "published first snapshot");
            self.outputs.ready.send_replace(true);
        } else {
            debug!(seq, upserts, removals, "published snapshot");
        }
        if !self.outputs.unbound.borrow().is_empty() {
            // others may be behind the Listener now
            self.rejections.clear();
        }
        self.report_rejections();
    }

    /// Shows readers what was published last.
    fn show(&mut self) {
        if let Some(seq) = self.shown {
            self.show_as(seq);
        }
    }

    fn show_as(&mut self, seq: u64) {
        self.shown = Some(seq);
        self.outputs.gateways.show(seq, &self.store);
    }

    /// Records in the journal what was published since the last call.
    fn record(&mut self) {
        for published in self.outputs.quarantine.take_published() {
            let round = self.round.take_if(|round| round.seq == published.seq);
            let publication = Publication::of(published, round, Timestamp::now());
            if let Some(received) = publication.received() {
                let time = publication.at.saturating_duration_since(received);
                self.outputs
                    .metrics
                    .change_published
                    .observe(time.as_secs_f64());
            }
            self.outputs.journal.record(publication);
        }
        self.round = None;
    }

    fn answer(&mut self, question: Question) {
        let Question {
            kind,
            listed,
            answer,
        } = question;
        // nothing is served that could be lost before the first snapshot
        let loss = if self.published {
            self.store.loss(Source::Api, kind, &listed)
        } else {
            Loss::default()
        };
        // the watch may be gone
        let _ = answer.send(loss);
    }

    /// Renders the dirty units.
    fn render(&mut self, outcome: &Outcome) -> Update {
        let ir = self.store.ir();
        let mut update = Update::default();
        for unit in &outcome.units {
            let resource = match unit {
                Unit::RouteTable(key) => match ir.route_tables.get(key) {
                    Some(table) => Some(self.culprits.resource(table)),
                    None => {
                        self.culprits.forget(key);
                        None
                    }
                },
                _ => render(unit, ir),
            };
            match resource {
                Some(resource) => update.upserts.push(resource),
                None => update.removals.push((unit.kind(), unit.name())),
            }
        }
        update
    }

    fn send_served_ingresses(&self) {
        let ingresses = self.store.served_ingresses();
        self.outputs.served_ingresses.send_if_modified(|told| {
            let differs = !Arc::ptr_eq(told, ingresses) && told != ingresses;
            told.clone_from(ingresses);
            differs
        });
    }

    fn send_wanted_secrets(&mut self) {
        let generation = Some(self.store.wanted_generation());
        if self.wanted == generation {
            return;
        }
        self.wanted = generation;
        let wanted = self.store.wanted_secrets();
        self.outputs.wanted_secrets.send_if_modified(|current| {
            let differs = current.as_deref() != Some(&wanted);
            if differs {
                *current = Some(Arc::new(wanted));
            }
            differs
        });
    }

    fn send_wanted_consul(&mut self) {
        let generation = self.store.wanted_consul_generation();
        if self.wanted_consul == generation {
            return;
        }
        self.wanted_consul = generation;
        let wanted = self.store.wanted_consul();
        self.outputs.wanted_consul.send_if_modified(|current| {
            let differs = *current != wanted;
            if differs {
                *current = wanted;
            }
            differs
        });
    }

    /// Searches the routes because of which Envoys reject a table without a good version.
    fn search(&mut self) {
        let mut update = Update::default();
        for rejection in self.outputs.quarantine.unreplaced() {
            if let Some(Unit::RouteTable(key)) = Unit::parse(rejection.kind, &rejection.name)
                && let Some(table) = self.store.ir().route_tables.get(&key)
            {
                let (version, message) = (rejection.version, &rejection.message);
                let next = self.culprits.rejected(table, version, message);
                update.upserts.extend(next);
            }
        }
        if !update.is_empty() {
            self.outputs.quarantine.apply(update);
        }
    }

    /// Reports what Envoys reject on the objects that it is attributed to. If the address of a Listener cannot be bound, that
    /// is everything behind it which no other Listener serves.
    fn report_rejections(&mut self) {
        self.outputs.quarantine.review();
        self.search();
        let quarantine = &self.outputs.quarantine;
        let count = i64::try_from(quarantine.len()).unwrap_or(i64::MAX);
        self.outputs.metrics.quarantined.set(count);
        let mut rejections = quarantine.rejections();
        for rejection in &mut rejections {
            // what Envoy says to a probe is of no use to anybody
            if let Some(Unit::RouteTable(key)) = Unit::parse(rejection.kind, &rejection.name)
                && let Some(message) = self.culprits.searched(&key)
            {
                rejection.message = message.clone();
            }
        }
        self.outputs.rejections.send_if_modified(|announced| {
            let differs = *announced != rejections;
            announced.clone_from(&rejections);
            differs
        });
        let found: Vec<Culprit> = self.culprits.found().cloned().collect();
        if rejections == self.rejections && found == self.reported {
            return;
        }
        let mut rejected: BTreeMap<ObjectRef, String> = BTreeMap::new();
        let mut unbound = Vec::new();
        let cannot_bind = |rejection: &Rejection| match Unit::parse(rejection.kind, &rejection.name)
        {
            Some(Unit::Listener(key)) if rejection.message.contains(CANNOT_BIND) => Some(key),
            _ => None,
        };
        let unbound_keys: BTreeSet<ListenerKey> =
            rejections.iter().filter_map(cannot_bind).collect();
        for rejection in &rejections {
            let Some(unit) = Unit::parse(rejection.kind, &rejection.name) else {
                continue;
            };
            let concerned: BTreeSet<ObjectRef> = match &unit {
                Unit::Listener(key) if unbound_keys.contains(key) => {
                    unbound.push(format!("{}: {}", rejection.name, rejection.message));
                    self.store.served_only_on(*key, &unbound_keys)
                }
                _ => {
                    let owners = self.store.owners(&unit);
                    self.attribution.concerned(&unit, owners)
                }
            };
            for object in concerned {
                rejected
                    .entry(object)
                    .or_insert_with(|| rejection.message.to_string());
            }
        }
        for culprit in &found {
            // the name of a route is that of its Mapping
            if let Some((namespace, name)) = culprit.route.name.split_once('/') {
                let mapping = ObjectRef::new(Kind::Mapping, namespace, name);
                rejected.insert(mapping, culprit.effect());
            }
        }
        // an object that another one stands for is not in the cluster
        let owned = rejected.iter().filter_map(|(object, message)| {
            let owner = self.store.reports().get(object)?.owner.as_deref()?;
            Some((owner.clone(), message.clone()))
        });
        let owned: Vec<_> = owned.collect();
        for (owner, message) in owned {
            rejected.entry(owner).or_insert(message);
        }
        self.outputs.unbound.send_replace(unbound);
        self.rejections = rejections;
        self.reported = found;
        let owners = &self.outputs.owner_problems;
        owners.send_if_modified(|all| all.reject(&rejected));
        self.outputs.book.reject(rejected.into_iter().collect());
    }
}

#[cfg(test)]
mod tests;
