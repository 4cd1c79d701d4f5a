//! Secrets that other objects refer to: the metadata of all Secrets is watched, and the data is fetched only of those
//! that are wanted. No other Secret's data reaches this process.
//!
//! The first list is sent only when every wanted Secret was read, or is missing or forbidden: a Secret that cannot be
//! read for a moment must not remove a Host's TLS at startup.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{Context, Outage, Reaction, backoff, config};
use nuncio_core::{
    change::{Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    store::WantedSecrets,
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

/// Keeps the wanted Secrets up to date until the receiver of changes is gone.
pub async fn watch(context: Context, mut wanted: watch::Receiver<WantedSecrets>) {
    let client = context.client.clone();
    let api: Api<PartialObjectMeta<Secret>> = match &context.settings.single_namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    context.progress.waiting(Kind::Secret, "not listed yet");
    // the Secrets in which Helm stores releases are large and never certificates
    let fields = context.settings.field_selector.as_ref().map_or_else(
        || "type!=helm.sh/release.v1".to_owned(),
        |own| format!("{own},type!=helm.sh/release.v1"),
    );
    let mut events = watcher::watcher(api, config(&context.settings).fields(&fields))
        .backoff(backoff())
        .boxed();
    let mut secrets = Secrets::new(context);
    loop {
        let is_incomplete = !secrets.failing.is_empty();
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => secrets.event(event),
                Some(Err(error)) => secrets.error(&error),
                None => return,
            },
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = sleep(RETRY), if is_incomplete => {}
        }
        let wanted = wanted.borrow_and_update().clone();
        if let Some(wanted) = wanted
            && secrets.is_listed
            && !secrets.fetch(&wanted).await
        {
            return;
        }
    }
}

struct Secrets {
    context: Context,
    /// Secrets that exist.
    present: BTreeMap<ObjectRef, Version>,
    listing: BTreeMap<ObjectRef, Version>,
    is_listed: bool,
    outage: Outage,
    /// Versions that were sent; `None` for a Secret that does not exist.
    sent: BTreeMap<ObjectRef, Option<Version>>,
    /// Whether the first list was sent.
    is_synced: bool,
    /// Secrets whose fetch failed and is retried.
    failing: BTreeSet<ObjectRef>,
}

impl Secrets {
    fn new(context: Context) -> Self {
        Self {
            context,
            present: BTreeMap::new(),
            listing: BTreeMap::new(),
            is_listed: false,
            outage: Outage::default(),
            sent: BTreeMap::new(),
            is_synced: false,
            failing: BTreeSet::new(),
        }
    }

    fn event(&mut self, event: Event<PartialObjectMeta<Secret>>) {
        if !matches!(event, Event::Init) && self.outage.recover() {
            info!(kind = %Kind::Secret, "watch recovered");
        }
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(secret) => {
                let (object, version) = identity(secret);
                self.listing.insert(object, version);
            }
            Event::InitDone => {
                self.present = std::mem::take(&mut self.listing);
                self.is_listed = true;
            }
            Event::Apply(secret) => {
                let (object, version) = identity(secret);
                self.present.insert(object, version);
            }
            Event::Delete(secret) => {
                self.present.remove(&identity(secret).0);
            }
        }
    }

    fn error(&mut self, error: &watcher::Error) {
        self.context.metrics.count_watch_error(Kind::Secret);
        // every cluster has this kind
        if self.outage.fail(false, Instant::now()) == Reaction::Log {
            warn!(kind = %Kind::Secret, %error, "watch failed; keeping the last known objects and retrying");
            self.context
                .progress
                .waiting(Kind::Secret, error.to_string());
        }
    }

    /// Fetches what is wanted and out of date. False when the receiver is gone.
    async fn fetch(&mut self, wanted: &BTreeSet<ObjectRef>) -> bool {
        let outdated: Vec<(ObjectRef, Option<Version>)> = wanted
            .iter()
            .map(|object| (object.clone(), self.present.get(object).cloned()))
            .filter(|(object, present)| self.sent.get(object) != Some(present))
            .collect();
        self.failing.retain(|object| wanted.contains(object));
        let dropped: Vec<ObjectRef> = self
            .sent
            .keys()
            .filter(|object| !wanted.contains(*object))
            .cloned()
            .collect();
        let context = &self.context;
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
            if !is_complete {
                // the first list is sent as a whole, after a retry
                self.sent.clear();
                self.context
                    .progress
                    .waiting(Kind::Secret, "a Secret in use cannot be read (see the log)");
                return true;
            }
            self.is_synced = true;
            self.context.progress.complete(Kind::Secret);
            changes.push(Change::Replace(Source::Api, Kind::Secret, found));
        }
        changes.is_empty() || self.context.changes.send(changes).await.is_ok()
    }
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
        Some(reconcile(Kind::Secret, value, &context.settings))
    }))
}
