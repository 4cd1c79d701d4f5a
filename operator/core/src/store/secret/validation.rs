//! Validation of peers' certificates: one Secret for each object that configures it, so that a new authority or certificate
//! revocation list changes neither a listener nor a connection.

use std::sync::Arc;

use nuncio_ir::SecretContent;

use super::expiry::day;
use crate::{
    object::ObjectRef,
    reconcile::{Certificate, Name, Part, TlsSettings, served},
    report::{Problem, Reason},
    store::Store,
};

impl Store {
    /// Replaces the Secret with which an object validates certificates of peers, and returns its name if there is one.
    /// `path` is where the object names its authorities, `root` the authorities beside its certificate. `kept` gets what
    /// has become unusable and is served as it was before.
    ///
    /// # Errors
    /// A Secret is missing or unusable; the validation Secret is removed then.
    pub(in crate::store) fn link_validation(
        &mut self,
        object: &ObjectRef,
        path: &str,
        settings: &TlsSettings,
        root: Option<&Arc<str>>,
        kept: &mut Vec<Problem>,
    ) -> Result<Option<Arc<str>>, Problem> {
        let found = self.validation(path, settings, kept);
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
        kept: &mut Vec<Problem>,
    ) -> Result<Option<SecretContent>, Problem> {
        let Some(name) = &settings.trusted else {
            return Ok(None);
        };
        let field = format!("{path}ca_secret");
        let secret = self
            .secrets
            .get(name)
            .ok_or_else(|| not_found(&field, name))?;
        let instead = |_: &_| "the last valid CA certificates".to_owned();
        let trusted = usable(&field, name, &secret.trusted, instead, kept)?;
        let revoked = match &settings.revoked {
            None => None,
            Some(name) => {
                let field = format!("{path}crl_secret");
                let secret = self
                    .secrets
                    .get(name)
                    .ok_or_else(|| not_found(&field, name))?;
                let instead = |_: &_| "the last valid certificate revocation list".to_owned();
                Some(usable(&field, name, &secret.revoked, instead, kept)?)
            }
        };
        Ok(Some(SecretContent::Validation {
            trusted: trusted.clone(),
            revoked: revoked.cloned(),
        }))
    }

    /// The Secret of the gateway model with this certificate. `kept` gets a problem if it has become unusable and is served
    /// as it was before.
    ///
    /// # Errors
    /// It does not exist or cannot be used.
    pub(in crate::store) fn certificate(
        &self,
        field: &str,
        name: &Name,
        kept: &mut Vec<Problem>,
    ) -> Result<Arc<str>, Problem> {
        let secret = self.secrets.get(name);
        let secret = secret.ok_or_else(|| not_found(field, name))?;
        let instead = |last: &Certificate| match day(last.not_after) {
            Some(day) => format!("the last valid certificate, which expires on {day}"),
            None => "the last valid certificate".to_owned(),
        };
        usable(field, name, &secret.certificate, instead, kept)?;
        Ok(name.to_string().into())
    }

    /// The authorities beside a certificate.
    pub(in crate::store) fn root(&self, secret: &Name) -> Option<&Arc<str>> {
        let certificate = &self.secrets.get(secret)?.certificate;
        served(certificate)?.root.as_ref()
    }
}

/// A part of a Secret, or else as it was when it was usable last, with a problem in `kept` that has what `instead` returns.
///
/// # Errors
/// It never was usable.
fn usable<'a, T>(
    field: &str,
    name: &Name,
    part: &'a Part<T>,
    instead: impl Fn(&T) -> String,
    kept: &mut Vec<Problem>,
) -> Result<&'a T, Problem> {
    let found = match part {
        Ok(usable) => return Ok(usable),
        Err(found) => found,
    };
    let problem = unusable(field, name, &found.reason);
    let Some(last) = &found.last else {
        return Err(problem);
    };
    kept.push(Problem {
        message: format!("{}; using {}", problem.message, instead(last)),
        ..problem
    });
    Ok(last)
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
