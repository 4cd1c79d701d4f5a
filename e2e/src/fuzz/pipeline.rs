//! The way from objects to resources, with what must not happen on it.

use std::{
    any::Any,
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Once, PoisonError},
};

use nuncio_core::{
    change::{Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    report::Report,
    settings::Settings,
    store::Store,
};
use nuncio_xds::{Resource, ResourceType, config_dump, render_all};

use super::{
    batch::Object,
    consul::Answers,
    finding::{Finding, What},
};

/// All resources sent to Envoys.
pub(super) type Resources = BTreeMap<(ResourceType, Arc<str>), Resource>;
type Reports = BTreeMap<ObjectRef, Arc<Report>>;

/// What has been made of a batch.
#[derive(Default)]
pub(super) struct Made {
    pub(super) resources: Resources,
    pub(super) in_service: usize,
    pub(super) findings: Vec<Finding>,
}

/// Where and why something panicked last.
static PANIC: Mutex<String> = Mutex::new(String::new());

thread_local! {
    /// Whether a panic here is a finding, and none of the fuzzer itself.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the texts of panics that are caught, instead of printing them.
pub(super) fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_CAUGHT.get() {
                *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
            } else {
                print(panic);
            }
        }));
    });
}

fn settings() -> Settings {
    Settings {
        in_cluster: true,
        bind_address: [127, 0, 0, 1].into(),
        queries_consul: true,
        ..Settings::default()
    }
}

/// Makes a batch from nothing.
pub(super) fn make(objects: &[Object]) -> Made {
    let mut made = Made::default();
    let reconciled = reconcile_all(objects, &mut made.findings);
    let mut store = Store::new(settings());
    let built = caught(|| build(&mut store, &mut Answers::default(), reconciled));
    let (resources, reports) = match built {
        Ok(built) => built,
        Err(panic) => {
            made.findings.push(Finding::new(What::Panic, "", panic));
            return made;
        }
    };
    made.in_service = reports.values().filter(|report| report.in_service).count();
    for (object, report) in &reports {
        let is_reported =
            report.in_service || !report.problems.is_empty() || !object.kind.has_status();
        if !is_reported {
            let message = "not served, and no problem is reported".to_owned();
            made.findings
                .push(Finding::new(What::Unreported, object.kind.name(), message));
        }
    }
    for resource in resources.values() {
        let shown = caught(|| config_dump::to_json(resource).map_err(|error| format!("{error:#}")));
        if let Err(message) = shown.and_then(|shown| shown.map(drop)) {
            made.findings.push(Finding::new(
                What::NotShown,
                &resource.kind.to_string(),
                message,
            ));
        }
    }
    made.resources = resources;
    made
}

fn reconcile_all(objects: &[Object], findings: &mut Vec<Finding>) -> Vec<Reconciled> {
    let settings = settings();
    let mut all = Vec::new();
    for object in objects {
        match caught(|| reconcile(object.kind, object.value.clone(), &settings)) {
            Ok(reconciled) => all.push(reconciled),
            Err(panic) => findings.push(Finding::new(What::Panic, object.kind.name(), panic)),
        }
    }
    all
}

fn build(
    store: &mut Store,
    answers: &mut Answers,
    reconciled: Vec<Reconciled>,
) -> (Resources, Reports) {
    let mut by_kind: BTreeMap<Kind, Vec<Reconciled>> = Kind::WATCHED
        .into_iter()
        .map(|kind| (kind, Vec::new()))
        .collect();
    for reconciled in reconciled {
        by_kind
            .entry(reconciled.object.kind)
            .or_default()
            .push(reconciled);
    }
    for (kind, all) in by_kind {
        store.apply(Change::Replace(Source::Api, kind, all));
    }
    store.link();
    answers.give(store);
    let resources =
        render_all(store.ir()).map(|resource| ((resource.kind, resource.name.clone()), resource));
    (
        resources.collect(),
        store.reports().clone().into_iter().collect(),
    )
}

/// A Store that is kept from batch to batch, like that of a control plane.
pub(super) struct Survivor(Store, Answers);

impl Survivor {
    pub(super) fn new() -> Self {
        Self(Store::new(settings()), Answers::default())
    }

    /// Applies the next batch; whether the resources equal those of a new Store.
    pub(super) fn agrees(&mut self, objects: &[Object], resources: &Resources) -> bool {
        let reconciled = reconcile_all(objects, &mut Vec::new());
        match caught(|| build(&mut self.0, &mut self.1, reconciled)) {
            Ok((own, _)) => own == *resources,
            Err(_panic) => {
                *self = Self::new();
                false
            }
        }
    }
}

/// The result, or the text of the panic.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    IS_CAUGHT.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_CAUGHT.set(false);
    result.map_err(|panic| {
        let kept = std::mem::take(&mut *PANIC.lock().unwrap_or_else(PoisonError::into_inner));
        if kept.is_empty() {
            text(panic.as_ref())
        } else {
            kept
        }
    })
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
