//! Level of Secrets: certificates, which Secrets are needed, and who is linked again when one changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{self as ir, Unit};

use super::{Store, users::Users};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{Name, Secret, served},
};

pub(super) mod expiry;
pub(super) mod validation;
pub(super) mod waiting;

/// Secrets that something refers to; `None` until everything else has been read.
pub type WantedSecrets = Option<Arc<BTreeSet<ObjectRef>>>;

/// Secrets, and who names them.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    by_name: BTreeMap<Name, Arc<Secret>>,
    pub(super) users: Users<Name>,
    /// Secrets that something refers to, and that are known not to exist.
    pub(super) missing: BTreeSet<Name>,
    /// The time, in seconds since the epoch; `None` where it does not matter.
    now: Option<i64>,
}

impl Secrets {
    /// The Secret of this name.
    pub(super) fn get(&self, name: &Name) -> Option<&Secret> {
        self.by_name.get(name).map(AsRef::as_ref)
    }

    /// Whether this Secret has not been read yet.
    pub(super) fn is_unread(&self, name: &Name) -> bool {
        !self.by_name.contains_key(name) && !self.missing.contains(name)
    }
}

impl Store {
    pub(super) fn set_secret(&mut self, object: &ObjectRef, secret: Option<Arc<Secret>>) {
        let name = Name::of(object);
        let secrets = &mut self.secrets.by_name;
        match secret {
            Some(secret) => secrets.insert(name.clone(), secret),
            None => secrets.remove(&name),
        };
        if name == self.fallback_secret() {
            self.dirty.default_host = true;
        }
        self.dirty.secrets.insert(name);
    }

    /// Adds a user of a Secret. It is published if this is the first that Envoy needs it for; others that use it stay as they
    /// are.
    pub(super) fn use_secret(&mut self, secret: &Name, user: &ObjectRef) {
        self.secrets.users.add(secret, user);
        self.dirty.secret_users.insert(secret.clone());
    }

    /// Removes a user of a Secret, as [`Store::use_secret`] adds it.
    pub(super) fn stop_using_secret(&mut self, secret: &Name, user: &ObjectRef) {
        self.secrets.users.remove(secret, user);
        self.dirty.secret_users.insert(secret.clone());
    }

    /// A certificate is a separate resource: only Hosts that could not use it before, or no longer can, change.
    pub(super) fn link_secrets(&mut self) {
        let changed = mem::take(&mut self.dirty.secrets);
        for name in &changed {
            for user in self.secrets.users.of(name) {
                self.dirty.link_again(user);
            }
        }
        let mut names = mem::take(&mut self.dirty.secret_users);
        names.extend(changed);
        for name in names {
            if !self.secrets.users.has(&name) {
                self.secrets.missing.remove(&name);
            }
            // Envoy has no use for what a ConsulResolver refers to
            let is_for_envoy = |user: &ObjectRef| user.kind != Kind::ConsulResolver;
            let is_used = self.secrets.users.of(&name).any(is_for_envoy);
            let secret = self.secrets.get(&name);
            let certificate = secret.and_then(|secret| served(&secret.certificate));
            let content =
                certificate
                    .filter(|_| is_used)
                    .map(|certificate| ir::SecretContent::Certificate {
                        chain: certificate.chain.clone(),
                        private_key: certificate.key.clone(),
                    });
            let resource: Arc<str> = name.to_string().into();
            self.dirty.certificates.insert(resource.clone());
            self.replace_secret(resource, content);
        }
    }

    /// Replaces a Secret of the gateway model, and marks it if it differs.
    fn replace_secret(&mut self, resource: Arc<str>, content: Option<ir::SecretContent>) {
        let changed = match content {
            Some(content) => {
                let name = resource.clone();
                let secret = Arc::new(ir::Secret { name, content });
                self.ir.secrets.insert(resource.clone(), secret.clone()) != Some(secret)
            }
            None => self.ir.secrets.remove(&resource).is_some(),
        };
        if changed {
            self.dirty.units.insert(Unit::Secret(resource));
        }
    }

    /// Equal as long as [`Store::wanted_secrets`] is.
    #[must_use]
    pub fn wanted_generation(&self) -> (u64, bool) {
        (self.secrets.users.generation(), self.has_default_host())
    }

    /// Secrets that something refers to; no others need to be read.
    #[must_use]
    pub fn wanted_secrets(&self) -> BTreeSet<ObjectRef> {
        let fallback = self.has_default_host().then(|| self.fallback_secret());
        self.secrets
            .users
            .keys()
            .cloned()
            .chain(fallback)
            .map(|name| ObjectRef {
                kind: Kind::Secret,
                name: name.name,
                namespace: name.namespace,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
