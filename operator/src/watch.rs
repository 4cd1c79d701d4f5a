//! The apiserver as a source: one watch per kind. Objects are read untyped, so that one that does not parse becomes a
//! report and does not fail the watch, and they are reconciled here, so that little is kept of each.
//!
//! Configuration kinds use kube-runtime's `watcher` and not its `Controller`, for two reasons. A delete must reach the
//! Store: `Controller` drops deletes unless the object has a finalizer, and a gateway must not put finalizers on its
//! users' objects. And a list, the first one or one after the watch expired (410 Gone), must be one
//! [`Change::Replace`]: nobody sees half of it, and what was deleted meanwhile is removed with the same change.
//! `Controller` is for kinds of which the operator owns something in the cluster: certificates, CustomResourceDefinitions,
//! the status of an Ingress.
//!
//! An error removes nothing: the objects of the last list stay, and the process is not ready before the first one. The
//! only exception is an optional kind that the cluster does not have. It has no objects, but because that answer would empty the
//! gateway, it must be repeated for a while ([`ABSENT_AFTER`]) before it counts.

use std::{
    mem,
    time::{Duration, Instant},
};

use backon::ExponentialBuilder;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    api::api_resource,
    health::Progress,
    metrics::Metrics,
    status::{Book, Observed},
};
use nuncio_core::{
    change::{Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    settings::Settings,
};

pub mod secret;

/// Objects in one answer to a list.
const PAGE_SIZE: u32 = 500;

/// How long the apiserver must answer that it does not have a kind before the kind counts as absent.
const ABSENT_AFTER: Duration = Duration::from_secs(2);

/// What all watches share.
#[derive(Clone)]
pub struct Context {
    /// Connection to the apiserver.
    pub client: Client,
    /// Which objects are watched.
    pub settings: Settings,
    /// Where changes go.
    pub changes: mpsc::Sender<Vec<Change>>,
    /// Where the current status of objects goes.
    pub book: Book,
    /// What each source still waits for.
    pub progress: Progress,
    /// Metrics of watches.
    pub metrics: Metrics,
}

fn config(settings: &Settings) -> watcher::Config {
    let mut config = watcher::Config::default().page_size(PAGE_SIZE);
    if let Some(selector) = &settings.label_selector {
        config = config.labels(selector);
    }
    if let Some(selector) = &settings.field_selector {
        config = config.fields(selector);
    }
    config
}

/// Pauses between retries. The first is short, because a restart of the apiserver takes seconds; jitter, which at most
/// doubles a pause, keeps replicas from retrying together.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_millis(2500))
    .without_max_times()
    .with_jitter();

fn backoff() -> watcher::ExponentialBackoff {
    BACKOFF.into()
}

/// Watches one kind until the receiver of changes is gone.
pub async fn watch(kind: Kind, context: Context) {
    let resource = api_resource(kind);
    let client = context.client.clone();
    let api: Api<DynamicObject> = match &context.settings.single_namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    context.progress.waiting(kind, "not listed yet");
    let start = || {
        watcher::watcher(api.clone(), config(&context.settings))
            .backoff(backoff())
            .boxed()
    };
    let mut events = start();
    let mut watch = Watch {
        kind,
        context: context.clone(),
        listing: Vec::new(),
        outage: Outage::default(),
    };
    loop {
        let change = match events.try_next().await {
            Ok(Some(event)) => watch.event(event),
            Ok(None) => return,
            Err(error) => {
                if is_expired(&error) {
                    events = start();
                }
                watch.error(&error)
            }
        };
        if let Some(change) = change
            && watch.context.changes.send(vec![change]).await.is_err()
        {
            return;
        }
    }
}

struct Watch {
    kind: Kind,
    context: Context,
    listing: Vec<(Reconciled, Observed)>,
    outage: Outage,
}

/// The current row of failures, so that an outage is logged once and not with every retry.
#[derive(Debug, Default)]
struct Outage {
    /// Whether it was logged.
    is_logged: bool,
    /// Since when every answer is that the apiserver does not have the kind.
    unknown_since: Option<Instant>,
    /// Whether the kind counts as absent.
    is_absent: bool,
}

/// How to handle a failure.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    /// Retry; it was logged already.
    Retry,
    /// Log it and retry.
    Log,
    /// Log that the kind is not installed, and take it for empty.
    Absent,
}

impl Outage {
    /// Handles a failure; `is_unknown` when the apiserver does not have the kind.
    fn fail(&mut self, is_unknown: bool, now: Instant) -> Reaction {
        if !is_unknown {
            self.unknown_since = None;
            self.is_absent = false;
            return if mem::replace(&mut self.is_logged, true) {
                Reaction::Retry
            } else {
                Reaction::Log
            };
        }
        let since = *self.unknown_since.get_or_insert(now);
        if self.is_absent || now.duration_since(since) < ABSENT_AFTER {
            return Reaction::Retry;
        }
        self.is_absent = true;
        self.is_logged = true;
        Reaction::Absent
    }

    /// Ends the outage; true if one was logged.
    fn recover(&mut self) -> bool {
        mem::take(self).is_logged
    }
}

