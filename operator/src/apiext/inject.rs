//! Patches the CustomResourceDefinitions: which Service the apiserver calls to convert, and which certificates it trusts. The
//! leader does this, under a field manager of its own, and again when others change these fields.
//!
//! A certificate that is not in the Secret any more stays in `caBundle` for [`OVERLAP`], because other replicas may still
//! serve with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::Store,
        watcher,
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::definition::{Change, Definition, Reference, Strategy};
use crate::{
    health::Progress,
    identity::{Clock, authority::Trusted, rotation::Authorities},
    watch::events,
};

/// The field manager.
const MANAGER: &str = "nuncio-apiext";
/// How long a certificate is trusted after it is gone from the Secret.
const OVERLAP: Duration = Duration::from_secs(600);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Subject of warnings.
const SUBJECT: &str = "conversion of CustomResourceDefinitions";

/// What patches need.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) service: Reference,
    pub(super) manages: bool,
    pub(super) leading: watch::Receiver<bool>,
    pub(super) authorities: watch::Receiver<Option<Arc<Authorities>>>,
    pub(super) clock: Clock,
    pub(super) progress: Progress,
    pub(super) superseded: Superseded,
}

/// Certificates that are not in the Secret, and since when.
#[derive(Debug, Default)]
pub(super) struct Superseded(Mutex<BTreeMap<String, Instant>>);

impl Superseded {
    /// The bundle that a definition must have which has these certificates now, and when that changes.
    fn bundle(
        &self,
        current: &[Trusted],
        authorities: &Authorities,
        now: Timestamp,
        at: Instant,
    ) -> (String, Option<Duration>) {
        let mut bundle = authorities.bundle();
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for trusted in authorities.trusted() {
            since.remove(&trusted.pem());
        }
        let mut change: Option<Duration> = None;
        for old in current {
            if old.not_after <= now || authorities.trusted().any(|known| known == old) {
                continue;
            }
            let pem = old.pem();
            let seen = *since.entry(pem.clone()).or_insert(at);
            let left = OVERLAP.saturating_sub(at.duration_since(seen));
            if left.is_zero() {
                continue;
            }
            bundle += &pem;
            change = Some(change.map_or(left, |change| change.min(left)));
        }
        (bundle, change)
    }
}

/// The definitions of the cluster, as they are followed.
pub(super) struct Injector {
    controller: Controller<Definition>,
}

impl Injector {
    /// One that follows definitions with these labels.
    pub(super) fn new(client: Client, labels: Option<&str>) -> Self {
        let mut config: watcher::Config = events::config();
        if let Some(labels) = labels {
            config = config.labels(labels);
        }
        Self {
            controller: Controller::new(Api::all(client), config),
        }
    }

    /// The definitions.
    pub(super) fn definitions(&self) -> Store<Definition> {
        self.controller.store()
    }

    /// Patches them until the process stops.
    pub(super) async fn run(self, context: Context, stop: CancellationToken) {
        let context = Arc::new(context);
        let (leading, authorities) = (context.leading.clone(), context.authorities.clone());
        let changes = futures::stream::select(changes(leading), changes(authorities));
        let progress = context.progress.clone();
        let mut problem = None;
        self.controller
            .reconcile_all_on(changes)
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(reconcile, failed, context)
            .for_each(|result| {
                report(result.err(), &progress, &mut problem);
                std::future::ready(())
            })
            .await;
    }
}

/// An item for each value.
fn changes<T: Send + Sync + 'static>(
    receiver: watch::Receiver<T>,
) -> impl futures::Stream<Item = ()> + Send {
    let next = |mut receiver: watch::Receiver<T>| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    };
    Box::pin(futures::stream::unfold(receiver, next))
}

/// Shows failures in readiness; each is logged once.
fn report(
    error: Option<controller::Error<kube::Error, watcher::Error>>,
    progress: &Progress,
    problem: &mut Option<String>,
) {
    let text = match error {
        None => {
            if problem.take().is_some() {
                info!("requests about CustomResourceDefinitions succeed again");
            }
            return progress.settle(SUBJECT);
        }
        // deleted in between
        Some(controller::Error::ObjectNotFound(_)) => return,
        Some(controller::Error::ReconcilerFailed(kube::Error::Api(status), definition)) => {
            let (name, message) = (definition.name, &status.message);
            match status.code {
                // changed by another program in between; the change is an event
                409 => return,
                403 => format!("missing permission to patch {name}: {message}"),
                _ => format!("failed to patch {name}: {message}"),
            }
        }
        Some(controller::Error::ReconcilerFailed(error, definition)) => {
            format!("failed to patch {}: {error}", definition.name)
        }
        Some(controller::Error::QueueError(error)) => match events::is_forbidden(&error) {
            true => format!("missing permission to list and watch: {error}"),
            false => format!("failed to watch: {error}"),
        },
        Some(error) => error.to_string(),
    };
    if problem.as_ref() != Some(&text) {
        warn!(error = %text, "request about CustomResourceDefinitions failed; retrying");
    }
    progress.warn(SUBJECT, format!("{SUBJECT}: {text}"));
    *problem = Some(text);
}

