//! Secrets, only as far as something refers to them: their metadata is watched, and of those that are wanted the data
//! is fetched. No other Secret's data ever reaches this process.
//!
//! The first list is told only when every wanted Secret has been read, or is known to be missing or forbidden: a
//! Secret that cannot be read for a moment must not take a Host's TLS away when we start.

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

use super::{Advice, Context, Outage, backoff, config};
use nuncio_core::{
    change::{Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    store::WantedSecrets,
};

/// Secrets that are fetched at a time.
const AT_A_TIME: usize = 16;

/// Pause before what could not be fetched is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// A version of a Secret, as the apiserver names it.
type Version = Option<String>;

/// A Secret, the version that the watch has seen of it, and what the apiserver has answered.
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
    context
        .progress
        .waiting(Kind::Secret, "they have not been listed yet");
    // what Helm keeps of its releases is large, and no certificate
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
    /// What has been told: the version, or that there is none.
    told: BTreeMap<ObjectRef, Option<Version>>,
    has_told: bool,
    /// What could not be fetched and has to be tried again.
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
            told: BTreeMap::new(),
            has_told: false,
            failing: BTreeSet::new(),
        }
    }

    fn event(&mut self, event: Event<PartialObjectMeta<Secret>>) {
        if !matches!(event, Event::Init) && self.outage.is_over() {
            info!(kind = %Kind::Secret, "the watch works again");
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
        // this kind is part of every cluster: nothing is unknown about it
        let advice = self.outage.failed(error.to_string(), false, Instant::now());
        if advice != Advice::Quiet {
            warn!(kind = %Kind::Secret, %error, "the watch has failed and is tried again; what is known stays");
            self.context
                .progress
                .waiting(Kind::Secret, error.to_string());
        }
    }

    /// Fetches what is wanted and not up to date. False when nobody listens any more.
    async fn fetch(&mut self, wanted: &BTreeSet<ObjectRef>) -> bool {
        let outdated: Vec<(ObjectRef, Option<Version>)> = wanted
            .iter()
            .map(|object| (object.clone(), self.present.get(object).cloned()))
            .filter(|(object, present)| self.told.get(object) != Some(present))
            .collect();
        self.failing.retain(|object| wanted.contains(object));
        let dropped: Vec<ObjectRef> = self
            .told
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
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        let mut may_tell = true;
        let mut changes = Vec::new();
        let mut found = Vec::new();
        for (object, present, result) in fetched {
            match result {
                Ok(Some(reconciled)) if self.has_told => {
                    changes.push(Change::Apply(Source::Api, Box::new(reconciled)))
                }
                Ok(Some(reconciled)) => found.push(reconciled),
                Ok(None) if self.has_told => {
                    changes.push(Change::Delete(Source::Api, object.clone()))
                }
                Ok(None) => {}
                Err(error) => {
                    let is_forbidden =
                        matches!(&error, kube::Error::Api(status) if status.code == 403);
                    may_tell &= is_forbidden;
                    if is_forbidden && self.has_told && !self.told.contains_key(&object) {
                        // for us it is not there; who refers to it must not wait for ever
                        changes.push(Change::Delete(Source::Api, object.clone()));
                    }
                    if self.failing.insert(object.clone()) {
                        warn!(%object, %error, "the Secret cannot be read and is tried again; what is known of it stays");
                    }
                    continue;
                }
            }
            self.failing.remove(&object);
            self.told.insert(object, present);
        }
        for object in dropped {
            self.told.remove(&object);
            changes.push(Change::Delete(Source::Api, object));
        }
        if !self.has_told {
            if !may_tell {
                // all of it is told at once, later
                self.told.clear();
                self.context
                    .progress
                    .waiting(Kind::Secret, "one that is referred to cannot be read");
                return true;
            }
            self.has_told = true;
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

/// The Secret, unless it has gone in the meantime.
async fn get(context: &Context, object: &ObjectRef) -> Result<Option<Reconciled>, kube::Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &object.namespace);
    let secret = api.get_opt(&object.name).await?;
    Ok(secret.and_then(|secret| {
        let value = serde_json::to_value(&secret).ok()?;
        Some(reconcile(Kind::Secret, value, &context.settings))
    }))
}
