//! Secrets that other objects refer to: the metadata of all Secrets is watched, and the data is fetched only of those
//! that are wanted. No other Secret's data reaches this process.
//!
//! The first list is sent only when every wanted Secret was read, or is missing or forbidden: a Secret that cannot be
//! read for a moment must not remove a Host's TLS at startup.
//!
//! A fleet gets the Secrets that its own objects refer to, and no other. It does not wait for those of other fleets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::{
    StreamExt as _,
    future::{join_all, select_all},
    stream,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use super::{
    CONFIRM, Context, SETTLED, config,
    events::Events,
    known::{Known, Verdict},
    outage::{Cause, Outage, Reaction},
    resource,
};
use nuncio_core::{
    change::{Batch, Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    store::{Loss, WantedSecrets},
};

/// Secrets that are fetched in parallel.
const PARALLEL: usize = 16;

/// Pause before a failed fetch is retried.
const RETRY: Duration = Duration::from_secs(2);

/// `resourceVersion` of a Secret.
type Version = Option<String>;

/// A Secret, its version as the watch saw it, and the answer of the apiserver.
type Fetched = (
    ObjectRef,
    Option<Version>,
    Result<Option<Reconciled>, kube::Error>,
);

/// Keeps the wanted Secrets of each fleet up to date until the receiver of changes is gone.
pub async fn watch(context: Context, wanted: Vec<watch::Receiver<WantedSecrets>>) {
    let client = context.client.clone();
    let api: Api<PartialObjectMeta<Secret>> = match &context.settings().single_namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    context.progress.waiting(Kind::Secret, "not listed yet");
    // the Secrets in which Helm stores releases are large and never certificates
    let config = config(Kind::Secret, context.settings()).fields("type!=helm.sh/release.v1");
    let mut events = Events::new(api, config);
    let mut secrets = Secrets::new(context, wanted);
    loop {
        let mut fleets = secrets.fleets.iter();
        let is_incomplete = fleets.any(|fleet| !fleet.failing.is_empty());
        tokio::select! {
            event = events.next() => match event {
                Ok(event) => {
                    secrets.event(event).await;
                    if std::mem::take(&mut secrets.is_held) {
                        events.restart();
                        events.pause(CONFIRM);
                    }
                }
                Err(error) => {
                    secrets.error(&error);
                    if secrets.is_forbidden() {
                        events.pause(SETTLED);
                    }
                }
            },
            changed = changed(&mut secrets.fleets) => if !changed {
                return;
            },
            () = secrets.outage.quiet() => secrets.recover(),
            () = sleep(RETRY), if is_incomplete => {}
        }
        if !secrets.fetch().await {
            return;
        }
    }
}

/// Waits until a fleet wants others; false when the receiver of changes is gone.
async fn changed(fleets: &mut [Fleet]) -> bool {
    let each = fleets.iter_mut();
    let each = each.map(|fleet| Box::pin(fleet.wanted.changed()));
    let (changed, ..) = select_all(each).await;
    changed.is_ok()
}

struct Secrets {
    context: Context,
    /// Secrets that exist.
    present: BTreeMap<ObjectRef, Version>,
    listing: BTreeMap<ObjectRef, Version>,
    is_listed: bool,
    known: Known,
    /// Whether the last list must be confirmed.
    is_held: bool,
    outage: Outage,
    fleets: Vec<Fleet>,
}

/// The Secrets of a fleet.
struct Fleet {
    /// Its place among the fleets.
    number: usize,
    wanted: watch::Receiver<WantedSecrets>,
    /// Versions that were sent; `None` for a Secret that does not exist.
    sent: BTreeMap<ObjectRef, Option<Version>>,
    /// Whether the first list was sent.
    is_synced: bool,
    /// Secrets whose fetch failed and is retried.
    failing: BTreeSet<ObjectRef>,
}

impl Secrets {
    fn new(context: Context, wanted: Vec<watch::Receiver<WantedSecrets>>) -> Self {
        let fleet = |(number, wanted)| Fleet {
            number,
            wanted,
            sent: BTreeMap::new(),
            is_synced: false,
            failing: BTreeSet::new(),
        };
        Self {
            context,
            present: BTreeMap::new(),
            listing: BTreeMap::new(),
            is_listed: false,
            known: Known::default(),
            is_held: false,
            outage: Outage::default(),
            fleets: wanted.into_iter().enumerate().map(fleet).collect(),
        }
    }

    /// Whether each fleet has its first list.
    fn is_synced(&self) -> bool {
        self.fleets.iter().all(|fleet| fleet.is_synced)
    }

    fn recover(&mut self) {
        if self.outage.recover() {
            self.context.recovered(Kind::Secret);
        }
    }

    async fn event(&mut self, event: Event<PartialObjectMeta<Secret>>) {
        if !matches!(event, Event::Init) {
            self.recover();
        }
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(secret) => {
                let (object, version) = identity(secret);
                self.listing.insert(object, version);
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let names = || {
                    let objects = listing.keys();
                    objects.map(|object| (&*object.namespace, &*object.name))
                };
                let loss = if self.known.is_doubtful(names()) {
                    let objects = listing.keys().cloned().collect();
                    self.context.questions.loss(Kind::Secret, objects).await
                } else {
                    Loss::default()
                };
                if let Verdict::Hold(missing) = self.known.list(names(), loss.is_most()) {
                    let (known, listed) = (self.known.len(), listing.len());
                    let Loss { clusters, lost } = loss;
                    warn!(kind = %Kind::Secret, known, listed, missing, clusters, lost, "list lacks most known objects or clusters; keeping them until a second list confirms it");
                    self.is_held = true;
                    return;
                }
                self.present = listing;
                self.is_listed = true;
            }
            Event::Apply(secret) => {
                self.known.apply(&secret.metadata);
                let (object, version) = identity(secret);
                self.present.insert(object, version);
            }
            Event::Delete(secret) => {
                self.known.delete(&secret.metadata);
                self.present.remove(&identity(secret).0);
            }
        }
    }

    fn error(&mut self, error: &watcher::Error) {
        let (context, kind) = (&self.context, Kind::Secret);
        context.metrics.count_watch_error(kind);
        let cause = Cause::of(error);
        let reaction = self.outage.fail(cause, Instant::now());
        if !self.is_synced() {
            context.progress.waiting(kind, error.to_string());
        }
        match (reaction, cause) {
            (Reaction::Retry, _) => {}
            (Reaction::Settled, Cause::Forbidden(verb)) => context.missing_permission(kind, verb),
            (Reaction::Settled | Reaction::Log, _) => {
                warn!(%kind, %error, "watch failed; keeping the last known objects and retrying");
                let text =
                    format!("watch of {kind} failed, keeping the last known objects: {error}");
                context.progress.warn(kind.name(), text);
            }
        }
    }

    /// Whether the list is forbidden, and has been for a while.
    fn is_forbidden(&self) -> bool {
        matches!(self.outage.logged(), Some(Cause::Forbidden(_)))
    }

    /// Fetches for each fleet what it wants and what is out of date. False when the receiver is gone.
    async fn fetch(&mut self) -> bool {
        let (is_listed, is_forbidden) = (self.is_listed, self.is_forbidden());
        let (context, present) = (&self.context, &self.present);
        let was_synced = self.is_synced();
        let each = self.fleets.iter_mut().filter_map(|fleet| {
            let wanted = fleet.wanted.borrow_and_update().clone()?;
            // without a reference, the permission is not needed
            let is_empty = is_forbidden && (wanted.is_empty() || fleet.is_synced);
            let is_due = is_listed || is_empty;
            is_due.then_some(async move { fleet.fetch(context, present, &wanted).await })
        });
        let is_open = join_all(each).await.into_iter().all(|is_open| is_open);
        if self.is_synced() && !was_synced {
            self.context.progress.complete(Kind::Secret);
        }
        is_open
    }
}

