//! What peers' certificates are checked against: a resource of its own for whoever asks for it, so that a new authority
//! or a longer list of revoked certificates touches neither listener nor connection.

use std::sync::Arc;

use nuncio_ir::{self as ir, SecretContent, Unit};

use crate::store::Store;
use crate::{
    object::ObjectRef,
    reconcile::{Name, TlsSettings},
    report::{Problem, Reason},
};

impl Store {
    /// Sees to the resource of an object's authorities, and returns its name if there are any. `path` is where the
    /// object names them, and `root` what comes with its certificate.
    ///
    /// # Errors
    /// A Secret is missing or unusable. The resource is gone then.
    pub(in crate::store) fn link_trust(
        &mut self,
        object: &ObjectRef,
        path: &str,
        settings: &TlsSettings,
        root: Option<&Arc<str>>,
    ) -> Result<Option<Arc<str>>, Problem> {
        let found = self.validation(path, settings);
        let content = match &found {
            Ok(Some(content)) => Some(content.clone()),
            Ok(None) => root.map(|root| SecretContent::Validation {
                trusted: root.clone(),
                revoked: None,
            }),
            Err(_) => None,
        };
        let name = self.set_trust(object, content);
        found.map(|_| name)
    }

    /// Replaces the resource of an object's authorities, and returns its name if it exists.
    pub(in crate::store) fn set_trust(
        &mut self,
        object: &ObjectRef,
        content: Option<SecretContent>,
    ) -> Option<Arc<str>> {
        let ObjectRef {
            kind,
            namespace,
            name,
        } = object;
        let resource: Arc<str> = format!("trusted/{kind}/{namespace}/{name}").into();
        let is_there = content.is_some();
        let changed = match content {
            Some(content) => {
                let secret = Arc::new(ir::Secret {
                    name: resource.clone(),
                    content,
                });
                self.ir.secrets.insert(resource.clone(), secret.clone()) != Some(secret)
            }
            None => self.ir.secrets.remove(&resource).is_some(),
        };
        if changed {
            self.dirty.units.insert(Unit::Secret(resource.clone()));
        }
        is_there.then_some(resource)
    }

    fn validation(
        &self,
        path: &str,
        settings: &TlsSettings,
    ) -> Result<Option<SecretContent>, Problem> {
        let Some(name) = &settings.trusted else {
            return Ok(None);
        };
        let field = format!("{path}ca_secret");
        let secret = self
            .secrets
            .get(name)
            .ok_or_else(|| not_found(&field, name))?;
        let trusted = secret.trusted.as_ref();
        let trusted = trusted.map_err(|reason| unusable(&field, name, reason))?;
        let revoked = match &settings.revoked {
            None => None,
            Some(name) => {
                let field = format!("{path}crl_secret");
                let secret = self
                    .secrets
                    .get(name)
                    .ok_or_else(|| not_found(&field, name))?;
                let revoked = secret.revoked.as_ref();
                Some(revoked.map_err(|reason| unusable(&field, name, reason))?)
            }
        };
        Ok(Some(SecretContent::Validation {
            trusted: trusted.clone(),
            revoked: revoked.cloned(),
        }))
    }

    /// When the certificate in a resource expires, in seconds of the epoch; `None`: there is no such certificate.
    #[must_use]
    pub fn certificate_not_after(&self, resource: &str) -> Option<i64> {
        let (namespace, name) = resource.split_once('/')?;
        let name = Name {
            namespace: namespace.into(),
            name: name.into(),
        };
        self.ir.secrets.get(resource)?;
        let certificate = self.secrets.get(&name)?.certificate.as_ref().ok()?;
        Some(certificate.not_after)
    }

    /// The resource of a Secret's certificate, if it is there and in order.
    pub(in crate::store) fn certificate(
        &self,
        field: &str,
        name: &Name,
    ) -> Result<Arc<str>, Problem> {
        match self.secrets.get(name).map(|secret| &secret.certificate) {
            None => Err(not_found(field, name)),
            Some(Err(reason)) => Err(unusable(field, name, reason)),
            Some(Ok(_)) => Ok(name.to_string().into()),
        }
    }
}

fn not_found(path: &str, name: &Name) -> Problem {
    Problem::unresolved(
        Reason::SECRET_NOT_FOUND,
        path,
        format!(
            "there is no Secret {:?} in namespace {:?}",
            name.name, name.namespace
        ),
    )
}

fn unusable(path: &str, name: &Name, reason: &str) -> Problem {
    Problem::unresolved(
        Reason::INVALID_SECRET,
        path,
        format!("Secret {name} cannot be used: {reason}"),
    )
}