impl Watch {
    fn event(&mut self, event: Event<DynamicObject>) -> Option<Change> {
        // `Init` comes before the list is requested and proves nothing
        if !matches!(event, Event::Init) && self.outage.recover() {
            info!(kind = %self.kind, "watch recovered");
        }
        let book = &self.context.book;
        match event {
            Event::Init => {
                self.listing.clear();
                None
            }
            Event::InitApply(object) => {
                let found = self.reconcile(object);
                self.listing.push(found);
                None
            }
            Event::InitDone => {
                let listing = mem::take(&mut self.listing);
                self.context.progress.complete(self.kind);
                self.context.metrics.count_objects(self.kind, listing.len());
                let (found, observed): (Vec<Reconciled>, Vec<_>) = listing
                    .into_iter()
                    .map(|(found, observed)| {
                        let object = found.object.clone();
                        (found, (object, observed))
                    })
                    .unzip();
                if self.kind.has_status() {
                    book.observe_all(self.kind, observed);
                }
                Some(Change::Replace(Source::Api, self.kind, found))
            }
            Event::Apply(object) => {
                let (found, observed) = self.reconcile(object);
                if self.kind.has_status() {
                    book.observe(&found.object, observed);
                }
                Some(Change::Apply(Source::Api, Box::new(found)))
            }
            Event::Delete(object) => {
                let metadata = object.metadata;
                let object = ObjectRef::new(
                    self.kind,
                    &metadata.namespace.unwrap_or_default(),
                    &metadata.name.unwrap_or_default(),
                );
                if self.kind.has_status() {
                    book.forget(&object);
                }
                Some(Change::Delete(Source::Api, object))
            }
        }
    }

    fn reconcile(&self, mut object: DynamicObject) -> (Reconciled, Observed) {
        object.metadata.managed_fields = None;
        let value = serde_json::to_value(&object).unwrap_or(Value::Null);
        let observed = if self.kind.has_status() {
            Observed::of(self.kind, &value)
        } else {
            Observed::default()
        };
        (
            reconcile(self.kind, value, &self.context.settings),
            observed,
        )
    }

    /// Logs an outage once. A kind that is absent is an empty list.
    fn error(&mut self, error: &watcher::Error) -> Option<Change> {
        let (kind, progress) = (self.kind, &self.context.progress);
        self.context.metrics.count_watch_error(kind);
        let is_absent = kind.info().optional && is_unknown(error);
        match self.outage.fail(is_absent, Instant::now()) {
            Reaction::Absent => {
                warn!(%kind, "kind not installed; continuing without its objects (to install it: kubectl apply --server-side -k config/crd)");
                progress.complete(kind);
                self.context.metrics.count_objects(kind, 0);
                return Some(Change::Replace(Source::Api, kind, Vec::new()));
            }
            Reaction::Log => {
                warn!(%kind, %error, "watch failed; keeping the last known objects and retrying");
            }
            Reaction::Retry => {}
        }
        if !self.outage.is_absent {
            progress.waiting(kind, error.to_string());
        }
        None
    }
}

fn is_unknown(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// Whether the watch has expired and must start again with a list.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_and_its_end_are_logged_once() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert!(!outage.recover());
        assert_eq!(outage.fail(false, now), Reaction::Log);
        assert_eq!(outage.fail(false, now), Reaction::Retry);
        assert!(outage.recover());
        assert!(!outage.recover());
        assert_eq!(outage.fail(false, now), Reaction::Log);
    }

    #[test]
    fn a_kind_is_absent_only_after_the_apiserver_answered_so_for_a_while() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.fail(true, now), Reaction::Retry);
        assert_eq!(outage.fail(true, now + ABSENT_AFTER / 2), Reaction::Retry);
        // an apiserver that is starting gives both answers
        assert_eq!(outage.fail(false, now + ABSENT_AFTER / 2), Reaction::Log);
        assert_eq!(outage.fail(true, now + ABSENT_AFTER), Reaction::Retry);
        assert_eq!(outage.fail(true, now + ABSENT_AFTER * 2), Reaction::Absent);
        assert_eq!(outage.fail(true, now + ABSENT_AFTER * 3), Reaction::Retry);
    }

    #[test]
    fn an_absent_kind_that_is_installed_and_removed_is_absent_again() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        outage.fail(true, now);
        assert_eq!(outage.fail(true, now + ABSENT_AFTER), Reaction::Absent);
        assert!(outage.recover());
        let later = now + ABSENT_AFTER * 10;
        assert_eq!(outage.fail(true, later), Reaction::Retry);
        assert_eq!(outage.fail(true, later + ABSENT_AFTER), Reaction::Absent);
    }

    #[test]
    fn pauses_grow_to_five_seconds_at_most_and_never_end() {
        let pauses: Vec<Duration> = backoff().take(100).collect();
        assert_eq!(pauses.len(), 100);
        assert!(pauses[0] <= Duration::from_millis(200), "{pauses:?}");
        assert!(pauses[99] >= Duration::from_millis(2500), "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| *pause <= Duration::from_secs(5)),
            "{pauses:?}"
        );
    }
}
