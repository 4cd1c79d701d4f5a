//! The publish loop: changes are applied to the Store, dirty units are rendered, what differs goes to the snapshot cache,
//! and reports go to the status book.
//!
//! There is no debounce: a change is published at once. Changes that arrive during a round are applied together in the
//! next one; slow Envoys skip to the newest snapshot by themselves.
//!
//! Nothing is published before every source has been listed: a snapshot of a part would remove configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nuncio_xds::{
    Unit,
    cache::{Update, Writer},
    fleet::{CANNOT_BIND, Fleet, Rejection},
    ir::ListenerKey,
    render,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::interval,
};
use tracing::{debug, info};

use self::attribution::Attribution;
use crate::{metrics::Metrics, status::Book};
use nuncio_core::{
    change::{Change, Source},
    last_usable::LastUsable,
    object::{Kind, ObjectRef},
    settings::Settings,
    store::{Loss, Outcome, Store, WantedSecrets},
};

mod attribution;

/// How often certificates are checked for having expired.
const CLOCK: Duration = Duration::from_secs(60);

/// Where the loop sends its results.
pub struct Outputs {
    /// The snapshot for Envoys.
    pub writer: Writer,
    /// The connected Envoys and what they rejected.
    pub fleet: Fleet,
    /// Reports and statuses of objects.
    pub book: Book,
    /// Becomes true with the first snapshot.
    pub ready: watch::Sender<bool>,
    /// Listeners whose addresses an Envoy cannot bind.
    pub unbound: watch::Sender<Vec<String>>,
    /// The Secrets to fetch.
    pub wanted_secrets: watch::Sender<WantedSecrets>,
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

/// Runs until the sources are gone.
pub async fn run(
    mut inputs: mpsc::Receiver<Vec<Change>>,
    mut questions: mpsc::Receiver<Question>,
    outputs: Outputs,
    settings: Settings,
) {
    let mut rejections = outputs.fleet.subscribe_rejections();
    let mut publisher = Publisher::new(outputs, settings);
    let mut clock = interval(CLOCK);
    loop {
        tokio::select! {
            changes = inputs.recv() => {
                let Some(changes) = changes else { return };
                publisher.apply(changes);
                while let Ok(more) = inputs.try_recv() {
                    publisher.apply(more);
                }
                publisher.publish();
            }
            Some(question) = questions.recv() => publisher.answer(question),
            Ok(()) = rejections.changed() => publisher.report_rejections(),
            _ = clock.tick() => {
                publisher.store.set_time(Timestamp::now().as_second());
                publisher.publish();
            }
        }
    }
}

struct Publisher {
    outputs: Outputs,
    store: Store,
    /// What this replica remembers of Secrets.
    last_usable: LastUsable,
    /// Kinds that have been listed.
    synced: BTreeSet<Kind>,
    published: bool,
    attribution: Attribution,
    rejections: Vec<Rejection>,
    /// Generation of the wanted Secrets that were sent.
    wanted: Option<(u64, bool)>,
}

impl Publisher {
    fn new(outputs: Outputs, settings: Settings) -> Self {
        Self {
            outputs,
            store: Store::new(settings),
            last_usable: LastUsable::default(),
            synced: BTreeSet::new(),
            published: false,
            attribution: Attribution::default(),
            rejections: Vec::new(),
            wanted: None,
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        self.outputs.metrics.changes.inc_by(changes.len() as u64);
        for change in changes {
            if let Change::Replace(Source::Api, kind, _) = &change {
                self.synced.insert(*kind);
            }
            self.store.apply(self.last_usable.complete(change));
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
            self.store.keep(early);
            return;
        }
        let started = Instant::now();
        let mut outcome = self.store.link();
        self.send_wanted_secrets();
        let certificates = mem::take(&mut outcome.certificates);
        let certificates = certificates.iter().map(|name| {
            let served = self.store.served_certificate(name);
            (&**name, served)
        });
        self.outputs.metrics.count_certificates(certificates);
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
            self.attribution.record(&update, changed.collect());
        }
        let seq = self.outputs.writer.apply(update);
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
            self.report_rejections();
        }
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
    fn render(&self, outcome: &Outcome) -> Update {
        let ir = self.store.ir();
        let mut update = Update::default();
        for unit in &outcome.units {
            match render(unit, ir) {
                Some(resource) => update.upserts.push(resource),
                None => update.removals.push((unit.kind(), unit.name())),
            }
        }
        update
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

    /// Reports what Envoys reject on the objects that it is attributed to. If the address of a Listener cannot be bound, that
    /// is everything behind it which no other Listener serves.
    fn report_rejections(&mut self) {
        let rejections = self.outputs.fleet.rejections();
        if rejections == self.rejections {
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
        self.outputs.unbound.send_replace(unbound);
        self.rejections = rejections;
        self.outputs.book.reject(rejected.into_iter().collect());
    }
}