impl Fleet {
    /// Fetches what is wanted and out of date. False when the receiver is gone.
    async fn fetch(
        &mut self,
        context: &Context,
        present: &BTreeMap<ObjectRef, Version>,
        wanted: &BTreeSet<ObjectRef>,
    ) -> bool {
        let received = Instant::now();
        let outdated: Vec<(ObjectRef, Option<Version>)> = wanted
            .iter()
            .map(|object| (object.clone(), present.get(object).cloned()))
            .filter(|(object, present)| self.sent.get(object) != Some(present))
            .collect();
        self.failing.retain(|object| wanted.contains(object));
        let dropped: Vec<ObjectRef> = self
            .sent
            .keys()
            .filter(|object| !wanted.contains(*object))
            .cloned()
            .collect();
        let fetched: Vec<Fetched> = stream::iter(outdated)
            .map(|(object, present)| async move {
                let found = if present.is_some() {
                    get(context, &object).await
                } else {
                    Ok(None)
                };
                (object, present, found)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let mut is_complete = true;
        let mut forbidden = None;
        let mut changes = Vec::new();
        let mut found = Vec::new();
        for (object, present, result) in fetched {
            match result {
                Ok(Some(reconciled)) if self.is_synced => {
                    changes.push(Change::Apply(Source::Api, Box::new(reconciled)))
                }
                Ok(Some(reconciled)) => found.push(reconciled),
                Ok(None) if self.is_synced => {
                    changes.push(Change::Delete(Source::Api, object.clone()))
                }
                Ok(None) => {}
                Err(error) => {
                    let is_forbidden =
                        matches!(&error, kube::Error::Api(status) if status.code == 403);
                    is_complete &= is_forbidden;
                    if is_forbidden {
                        forbidden = Some(object.clone());
                    }
                    if is_forbidden && self.is_synced && !self.sent.contains_key(&object) {
                        // taken for missing, so that what refers to it does not wait for ever
                        changes.push(Change::Delete(Source::Api, object.clone()));
                    }
                    if self.failing.insert(object.clone()) {
                        warn!(%object, %error, "cannot read Secret; keeping its last known data and retrying");
                    }
                    continue;
                }
            }
            self.failing.remove(&object);
            self.sent.insert(object, present);
        }
        for object in dropped {
            self.sent.remove(&object);
            changes.push(Change::Delete(Source::Api, object));
        }
        if !self.is_synced {
            // a permission that is missing for some Secrets only was withheld on purpose
            let must_wait = forbidden.filter(|_| found.is_empty());
            if !is_complete || must_wait.is_some() {
                // the first list is sent as a whole, after a retry
                self.sent.clear();
                let reason = unreadable(must_wait.as_ref());
                context.progress.waiting(Kind::Secret, reason);
                return true;
            }
            self.is_synced = true;
            changes.push(Change::Replace(Source::Api, Kind::Secret, found));
        }
        let batch = Batch::new(received, changes);
        batch.changes.is_empty() || context.changes.of(self.number).send(batch).await.is_ok()
    }
}

/// Why the first list is not complete; the object is one of those for which a permission is missing.
fn unreadable(forbidden: Option<&ObjectRef>) -> String {
    forbidden.map_or_else(
        || "a Secret in use cannot be read (see the log)".to_owned(),
        |object| {
            let resource = resource(Kind::Secret);
            format!("missing permission to get {resource}, such as {object}")
        },
    )
}

fn identity(secret: PartialObjectMeta<Secret>) -> (ObjectRef, Version) {
    let metadata = secret.metadata;
    let object = ObjectRef::new(
        Kind::Secret,
        &metadata.namespace.unwrap_or_default(),
        &metadata.name.unwrap_or_default(),
    );
    (object, metadata.resource_version)
}

/// The Secret, unless it was deleted meanwhile.
async fn get(context: &Context, object: &ObjectRef) -> Result<Option<Reconciled>, kube::Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &object.namespace);
    let secret = api.get_opt(&object.name).await?;
    Ok(secret.and_then(|secret| {
        let value = serde_json::to_value(&secret).ok()?;
        Some(reconcile(Kind::Secret, value, context.settings()))
    }))
}
