//! Level of Secrets: certificates, and who has to look again when one changes.

use std::{mem, sync::Arc};

use nuncio_ir::{self as ir, Unit};

use super::{Store, name_of};
use crate::{object::ObjectRef, reconcile::Secret};

pub(super) mod validation;
pub(super) mod waiting;

impl Store {
    pub(super) fn set_secret(&mut self, object: &ObjectRef, secret: Option<Arc<Secret>>) {
        let name = name_of(object);
        match secret {
            Some(secret) => self.secrets.insert(name.clone(), secret),
            None => self.secrets.remove(&name),
        };
        if name == self.fallback_secret() {
            self.dirty.default_host = true;
        }
        self.dirty.secrets.insert(name);
    }

    /// A certificate is a resource of its own: only Hosts that could not use it before, or cannot any more, change.
    pub(super) fn link_secrets(&mut self) {
        for name in mem::take(&mut self.dirty.secrets) {
            for user in self.secret_users.of(&name) {
                self.dirty.look_again(user);
            }
            let resource: Arc<str> = name.to_string().into();
            let used = self.secret_users.of(&name).next().is_some();
            if !used {
                self.missing_secrets.remove(&name);
            }
            let certificate = self
                .secrets
                .get(&name)
                .and_then(|secret| secret.certificate.as_ref().ok());
            let secret = certificate.filter(|_| used).map(|certificate| {
                Arc::new(ir::Secret {
                    name: resource.clone(),
                    content: ir::SecretContent::Certificate {
                        chain: certificate.chain.clone(),
                        private_key: certificate.key.clone(),
                    },
                })
            });
            let changed = match secret {
                Some(secret) => {
                    self.ir.secrets.insert(resource.clone(), secret.clone()) != Some(secret)
                }
                None => self.ir.secrets.remove(&resource).is_some(),
            };
            if changed {
                self.dirty.units.insert(Unit::Secret(resource));
            }
        }
    }
}
