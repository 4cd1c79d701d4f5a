//! The apiserver as a source: one watch per kind. Objects come untyped, so that one that does not parse is a report
//! and not the end of the watch, and are reconciled here, so that what is kept is small.
//!
//! A list, the first or one after the watch was lost (410 Gone), is one [`Change::Replace`]: nobody sees half of it.
//!
//! An error never takes anything away: what is known stays, and before the first list we are not ready. The one
//! exception is a kind that the cluster does not know. It has no objects, but since that answer would empty the
//! gateway it has to be given for a while ([`UNKNOWN_FOR`]) before it counts.

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

/// How long the cluster has to say that it does not know a kind.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);

/// What every watch needs.
#[derive(Clone)]
pub struct Context {
    /// Connection to the apiserver.
    pub client: Client,
    /// Which objects are ours.
    pub settings: Settings,
    /// Where changes go.
    pub changes: mpsc::Sender<Vec<Change>>,
    /// Where the present status of objects goes.
    pub book: Book,
    /// What is waited for.
    pub progress: Progress,
    /// Counters.
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
    context.progress.waiting(kind, "it has not been listed yet");
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

/// What is known of a row of failures, to say each thing once.
#[derive(Debug, Default)]
struct Outage {
    /// The last error that was logged; `None` while all is well.
    said: Option<String>,
    /// Since when every answer is that the kind is unknown.
    unknown_since: Option<Instant>,
    /// Whether that has been taken for an answer.
    is_absent: bool,
}

/// What to do about a failure.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    /// It has been said already.
    Quiet,
    /// Say it.
    Say,
    /// Say that the kind is not installed, and that there is none of it.
    Absent,
}

impl Outage {
    /// A failure, and whether it is that the kind is unknown.
    fn failed(&mut self, error: String, is_unknown: bool, now: Instant) -> Advice {
        if !is_unknown {
            self.unknown_since = None;
            self.is_absent = false;
            let is_new = self.said.is_none();
            self.said.get_or_insert(error);
            return if is_new { Advice::Say } else { Advice::Quiet };
        }
        let since = *self.unknown_since.get_or_insert(now);
        if self.is_absent || now.duration_since(since) < UNKNOWN_FOR {
            return Advice::Quiet;
        }
        self.is_absent = true;
        self.said = Some(error);
        Advice::Absent
    }

    /// All is well; true when it was not.
    fn is_over(&mut self) -> bool {
        mem::take(self).said.is_some()
    }
}

impl Watch {
    fn event(&mut self, event: Event<DynamicObject>) -> Option<Change> {
        // `Init` only says that a list is about to be asked for
        if !matches!(event, Event::Init) && self.outage.is_over() {
            info!(kind = %self.kind, "the watch works again");
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

    /// Says once what is wrong. A kind that the cluster does not know has no objects.
    fn error(&mut self, error: &watcher::Error) -> Option<Change> {
        let (kind, progress) = (self.kind, &self.context.progress);
        self.context.metrics.count_watch_error(kind);
        match self
            .outage
            .failed(error.to_string(), is_unknown(error), Instant::now())
        {
            Advice::Absent => {
                warn!(%kind, "the cluster does not know this kind, so there is none; install it with `kubectl apply --server-side -k config/crd`");
                progress.complete(kind);
                self.context.metrics.count_objects(kind, 0);
                return Some(Change::Replace(Source::Api, kind, Vec::new()));
            }
            Advice::Say => {
                warn!(%kind, %error, "the watch has failed and is tried again; what is known stays");
            }
            Advice::Quiet => {}
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

/// Whether the watch cannot go on from where it was: it has to begin with a list.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(outage: &mut Outage, is_unknown: bool, now: Instant) -> Advice {
        outage.failed("error".to_owned(), is_unknown, now)
    }

    #[test]
    fn an_outage_is_said_once_and_its_end_too() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert!(!outage.is_over());
        assert_eq!(advice(&mut outage, false, now), Advice::Say);
        assert_eq!(advice(&mut outage, false, now), Advice::Quiet);
        assert!(outage.is_over());
        assert!(!outage.is_over());
        assert_eq!(advice(&mut outage, false, now), Advice::Say);
    }

    #[test]
    fn a_kind_is_absent_only_after_the_cluster_said_so_for_a_while() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(advice(&mut outage, true, now), Advice::Quiet);
        assert_eq!(
            advice(&mut outage, true, now + UNKNOWN_FOR / 2),
            Advice::Quiet
        );
        // an apiserver that is starting says both
        assert_eq!(
            advice(&mut outage, false, now + UNKNOWN_FOR / 2),
            Advice::Say
        );
        assert_eq!(advice(&mut outage, true, now + UNKNOWN_FOR), Advice::Quiet);
        assert_eq!(
            advice(&mut outage, true, now + UNKNOWN_FOR * 2),
            Advice::Absent
        );
        assert_eq!(
            advice(&mut outage, true, now + UNKNOWN_FOR * 3),
            Advice::Quiet
        );
    }

    #[test]
    fn an_absent_kind_that_is_installed_and_removed_is_absent_again() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        advice(&mut outage, true, now);
        assert_eq!(advice(&mut outage, true, now + UNKNOWN_FOR), Advice::Absent);
        assert!(outage.is_over());
        let later = now + UNKNOWN_FOR * 10;
        assert_eq!(advice(&mut outage, true, later), Advice::Quiet);
        assert_eq!(
            advice(&mut outage, true, later + UNKNOWN_FOR),
            Advice::Absent
        );
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
