//! TLS of a backend: its configuration, and what a connection agreed on.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::{
    ProtocolVersion, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::certificate::Certificate;

/// What a connection agreed on.
#[derive(Clone, Debug)]
pub(super) struct Session {
    protocol: String,
    server_name: String,
    version: &'static str,
}

impl Session {
    /// What this connection agreed on.
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let protocol = connection.alpn_protocol().unwrap_or_default();
        Self {
            protocol: String::from_utf8_lossy(protocol).into_owned(),
            server_name: connection.server_name().unwrap_or_default().to_owned(),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "v1.2",
                Some(ProtocolVersion::TLSv1_3) => "v1.3",
                _ => "unknown",
            },
        }
    }

    /// The `tls` of a request.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "enabled": true,
            "negotiated-protocol": self.protocol,
            "server-name": self.server_name,
            "negotiated-protocol-version": self.version,
        })
    }
}

/// A server with this certificate, for HTTP/2 and HTTP/1.1.
pub(super) fn config(certificate: &Certificate) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate of the server")?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())
        .context("the key of the server")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
