//! What a Secret adds: certificates, each checked, or the reason why it cannot be used.

use std::{fmt, sync::Arc};

/// The parts of a Secret, each with the reason if it is missing or invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Certificate and key, checked: both parse and belong together.
    pub certificate: Result<Certificate, String>,
    /// PEM of CA certificates, checked: all parse.
    pub trusted: Result<Arc<str>, String>,
    /// PEM of certificate revocation lists, checked: all parse.
    pub revoked: Result<Arc<str>, String>,
    /// PEM of the CA certificates beside a certificate (`root-cert.pem`, as Istio writes it), checked: all parse.
    pub root: Option<Arc<str>>,
}

/// A certificate chain with its private key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, the server's own certificate first.
    pub chain: Arc<str>,
    /// PEM
    pub key: Arc<str>,
    /// When the server's own certificate expires, in seconds since the epoch.
    pub not_after: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key", &"[redacted]")
            .finish_non_exhaustive()
    }
}
