//! What a Secret adds: certificates, each checked, or the reason why it cannot be used.

use std::{fmt, sync::Arc};

/// The parts of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Certificate and key, checked: both parse and belong together.
    pub certificate: Part<Certificate>,
    /// PEM of CA certificates, checked: all parse.
    pub trusted: Part<Arc<str>>,
    /// PEM of certificate revocation lists, checked: all parse.
    pub revoked: Part<Arc<str>>,
    /// ACL token for Consul.
    pub token: Part<Token>,
}

/// A part of a Secret.
pub type Part<T> = Result<T, Unusable<T>>;

/// A part that is missing or invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable<T> {
    /// Why.
    pub reason: String,
    /// The part as it was when it was usable last. Never set by the reconciler, see [`crate::last_usable`].
    pub last: Option<T>,
}

impl<T> From<String> for Unusable<T> {
    fn from(reason: String) -> Self {
        Self { reason, last: None }
    }
}

/// What is served of a part: the part itself, or else as it was when it was usable last.
pub fn served<T>(part: &Part<T>) -> Option<&T> {
    match part {
        Ok(usable) => Some(usable),
        Err(unusable) => unusable.last.as_ref(),
    }
}

/// A certificate chain with its private key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, the server's own certificate first.
    pub chain: Arc<str>,
    /// PEM
    pub key: Arc<str>,
    /// When the server's own certificate begins to be valid, in seconds since the epoch.
    pub not_before: i64,
    /// When it expires.
    pub not_after: i64,
    /// PEM of the CA certificates beside it (`root-cert.pem`, as Istio writes it), checked: all parse. Part of the
    /// certificate, so that both are always of the same version of the Secret.
    pub root: Option<Arc<str>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// A token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
