//! Certificates that have expired, or expire soon. The time is an input of the Store, as objects are: see
//! [`Store::set_time`].

use jiff::Timestamp;

use crate::{
    reconcile::{Certificate, Name, served},
    report::{Problem, Reason},
    store::Store,
};

/// A certificate expires soon when less than this is left …
const SOON: i64 = 14 * 24 * 60 * 60;
/// … and less than this part of its lifetime, so that one that is replaced every day is not always about to expire.
const SOON_PART: i64 = 5;

/// How long a certificate can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Long enough.
    Valid,
    /// It expires soon.
    ExpiresSoon,
    /// It has expired.
    Expired,
}

/// What there is to know about a certificate that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedCertificate {
    /// When it expires, in seconds since the epoch.
    pub not_after: i64,
    /// How long it can still be used.
    pub validity: Validity,
    /// Whether its Secret has become unusable since.
    pub is_kept: bool,
}

fn validity(certificate: &Certificate, now: Option<i64>) -> Validity {
    let Some(now) = now else {
        return Validity::Valid;
    };
    let Certificate {
        not_before,
        not_after,
        ..
    } = certificate;
    let left = not_after.saturating_sub(now);
    let lifetime = not_after.saturating_sub(*not_before);
    if left <= 0 {
        Validity::Expired
    } else if left < SOON && left < lifetime / SOON_PART {
        Validity::ExpiresSoon
    } else {
        Validity::Valid
    }
}

/// The day of a time.
pub(in crate::store) fn day(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%Y-%m-%d").to_string())
}

impl Store {
    /// Sets the time, in seconds since the epoch. Until it is set, nothing expires.
    pub fn set_time(&mut self, now: i64) {
        let before = self.secrets.now.replace(now);
        for (name, secret) in &self.secrets.by_name {
            let Some(certificate) = served(&secret.certificate) else {
                continue;
            };
            if validity(certificate, before) == validity(certificate, Some(now)) {
                continue;
            }
            let users = self.secrets.users.of(name);
            self.dirty.reports.extend(users.cloned());
            self.dirty.certificates.insert(name.to_string().into());
        }
    }

    /// A certificate in a Secret of the gateway model; `None`: there is no such certificate.
    #[must_use]
    pub fn served_certificate(&self, resource: &str) -> Option<ServedCertificate> {
        self.ir.secrets.get(resource)?;
        let (namespace, name) = resource.split_once('/')?;
        let secret = self.secrets.get(&Name {
            namespace: namespace.into(),
            name: name.into(),
        })?;
        let certificate = served(&secret.certificate)?;
        Some(ServedCertificate {
            not_after: certificate.not_after,
            validity: validity(certificate, self.secrets.now),
            is_kept: secret.certificate.is_err(),
        })
    }

    /// That the certificate of an object has expired or expires soon.
    pub(in crate::store) fn expiry_problem(&self, path: &str, resource: &str) -> Option<Problem> {
        let certificate = self.served_certificate(resource)?;
        let day = day(certificate.not_after)?;
        let (reason, message) = match certificate.validity {
            Validity::Valid => return None,
            Validity::ExpiresSoon => (
                Reason::CERTIFICATE_EXPIRES_SOON,
                format!("the certificate in Secret {resource} expires on {day}"),
            ),
            Validity::Expired => (
                Reason::CERTIFICATE_EXPIRED,
                format!("the certificate in Secret {resource} expired on {day}; clients reject it"),
            ),
        };
        Some(Problem::ignored(reason, path, message))
    }
}
