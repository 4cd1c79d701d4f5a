//! A certificate with its private key. Never printed.

use std::{fmt, sync::Arc};

/// A certificate chain with its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Resource name, by which chains refer to it.
    pub name: Arc<str>,
    /// Certificates, the server's own first.
    pub certificate_chain: Arc<str>,
    /// Private key of the first certificate.
    pub private_key: Arc<str>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("private_key", &"[redacted]")
            .finish_non_exhaustive()
    }
}
