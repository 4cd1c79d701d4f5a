//! Migrating one kind.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use kube::core::ApiResource;
use nuncio_crds::KindInfo;

use super::{
    Context,
    definition::{self, Plan, Store},
    list::{Lister, Metadata, Page, resource},
    object::Outcome,
    place::{Key, Progressed},
    progress::Progress,
    remember::{Change, Unwritten},
    report::{KindReport, State},
};

/// How often the place is remembered.
const REMEMBER: Duration = Duration::from_secs(5);
/// How often objects are stored again because the definition has changed in the meantime.
const ROUNDS: usize = 3;
/// Objects in succession that fail for a reason that may pass, after which the others are left alone: the webhook is away.
const FAILURES: usize = 50;

/// The migration of a kind.
pub(super) struct Migration<'a> {
    context: &'a Context,
    info: &'static KindInfo,
    /// Name of the definition.
    name: String,
    report: KindReport,
}

/// Why a round has ended before all objects were looked at.
enum End {
    /// The definition has changed.
    Changed,
    /// On a signal.
    Interrupted,
    /// For this reason.
    Failed(String),
}

impl From<Unwritten> for End {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Changed => Self::Changed,
            Unwritten::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl<'a> Migration<'a> {
    /// One of this kind.
    pub(super) fn new(context: &'a Context, info: &'static KindInfo) -> Self {
        Self {
            context,
            info,
            name: format!("{}.{}", info.plural, info.group),
            report: KindReport::new(info.name),
        }
    }

    /// Stores all objects again, and prunes the stored versions.
    pub(super) async fn run(mut self) -> KindReport {
        for _ in 0..ROUNDS {
            let store = match self.plan().await {
                Ok(Some(store)) => store,
                Ok(None) => return self.report,
                Err(reason) => return self.failed(reason),
            };
            match self.round(&store).await {
                Ok(()) => return self.report,
                Err(End::Changed) => {}
                Err(End::Interrupted) => {
                    self.report.state = State::Interrupted;
                    return self.report;
                }
                Err(End::Failed(reason)) => return self.failed(reason),
            }
        }
        let name = &self.name;
        let reason = format!("CustomResourceDefinition {name} has changed {ROUNDS} times");
        self.failed(reason)
    }

    fn failed(mut self, reason: String) -> KindReport {
        self.report.state = match self.context.stop.is_cancelled() {
            true => State::Interrupted,
            false => State::Failed,
        };
        self.report.error = Some(reason);
        self.report
    }

    /// What must be done.
    async fn plan(&mut self) -> Result<Option<Store>, String> {
        let found = self.context.definition(&self.name).await?;
        let report = &mut self.report;
        *report = KindReport::new(self.info.name);
        let Some(found) = found else {
            report.state = State::Absent;
            return Ok(None);
        };
        report.stored_versions = definition::stored(&found).to_vec();
        match definition::plan(&found) {
            Plan::Current(version) => {
                report.state = State::Current;
                report.storage_version = Some(version);
                Ok(None)
            }
            Plan::Unsafe(reason) => {
                Err(format!("CustomResourceDefinition {}: {reason}", self.name))
            }
            Plan::Store(store) => {
                report.storage_version = Some(store.version.clone());
                Ok(Some(store))
            }
        }
    }

    /// Looks at all objects once.
    async fn round(&mut self, store: &Store) -> Result<(), End> {
        // also shows at once whether this is permitted
        let remember = Change::Remember(store.after.as_ref());
        self.context.write(&self.name, store, remember).await?;
        let mut round = Round {
            context: self.context,
            name: &self.name,
            store,
            resource: resource(self.info, &store.version),
            progressed: Progressed::after(store.after.clone()),
            progress: Progress::new(self.info.name, &store.version),
            remembered: Instant::now(),
            failures: 0,
            report: &mut self.report,
        };
        let lister = Lister::new(self.context.client.clone(), self.info, store);
        let looked = round.objects(lister).await;
        round.progress.finish(round.report);
        if !matches!(looked, Err(End::Changed)) {
            let done = round.progressed.done().cloned();
            let remember = Change::Remember(done.as_ref());
            let written = self.context.write(&self.name, store, remember).await;
            // if this fails, more is done again
            if let (Ok(()), Err(unwritten)) = (&looked, written) {
                return Err(unwritten.into());
            }
        }
        looked?;
        if !self.report.failed.is_empty() {
            self.report.state = State::Failed;
            return Ok(());
        }
        let stored = self.context.write(&self.name, store, Change::Prune).await?;
        self.report.state = State::Migrated;
        if !self.context.dry_run {
            self.report.stored_versions = stored;
        }
        Ok(())
    }
}

/// One look at all objects.
struct Round<'a> {
    context: &'a Context,
    name: &'a str,
    store: &'a Store,
    resource: ApiResource,
    progressed: Progressed,
    progress: Progress,
    remembered: Instant,
    /// Failures in succession.
    failures: usize,
    report: &'a mut KindReport,
}

