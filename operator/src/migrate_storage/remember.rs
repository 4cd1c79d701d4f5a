//! Reading a definition and writing its status.

use jiff::Timestamp;
use kube::{
    Error,
    api::{Patch, PatchParams},
};
use serde_json::Value;

use super::{
    Context,
    definition::{self, Definition, Store},
    place::Key,
    retry::{retried, text},
};

/// Attempts to write a status that others write at the same time.
const ATTEMPTS: usize = 10;

/// Why a status was not written.
pub(super) enum Unwritten {
    /// The spec has changed since the run began.
    Changed,
    /// For another reason.
    Failed(String),
}

/// What becomes of a status.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    /// Objects up to this key are stored.
    Remember(Option<&'a Key>),
    /// All objects are stored.
    Prune,
}

impl Context {
    /// The definition of this name, if it is installed.
    pub(super) async fn definition(&self, name: &str) -> Result<Option<Definition>, String> {
        let api = self.definitions();
        let answer = retried(&self.stop, async || api.get_opt(name).await).await;
        answer.map_err(|error| self.explained(&error))
    }

    /// Changes the status of a definition whose spec is that from before; returns its stored versions.
    pub(super) async fn write(
        &self,
        name: &str,
        store: &Store,
        change: Change<'_>,
    ) -> Result<Vec<String>, Unwritten> {
        for _ in 0..ATTEMPTS {
            let found = self.definition(name).await.map_err(Unwritten::Failed)?;
            let Some(found) = found else {
                return Err(Unwritten::Changed);
            };
            if definition::generation(&found) != store.generation {
                return Err(Unwritten::Changed);
            }
            let patch = match change {
                Change::Remember(after) => {
                    definition::remembering(&found, &store.place(after), Timestamp::now())
                }
                Change::Prune => definition::pruning(&found, &store.version),
            };
            match self.patch(name, patch).await {
                Ok(written) => return Ok(definition::stored(&written).to_vec()),
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(Unwritten::Failed(self.explained(&error))),
            }
        }
        let reason = format!("others write the status of CustomResourceDefinition {name}");
        Err(Unwritten::Failed(reason))
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<Definition, Error> {
        let api = self.definitions();
        let parameters = PatchParams {
            dry_run: self.dry_run,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        retried(&self.stop, async || {
            api.patch_status(name, &parameters, &patch).await
        })
        .await
    }

    /// An error as people read it, with what to do about it.
    pub(super) fn explained(&self, error: &Error) -> String {
        let reason = text(error);
        match error {
            Error::Api(status) if status.code == 403 => format!("missing permission: {reason}"),
            _ if self.stop.is_cancelled() => format!("interrupted: {reason}"),
            _ => reason,
        }
    }
}
