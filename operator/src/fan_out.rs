//! From sources to the publish loops: a source reads an object once, whatever the number of fleets, and each fleet that the
//! object is for gets it. A fleet knows nothing of what is only for others.
//!
//! Each fleet has a queue of its own. A source that is ahead of one of them by [`CHANGES`] batches waits for it.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use futures::future::try_join_all;
use nuncio_core::{
    change::{Batch, Change, ResourceVersion},
    object::{Kind, ObjectRef},
    store::Loss,
};
use tokio::sync::{mpsc, oneshot};

use crate::publish::Question;

/// Batches of changes that wait for a publish loop; a source that sends more waits.
pub(crate) const CHANGES: usize = 64;

/// The process stops: the receiver of changes is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process stops")]
pub struct Stopping;

/// Where sources send changes: to each fleet, in the order of [`nuncio_core::settings::Fleets`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Changes(Arc<[mpsc::Sender<Batch>]>);

impl Changes {
    /// To these fleets, at least one.
    #[must_use]
    pub fn new(fleets: Vec<mpsc::Sender<Batch>>) -> Self {
        Self(fleets.into())
    }

    /// To one of the fleets only.
    #[must_use]
    pub fn of(&self, fleet: usize) -> Self {
        let only = self.0.get(fleet).cloned();
        Self(only.into_iter().collect())
    }

    /// Sends the same changes to each fleet.
    ///
    /// # Errors
    /// The process stops.
    pub async fn send(&self, batch: Batch) -> Result<(), Stopping> {
        match &*self.0 {
            [only] => only.send(batch).await.map_err(|_gone| Stopping),
            several => {
                let each = several.iter().map(|fleet| fleet.send(batch.clone()));
                try_join_all(each).await.map_err(|_gone| Stopping)?;
                Ok(())
            }
        }
    }

    /// Sends to each fleet changes of its own, if there are any for it. They were received at this time, and a fleet that has
    /// an object no more lost it with this version.
    ///
    /// # Errors
    /// The process stops.
    pub async fn send_each(
        &self,
        received: Instant,
        version: ResourceVersion,
        changes: Vec<Vec<Change>>,
    ) -> Result<(), Stopping> {
        let batch = |changes: Vec<Change>| Batch {
            deleted: match changes.first() {
                Some(Change::Delete(..)) => version.clone(),
                _other => ResourceVersion::Unknown,
            },
            ..Batch::new(received, changes)
        };
        let each = self.0.iter().zip(changes);
        let each = each.filter(|(_fleet, changes)| !changes.is_empty());
        let each = each.map(|(fleet, changes)| fleet.send(batch(changes)));
        try_join_all(each).await.map_err(|_gone| Stopping)?;
        Ok(())
    }
}

/// To one fleet.
impl From<mpsc::Sender<Batch>> for Changes {
    fn from(only: mpsc::Sender<Batch>) -> Self {
        Self::new(vec![only])
    }
}

/// Where sources ask before they believe a list.
#[derive(Clone, Debug)]
pub struct Questions(Arc<[mpsc::Sender<Question>]>);

impl Questions {
    /// Asks these fleets, at least one.
    #[must_use]
    pub fn new(fleets: Vec<mpsc::Sender<Question>>) -> Self {
        Self(fleets.into())
    }

    /// What would be lost if the apiserver had only these objects of a kind: of the fleet that would lose the largest part.
    pub(crate) async fn loss(&self, kind: Kind, listed: BTreeSet<ObjectRef>) -> Loss {
        let mut worst = Loss::default();
        for fleet in &*self.0 {
            let (answer, answered) = oneshot::channel();
            let listed = listed.clone();
            let question = Question {
                kind,
                listed,
                answer,
            };
            let loss = match fleet.send(question).await {
                Ok(()) => answered.await.unwrap_or_default(),
                Err(_stopping) => Loss::default(),
            };
            if loss.is_most() || !worst.is_most() && loss.lost > worst.lost {
                worst = loss;
            }
        }
        worst
    }
}

/// To one fleet.
impl From<mpsc::Sender<Question>> for Questions {
    fn from(only: mpsc::Sender<Question>) -> Self {
        Self::new(vec![only])
    }
}
