//! Objects that use what older Envoys do not have: which of their forms is filed depends on the oldest connected one.

use std::collections::BTreeMap;

use nuncio_ir::EnvoyVersion;

use super::Store;
use crate::{
    change::{Origin, Reconciled},
    object::ObjectRef,
};

/// These objects. There are few.
#[derive(Debug, Default)]
pub(super) struct OlderForms {
    oldest: EnvoyVersion,
    objects: BTreeMap<(ObjectRef, Origin), Reconciled>,
}

impl OlderForms {
    /// Notes the forms of an object, and returns the one to file.
    pub(super) fn choose(&mut self, origin: &Origin, reconciled: Reconciled) -> Reconciled {
        if !reconciled.older.is_empty() {
            let key = (reconciled.object.clone(), origin.clone());
            self.objects.insert(key, reconciled.clone());
        } else if !self.objects.is_empty() {
            self.remove(origin, &reconciled.object);
        }
        reconciled.into_version(self.oldest)
    }

    /// An object with all its forms, if it has several.
    pub(super) fn get(&self, origin: &Origin, object: &ObjectRef) -> Option<&Reconciled> {
        if self.objects.is_empty() {
            return None;
        }
        self.objects.get(&(object.clone(), origin.clone()))
    }

    /// Forgets an object that a source no longer has.
    pub(super) fn remove(&mut self, origin: &Origin, object: &ObjectRef) {
        if !self.objects.is_empty() {
            self.objects.remove(&(object.clone(), origin.clone()));
        }
    }
}

impl Store {
    /// Files the forms for another oldest version.
    pub(super) fn set_oldest_envoy(&mut self, oldest: EnvoyVersion) {
        if self.older_forms.oldest == oldest {
            return;
        }
        self.older_forms.oldest = oldest;
        let objects = self.older_forms.objects.iter();
        let objects: Vec<(Origin, Reconciled)> = objects
            .map(|((_, origin), reconciled)| (origin.clone(), reconciled.clone()))
            .collect();
        for (origin, reconciled) in objects {
            self.file(&origin, reconciled);
        }
    }
}
