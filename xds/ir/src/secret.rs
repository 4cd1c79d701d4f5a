//! Certificates, private keys and CA certificates. Keys are never printed.

use std::{fmt, sync::Arc};

/// A named secret (`envoy.extensions.transport_sockets.tls.v3.Secret`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Resource name, referenced by filter chains and clusters.
    pub name: Arc<str>,
    /// Content.
    pub content: SecretContent,
}

/// Content of a secret, PEM-encoded.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretContent {
    /// A certificate with its private key.
    Certificate {
        /// Certificate chain, leaf first.
        chain: Arc<str>,
        /// Private key of the leaf.
        private_key: Arc<str>,
    },
    /// What certificates of peers are verified with.
    Validation {
        /// Trusted CA certificates.
        trusted: Arc<str>,
        /// Certificate revocation lists.
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
