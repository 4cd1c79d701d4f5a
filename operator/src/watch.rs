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
//! What is known stays, whatever fails later. Only a kind that was never listed can count as empty, because that answer
//! is the first of its kind: an optional kind that the cluster does not have (its list is 404, and discovery does not name
//! it), and a kind that the gateway can do without and must not read (403). Both answers must be repeated for a while
//! ([`outage::SETTLED_AFTER`]), from an apiserver that answers other requests otherwise. The process is not ready before each other kind was listed.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use nuncio_crds::GROUP;
use tokio::sync::watch;
use tracing::{info, warn};

use self::{
    annotated::Annotated,
    audience::Audience,
    definitions::Definitions,
    events::Events,
    known::{Known, Verdict},
    listing::{Found, Listing, Reader},
    object::Object,
    outage::{Cause, Outage, Reaction},
    seen::Seen,
};
use crate::{
    fan_out::{Changes, Questions},
    health::Progress,
    metrics::Metrics,
    status::Book,
};
use nuncio_core::{
    change::{Change, ResourceVersion, Source},
    object::Kind,
    settings::{Fleets, Settings},
    store::Loss,
};

mod annotated;
mod audience;
pub mod definitions;
pub(crate) mod events;
mod known;
mod listing;
pub(crate) mod object;
mod outage;
pub mod secret;
mod seen;

/// Pause between requests for a kind that is absent or that must not be read.
const SETTLED: Duration = Duration::from_secs(15);

/// Pause before the list that confirms one that lacks most objects.
const CONFIRM: Duration = Duration::from_secs(1);

/// What permissions to read are for, as the metric names it.
const PURPOSE: &str = "watch";

/// What all watches share.
#[derive(Clone)]
pub struct Context {
    /// Connection to the apiserver.
    pub client: Client,
    /// Which objects are watched, and which of them are for whom.
    pub fleets: Fleets,
    /// Where changes go.
    pub changes: Changes,
    /// Where watches ask before they believe a list.
    pub questions: Questions,
    /// Where the current status of objects goes.
    pub book: Book,
    /// What each source still waits for.
    pub progress: Progress,
    /// Metrics of watches.
    pub metrics: Metrics,
    /// The kinds that are installed.
    pub definitions: watch::Receiver<Definitions>,
}

impl Context {
    /// Which objects are watched.
    fn settings(&self) -> &Settings {
        self.fleets.common()
    }

    /// Shows that a permission is missing, until it is there again.
    fn missing_permission(&self, kind: Kind, verb: &str) {
        let scope = self.settings().single_namespace.as_ref().map_or_else(
            || "in all namespaces".to_owned(),
            |namespace| format!("in namespace {namespace}"),
        );
        let outcome = if needs_permission(kind) {
            ""
        } else {
            "; continuing without its objects"
        };
        let resource = resource(kind);
        let text = format!("missing permission to {verb} {resource} {scope}{outcome}");
        warn!(%kind, verb, resource, "missing permission");
        self.progress.warn(kind.name(), text);
        self.metrics.missing_permission(&resource, PURPOSE, true);
    }

    fn recovered(&self, kind: Kind) {
        info!(%kind, "watch recovered");
        self.progress.settle(kind.name());
        self.metrics
            .missing_permission(&resource(kind), PURPOSE, false);
    }
}

/// The resource of a kind, as permissions name it.
fn resource(kind: Kind) -> String {
    if kind.group().is_empty() {
        kind.plural().to_owned()
    } else {
        format!("{}.{}", kind.plural(), kind.group())
    }
}

/// Whether the process is not ready without the permission to read this kind.
fn needs_permission(kind: Kind) -> bool {
    kind.group() == GROUP || matches!(kind, Kind::Service | Kind::Secret)
}

/// What the watch of a kind asks for. Only our own kinds have fields that a user can select by.
fn config(kind: Kind, settings: &Settings) -> watcher::Config {
    let mut config = events::config();
    if let Some(selector) = &settings.label_selector {
        config = config.labels(selector);
    }
    if let Some(selector) = &settings.field_selector
        && kind.group() == GROUP
    {
        config = config.fields(selector);
    }
    config
}