impl Round<'_> {
    async fn objects(&mut self, mut lister: Lister) -> Result<(), End> {
        loop {
            let page = match lister.next(&self.context.stop).await {
                Ok(page) => page,
                Err(_) if self.context.stop.is_cancelled() => return Err(End::Interrupted),
                Err(error) => {
                    let reason = self.context.explained(&error);
                    return Err(End::Failed(format!("cannot list objects: {reason}")));
                }
            };
            let is_last = page.is_last;
            self.page(page).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn page(&mut self, page: Page) -> Result<(), End> {
        let key = |item: &Metadata| Key::new(&item.metadata);
        let keys: Vec<Key> = page.items.iter().map(key).collect();
        self.progressed.check_order(&keys);
        let total = page.items.len();
        let items: Vec<Metadata> = page
            .items
            .into_iter()
            .filter(|item| !self.progressed.skips(&key(item)))
            .collect();
        self.report.skipped += total - items.len();
        let expected = self.report.looked_at() + items.len() + page.remaining;
        self.progress.expect(expected);
        let (context, resource) = (self.context, self.resource.clone());
        let outcomes = stream::iter(items).map(|item| {
            let resource = &resource;
            async move { (key(&item), context.rewrite(resource, &item.metadata).await) }
        });
        // in order, so that one key says what is done
        let mut outcomes = outcomes.buffered(context.concurrency).boxed_local();
        while let Some((key, outcome)) = outcomes.next().await {
            self.note(key, outcome)?;
            self.progress.show(self.report);
            if self.remembered.elapsed() >= REMEMBER {
                self.remembered = Instant::now();
                let remember = Change::Remember(self.progressed.done());
                context.write(self.name, self.store, remember).await?;
            }
        }
        Ok(())
    }

    fn note(&mut self, key: Key, outcome: Outcome) -> Result<(), End> {
        let is_stored = !matches!(outcome, Outcome::Failed { .. });
        match outcome {
            Outcome::Rewritten => self.report.rewritten += 1,
            Outcome::Current => self.report.current += 1,
            Outcome::Gone => self.report.gone += 1,
            Outcome::Interrupted => return Err(End::Interrupted),
            Outcome::Forbidden(reason) => {
                return Err(End::Failed(format!("missing permission: {reason}")));
            }
            Outcome::Failed { reason, is_final } => {
                self.failures = if is_final { 0 } else { self.failures + 1 };
                self.report.fail(key.to_string(), reason);
                if self.failures >= FAILURES {
                    return Err(End::Failed(format!(
                        "{FAILURES} objects in succession could not be stored; the others were not tried"
                    )));
                }
            }
        }
        if is_stored {
            self.failures = 0;
        }
        self.progressed.note(key, is_stored);
        Ok(())
    }
}
