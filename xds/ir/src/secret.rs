//! Certificates, private keys, and what is trusted. Keys are never printed.

use std::{fmt, sync::Arc};

/// A named secret (`envoy.extensions.transport_sockets.tls.v3.Secret`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Resource name, by which chains and clusters refer to it.
    pub name: Arc<str>,
    /// What it holds.
    pub content: SecretContent,
}

/// What a secret holds; all texts are PEM.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretContent {
    /// A certificate with its private key.
    Certificate {
        /// Certificates, one's own first.
        chain: Arc<str>,
        /// Private key of the first certificate.
        private_key: Arc<str>,
    },
    /// What peers' certificates are checked against.
    Validation {
        /// Certificates of authorities that are trusted.
        trusted: Arc<str>,
        /// Lists of certificates that are revoked.
        revoked: Option<Arc<str>>,
    },
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "certificate and key [redacted]",
            Self::Validation { .. } => "authorities",
        })
    }
}
