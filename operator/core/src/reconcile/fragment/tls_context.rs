//! What a TLSContext adds: TLS settings for the objects that refer to it.

use std::sync::Arc;

use nuncio_ir::TlsParameters;

use super::Name;

/// TLS settings for the objects that refer to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsContext {
    /// Server names that it applies to, lower case.
    pub hosts: Vec<Arc<str>>,
    /// The same with Secrets of its own namespace, if it does not say whether names of Secrets can have a namespace
    /// (`secret_namespacing`) and the answer makes a difference: a Module decides.
    pub in_own_namespace: Option<Arc<Self>>,
    /// Secret with certificate and key.
    pub certificate: Option<Name>,
    /// Server name sent to upstreams.
    pub server_name: Option<String>,
    /// All other settings.
    pub settings: TlsSettings,
}

/// TLS settings for connections from clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// Secret with the CA certificates that are trusted.
    pub trusted: Option<Name>,
    /// Secret with certificate revocation lists.
    pub revoked: Option<Name>,
    /// Whether clients must present a certificate.
    pub require_client_certificate: bool,
    /// Protocols offered by ALPN.
    pub alpn: Vec<String>,
    /// Versions, ciphers and curves.
    pub parameters: TlsParameters,
}
