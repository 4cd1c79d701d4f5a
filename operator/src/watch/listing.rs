//! The objects of a list. They are reconciled beside the requests for its pages, so that neither waits for the other.

use std::{future::pending, mem, panic::resume_unwind, sync::Arc};

use tokio::task::JoinHandle;

use super::object::Object;
use crate::status::{Manager, Observed};
use nuncio_core::{
    annotation::Annotation,
    change::{Owned, Reconciled},
    object::{Kind, ObjectRef},
    reconcile::{reconcile, reconcile_each},
    settings::Fleets,
};

/// Objects that are reconciled in one go.
const BATCH: usize = 100;

/// What becomes of an object.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which object.
    pub(crate) object: ObjectRef,
    /// What it is for each fleet; `None` if it is not for a fleet.
    pub(crate) fleets: Vec<Option<Reconciled>>,
    /// What is in its annotation, for each fleet; empty without the annotation.
    pub(crate) annotated: Vec<Owned>,
    /// The status that it has.
    pub(crate) observed: Observed,
}

/// Reconciles objects of a kind.
#[derive(Debug)]
pub(crate) struct Reader {
    kind: Kind,
    fleets: Fleets,
    manager: Manager,
}

impl Reader {
    pub(crate) fn new(kind: Kind, fleets: Fleets) -> Self {
        Self {
            kind,
            manager: Manager::new(&fleets),
            fleets,
        }
    }

    /// The status that an object has.
    pub(crate) fn observed(&self, object: &Object) -> Observed {
        if self.kind.has_status() {
            Observed::of(self.kind, &object.value)
                .beside(object.metadata.managed_fields.as_deref(), &self.manager)
        } else {
            Observed::default()
        }
    }

    /// The object after its reconciler, and its status.
    pub(crate) fn read(&self, object: Object) -> Found {
        let observed = self.observed(&object);
        let name = self.name(&object);
        let annotation = Annotation::of(self.kind, &object.value, &self.fleets);
        let mut fleets = match self.fleets.only() {
            Ok(only) => vec![Some(reconcile(self.kind, object.value, only))],
            Err(_several) => reconcile_each(self.kind, object.value, &self.fleets),
        };
        let annotated = annotation.map(|annotation| {
            for found in fleets.iter_mut().flatten() {
                found.add_problems(&annotation.problems);
            }
            annotation.into_owned(&name)
        });
        Found {
            object: name,
            fleets,
            annotated: annotated.unwrap_or_default(),
            observed,
        }
    }

    /// Which object this is.
    pub(crate) fn name(&self, object: &Object) -> ObjectRef {
        let metadata = &object.metadata;
        ObjectRef::new(
            self.kind,
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }

    /// How many fleets there are.
    pub(crate) fn fleets(&self) -> usize {
        self.fleets.iter().len()
    }
}

/// A list that is being read.
#[derive(Debug)]
pub(crate) struct Listing {
    reader: Arc<Reader>,
    batch: Vec<Object>,
    tasks: Vec<JoinHandle<Vec<Found>>>,
}

impl Listing {
    pub(crate) fn new(reader: Arc<Reader>) -> Self {
        Self {
            reader,
            batch: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Adds the next object.
    pub(crate) fn push(&mut self, object: Object) {
        self.batch.push(object);
        if self.batch.len() == BATCH {
            self.reconcile();
        }
    }

    fn reconcile(&mut self) {
        let (reader, batch) = (self.reader.clone(), mem::take(&mut self.batch));
        let task = async move {
            batch
                .into_iter()
                .map(|object| reader.read(object))
                .collect()
        };
        self.tasks.push(tokio::spawn(task));
    }

    /// All objects, in their order.
    pub(crate) async fn finish(mut self) -> Vec<Found> {
        self.reconcile();
        let mut found = Vec::new();
        for task in self.tasks {
            match task.await {
                Ok(some) => found.extend(some),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    // the process stops; a part of the list must not count as the whole
                    Err(_cancelled) => pending().await,
                },
            }
        }
        found
    }
}
