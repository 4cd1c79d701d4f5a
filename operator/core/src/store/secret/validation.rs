//! Validation of peers' certificates: one Secret for each object that configures it, so that a new authority or certificate
//! revocation list changes neither a listener nor a connection.

use std::sync::Arc;

use nuncio_ir::SecretContent;

use crate::store::Store;
use crate::{
    object::ObjectRef,
    reconcile::{Name, TlsSettings},
    report::{Problem, Reason},
};

impl Store {
    /// Replaces the Secret with which an object validates certificates of peers, and returns its name if there is one.
    /// `path` is where the object names its authorities, `root` the `ca.crt` of its certificate's Secret.
    ///
    /// # Errors
    /// A Secret is missing or unusable; the validation Secret is removed then.
    pub(in crate::store) fn link_validation(
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
        let name = self.set_validation(object, content);
        found.map(|_| name)
    }

    /// Replaces the Secret with which an object validates certificates of peers, and returns its name if there is one.
    pub(in crate::store) fn set_validation(
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
        let exists = content.is_some();
        self.replace_secret(resource.clone(), content);
        exists.then_some(resource)
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

    /// When the certificate in a Secret of the gateway model expires, in seconds since the epoch; `None`: there is no such
    /// certificate.
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

    /// The Secret of the gateway model with this certificate.
    ///
    /// # Errors
    /// It does not exist or cannot be used.
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
        format!("Secret {name} does not exist"),
    )
}

fn unusable(path: &str, name: &Name, reason: &str) -> Problem {
    Problem::unresolved(
        Reason::INVALID_SECRET,
        path,
        format!("Secret {name} is invalid: {reason}"),
    )
}
