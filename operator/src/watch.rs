//! The apiserver as a source: one watch per kind. Objects come untyped, so that one that does not parse is a report
//! and not the end of the watch, and are reconciled here, so that what is kept is small.
//!
//! A list, the first or one after the watch was lost (410 Gone), is one [`Change::Replace`]: nobody sees half of it.

use std::{mem, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    change::{Change, Reconciled},
    health::Progress,
    metrics::Metrics,
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    settings::Settings,
    status::{Book, Observed},
};

pub mod secret;

/// Objects in one answer to a list.
const PAGE_SIZE: u32 = 500;

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

/// How the API spells a kind.
#[must_use]
pub fn api_resource(kind: Kind) -> ApiResource {
    let (group, version) = (kind.group(), kind.version());
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
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

/// Pauses between tries: short at first, so that a restart of the apiserver is over soon, never long.
struct Pause(Duration);

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

fn backoff() -> Pause {
    Pause(SHORTEST_PAUSE)
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        self.0 = SHORTEST_PAUSE;
    }
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
    let mut events = watcher::watcher(api, config(&context.settings))
        .backoff(backoff())
        .boxed();
    let mut watch = Watch {
        kind,
        context,
        listing: Vec::new(),
        is_out: false,
    };
    loop {
        let change = match events.try_next().await {
            Ok(Some(event)) => watch.event(event),
            Ok(None) => return,
            Err(error) => watch.error(&error),
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
    /// Whether the last try failed.
    is_out: bool,
}

impl Watch {
    fn event(&mut self, event: Event<DynamicObject>) -> Option<Change> {
        if mem::take(&mut self.is_out) {
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
                Some(Change::Replace(self.kind, found))
            }
            Event::Apply(object) => {
                let (found, observed) = self.reconcile(object);
                if self.kind.has_status() {
                    book.observe(&found.object, observed);
                }
                Some(Change::Apply(Box::new(found)))
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
                Some(Change::Delete(object))
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
        self.context.metrics.count_watch_error(self.kind);
        if mem::replace(&mut self.is_out, true) {
            return None;
        }
        if is_unknown(error) {
            warn!(kind = %self.kind, "the cluster does not know this kind, so there is none; install it with `kubectl apply --server-side -k config/crd`");
            self.context.progress.complete(self.kind);
            return Some(Change::Replace(self.kind, Vec::new()));
        }
        warn!(kind = %self.kind, %error, "the watch has failed and is tried again; what is known stays");
        self.context.progress.waiting(self.kind, error.to_string());
        None
    }
}

fn is_unknown(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}