async fn reconcile(
    definition: Arc<Definition>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    let name = definition.name();
    match definition.strategy() {
        Strategy::Unneeded => return Ok(Action::await_change()),
        Strategy::Relabel => {
            warn_about(&definition);
            return Ok(Action::await_change());
        }
        Strategy::Webhook => {}
    }
    let authorities = context.authorities.borrow().clone();
    let Some(authorities) = authorities else {
        return Ok(Action::await_change());
    };
    if !context.manages || !*context.leading.borrow() {
        return Ok(Action::await_change());
    }
    let now = (context.clock)();
    let current = definition.trusted();
    let (bundle, left) = context
        .superseded
        .bundle(&current, &authorities, now, Instant::now());
    let action = left.map_or_else(Action::await_change, Action::requeue);
    let Some(change) = definition.change(&context.service, &bundle) else {
        return Ok(action);
    };
    let api: Api<Definition> = Api::all(context.client.clone());
    match change {
        Change::Apply(patch) => {
            let parameters = PatchParams::apply(MANAGER).force();
            api.patch(name, &parameters, &Patch::Apply(patch)).await?;
        }
        Change::Merge(patch) => {
            let parameters = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(name, &parameters, &Patch::Merge(patch)).await?;
        }
    }
    info!(%name, "patched the conversion of a CustomResourceDefinition");
    Ok(action)
}

/// Logs what is not converted, with each change of the definition.
fn warn_about(definition: &Definition) {
    let name = definition.name();
    let stored = definition.unconverted();
    if stored.is_empty() {
        info!(%name, "conversion strategy is None; left alone");
    } else {
        warn!(
            %name, stored = stored.join(", "),
            "conversion strategy is None, but objects are stored in an older version: they are served with the fields of that \
             version; set strategy Webhook"
        );
    }
}

fn failed(_definition: Arc<Definition>, _error: &kube::Error, _context: Arc<Context>) -> Action {
    Action::requeue(RETRY)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_certificate_stays_for_a_while_after_it_is_gone_from_the_secret() {
        let now = Timestamp::now();
        let old = Authorities::create(now).unwrap();
        let new = Authorities::create(now).unwrap();
        let superseded = Superseded::default();
        let start = Instant::now();
        let (bundle, change) = superseded.bundle(&[], &old, now, start);
        assert_eq!((bundle, change), (old.bundle(), None));

        let current: Vec<Trusted> = old.trusted().cloned().collect();
        let (both, change) = superseded.bundle(&current, &new, now, start);
        assert_eq!(both, new.bundle() + &old.bundle());
        assert_eq!(change, Some(OVERLAP));
        let current = Trusted::parse(&both, "caBundle").unwrap();
        let later = start + OVERLAP - Duration::from_secs(1);
        let (same, change) = superseded.bundle(&current, &new, now, later);
        assert_eq!((same, change), (both, Some(Duration::from_secs(1))));
        let (after, change) = superseded.bundle(&current, &new, now, start + OVERLAP);
        assert_eq!((after, change), (new.bundle(), None));
        // one that has expired is of no use
        let year = now + SignedDuration::from_hours(366 * 24);
        let (expired, _) = superseded.bundle(&current, &new, year, start);
        assert_eq!(expired, new.bundle());
    }

    #[test]
    fn a_certificate_that_comes_back_stays_for_the_whole_time_again() {
        let now = Timestamp::now();
        let old = Authorities::create(now).unwrap();
        let new = Authorities::create(now).unwrap();
        let superseded = Superseded::default();
        let start = Instant::now();
        let current: Vec<Trusted> = old.trusted().chain(new.trusted()).cloned().collect();
        superseded.bundle(&current, &new, now, start);
        superseded.bundle(&current, &old, now, start + OVERLAP / 2);
        let (bundle, _) = superseded.bundle(&current, &new, now, start + OVERLAP);
        assert!(bundle.contains(&old.bundle()));
    }
}