/// The objects of a kind, in the version in which it is read.
fn api(kind: Kind, context: &Context) -> Api<Object> {
    let resource = context.book.versions().resource(kind);
    let client = context.client.clone();
    match &context.settings().single_namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

/// Watches one kind until the receiver of changes is gone.
pub async fn watch(kind: Kind, context: Context) {
    context.progress.waiting(kind, "not listed yet");
    let mut definitions = context.definitions.clone();
    let start =
        |context: &Context| Events::new(api(kind, context), config(kind, context.settings()));
    let mut events = start(&context);
    let mut watch = Watch::new(kind, context);
    loop {
        let mut received = None;
        let mut version = ResourceVersion::Unknown;
        let change = tokio::select! {
            event = events.next() => match event {
                Ok(event) => {
                    received = Some(Instant::now());
                    if let Event::Delete(object) | Event::Apply(object) = &event {
                        let text = object.metadata.resource_version.as_deref();
                        version = text.map(ResourceVersion::parse).unwrap_or_default();
                    }
                    let change = watch.event(event).await;
                    if mem::take(&mut watch.is_held) {
                        events.restart();
                        events.pause(CONFIRM);
                    }
                    change
                }
                Err(error) => {
                    let change = watch.error(&error).await;
                    if mem::take(&mut watch.is_switched) {
                        events = start(&watch.context);
                    } else if watch.is_settled() {
                        events.pause(SETTLED);
                    }
                    change
                }
            },
            Ok(()) = definitions.changed(), if watch.outage.logged() == Some(Cause::Absent) => {
                if definitions.borrow_and_update().contains(&definitions::name(kind)) {
                    events.resume();
                }
                None
            }
            () = watch.outage.quiet() => {
                watch.recover();
                None
            }
        };
        let Some(changes) = change else { continue };
        let received = received.unwrap_or_else(Instant::now);
        let sent = watch.context.changes.send_each(received, version, changes);
        if sent.await.is_err() {
            return;
        }
    }
}

struct Watch {
    kind: Kind,
    context: Context,
    reader: Arc<Reader>,
    listing: Listing,
    /// Whether the kind was listed, or counts as empty.
    is_complete: bool,
    known: Known,
    audience: Audience,
    annotated: Annotated,
    /// What was reconciled since the last list began.
    seen: Seen,
    /// Whether the last list must be confirmed.
    is_held: bool,
    /// Whether another version is read from now on.
    is_switched: bool,
    outage: Outage,
}

impl Watch {
    fn new(kind: Kind, context: Context) -> Self {
        let reader = Arc::new(Reader::new(kind, context.fleets.clone()));
        Self {
            kind,
            context,
            listing: Listing::new(reader.clone()),
            audience: Audience::new(reader.fleets()),
            annotated: Annotated::default(),
            reader,
            is_complete: false,
            known: Known::default(),
            seen: Seen::default(),
            is_held: false,
            is_switched: false,
            outage: Outage::default(),
        }
    }

    /// Whether requests fail for a reason that does not pass soon.
    fn is_settled(&self) -> bool {
        match self.outage.logged() {
            Some(Cause::Forbidden(_)) => true,
            Some(Cause::Absent) => !self.is_defined(),
            Some(Cause::Other | Cause::OtherVersion) | None => false,
        }
    }

    fn recover(&mut self) {
        if self.outage.recover() {
            self.context.recovered(self.kind);
        }
    }

    fn is_defined(&self) -> bool {
        let definitions = self.context.definitions.borrow();
        definitions.contains(&definitions::name(self.kind))
    }

    /// The changes of each fleet, if there are any.
    async fn event(&mut self, event: Event<Object>) -> Option<Vec<Vec<Change>>> {
        // `Init` comes before the list is requested and proves nothing
        if !matches!(event, Event::Init) {
            self.recover();
        }
        let change = match event {
            Event::Init => {
                self.listing = Listing::new(self.reader.clone());
                self.seen = Seen::default();
                None
            }
            Event::InitApply(object) => {
                if self.kind.has_status() {
                    self.seen.record(&object);
                }
                self.listing.push(object);
                None
            }
            Event::InitDone => self.listed().await,
            Event::Apply(object) => {
                self.known.apply(&object.metadata);
                if self.kind.has_status() && !self.seen.record(&object) {
                    let observed = self.reader.observed(&object);
                    self.context
                        .book
                        .observe(&self.reader.name(&object), observed);
                    return None;
                }
                let Found {
                    object,
                    fleets,
                    annotated,
                    observed,
                } = self.reader.read(object);
                if self.kind.has_status() {
                    self.context.book.observe(&object, observed);
                }
                let changes = self.audience.apply(&object, fleets);
                Some(self.annotated.apply(&object, annotated, changes))
            }
            Event::Delete(object) => {
                self.known.delete(&object.metadata);
                self.seen.forget(&object);
                let object = self.reader.name(&object);
                if self.kind.has_status() {
                    self.context.book.forget(&object);
                }
                let changes = self.audience.delete(&object);
                Some(self.annotated.apply(&object, Vec::new(), changes))
            }
        };
        if change.is_some() {
            self.context
                .metrics
                .count_objects(self.kind, self.known.len());
        }
        change
    }

    /// The list is complete.
    async fn listed(&mut self) -> Option<Vec<Vec<Change>>> {
        let next = Listing::new(self.reader.clone());
        let listing = mem::replace(&mut self.listing, next).finish().await;
        let objects = || listing.iter().map(|found| &found.object);
        let names = || objects().map(|object| (&*object.namespace, &*object.name));
        let loss = if self.known.is_doubtful(names()) {
            let objects = objects().cloned().collect();
            self.context.questions.loss(self.kind, objects).await
        } else {
            Loss::default()
        };
        if let Verdict::Hold(missing) = self.known.list(names(), loss.is_most()) {
            let (kind, known, listed) = (self.kind, self.known.len(), listing.len());
            let Loss { clusters, lost } = loss;
            warn!(%kind, known, listed, missing, clusters, lost, "list lacks most known objects or clusters; keeping them until a second list confirms it");
            self.is_held = true;
            return None;
        }
        let mut all: Vec<Vec<_>> = (0..self.reader.fleets()).map(|_| Vec::new()).collect();
        let mut observed = Vec::with_capacity(listing.len());
        self.audience.clear();
        let mut annotated = Vec::new();
        for found in listing {
            self.audience.remember(&found.object, &found.fleets);
            if !found.annotated.is_empty() {
                annotated.push((found.object.clone(), found.annotated));
            }
            observed.push((found.object, found.observed));
            for (all, found) in all.iter_mut().zip(found.fleets) {
                all.extend(found);
            }
        }
        if self.kind.has_status() {
            self.context.book.observe_all(self.kind, observed);
        }
        self.complete();
        let change = |all| Some(Change::Replace(Source::Api, self.kind, all));
        let changes = all.into_iter().map(change).collect();
        Some(self.annotated.list(annotated, changes))
    }

    fn complete(&mut self) {
        self.is_complete = true;
        self.context.progress.complete(self.kind);
    }

    /// Each fleet has no object of the kind.
    fn none(&self) -> Vec<Vec<Change>> {
        let change = |_fleet| vec![Change::Replace(Source::Api, self.kind, Vec::new())];
        (0..self.reader.fleets()).map(change).collect()
    }

    /// Logs an outage once. A kind that is absent, or that must not be read and can be done without, is an empty list
    /// unless it was listed before.
    async fn error(&mut self, error: &watcher::Error) -> Option<Vec<Vec<Change>>> {
        let kind = self.kind;
        self.context.metrics.count_watch_error(kind);
        let cause = match Cause::of(error) {
            _ if self.is_not_served(error).await => match self.is_defined() {
                true => Cause::OtherVersion,
                false => Cause::Absent,
            },
            Cause::Forbidden(_) if self.is_all_forbidden() => Cause::Other,
            cause => cause,
        };
        let reaction = self.outage.fail(cause, Instant::now());
        if !self.is_complete {
            self.context.progress.waiting(kind, error.to_string());
        }
        match (reaction, cause) {
            (Reaction::Retry, _) => return None,
            (Reaction::Settled, Cause::OtherVersion) if self.switch().await => return None,
            (Reaction::Log, _) | (Reaction::Settled, Cause::Other | Cause::OtherVersion) => {
                warn!(%kind, %error, "watch failed; keeping the last known objects and retrying");
                if self.is_complete {
                    let text =
                        format!("watch of {kind} failed, keeping the last known objects: {error}");
                    self.context.progress.warn(kind.name(), text);
                }
                return None;
            }
            (Reaction::Settled, Cause::Absent) if self.switch().await => return None,
            (Reaction::Settled, Cause::Absent) => {
                warn!(%kind, "kind not installed; continuing without its objects (to install it: kubectl apply --server-side -k config/crd)");
            }
            (Reaction::Settled, Cause::Forbidden(verb)) => {
                self.context.missing_permission(kind, verb);
                if needs_permission(kind) {
                    return None;
                }
            }
        }
        if self.is_complete {
            return None;
        }
        self.complete();
        self.context.metrics.count_objects(kind, 0);
        Some(self.none())
    }

    /// Reads another version from now on, if the apiserver serves one.
    async fn switch(&mut self) -> bool {
        let versions = self.context.book.versions().clone();
        let Some(version) = versions.next(self.kind, &self.context.client).await else {
            return false;
        };
        let (kind, before) = (self.kind, versions.of(self.kind));
        warn!(%kind, version, "cannot read version {before}; reading another one and converting it");
        versions.choose(kind, version);
        self.outage = Outage::default();
        self.is_switched = true;
        true
    }

    /// Whether the apiserver may forbid everything, as one does whose roles are not loaded: the permission for a kind that
    /// can be done without is missing only where a kind that every gateway reads is permitted.
    fn is_all_forbidden(&self) -> bool {
        !needs_permission(self.kind) && self.context.progress.is_waiting(Kind::Service)
    }

    /// Whether the apiserver does not have the kind, or not in the version that is read: a list is answered with 404, and discovery, which must work, does not
    /// name it. A load balancer without a backend answers everything with 404.
    async fn is_not_served(&self, error: &watcher::Error) -> bool {
        let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else {
            return false;
        };
        if status.code != 404 || !self.kind.info().optional {
            return false;
        }
        let resource = self.context.book.versions().resource(self.kind);
        let (client, version) = (&self.context.client, &resource.api_version);
        match client.list_api_group_resources(version).await {
            Ok(list) => {
                let mut resources = list.resources.iter();
                !resources.any(|found| found.name == resource.plural)
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let groups = client.list_api_groups().await;
                groups.is_ok_and(|list| {
                    let mut versions = list.groups.iter().flat_map(|group| &group.versions);
                    !versions.any(|found| found.group_version == *version)
                })
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
