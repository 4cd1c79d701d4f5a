//! Connections of queries: a fresh one for each.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use rustls::{ClientConnection, pki_types::ServerName};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{certificate, query::Query, tls};

/// Longest wait for the end of a query.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A stream, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the host of a query.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    pub(super) session: Option<Session>,
}

/// What TLS agreed on.
pub(super) struct Session {
    pub(super) protocol: Option<Vec<u8>>,
    version: u16,
    cipher_suite: u16,
    certificates: Vec<Value>,
}

impl Session {
    fn of(connection: &ClientConnection) -> Self {
        let certificates = connection.peer_certificates().unwrap_or_default();
        Self {
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            version: connection.protocol_version().map_or(0, u16::from),
            cipher_suite: connection
                .negotiated_cipher_suite()
                .map_or(0, |suite| suite.suite().into()),
            certificates: certificates
                .iter()
                .map(|der| certificate::to_json(der))
                .collect(),
        }
    }

    /// Adds it to a result.
    pub(super) fn report(self, result: &mut Map<String, Value>) {
        result.insert("tls_version".to_owned(), self.version.into());
        result.insert("cipher_suite".to_owned(), self.cipher_suite.into());
        result.insert("tls".to_owned(), self.certificates.into());
    }
}

/// Connects; with TLS, one of these protocols may be chosen.
pub(super) async fn connect(query: &Query, protocols: &[&str]) -> Result<Connection> {
    let host = query.url.host().context("the URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = if query.is_secure() { 443 } else { 80 };
    let port = query.url.port_u16().unwrap_or(port);
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    if !query.is_secure() {
        return Ok(Connection {
            stream: Box::new(stream),
            session: None,
        });
    }
    let config = tls::config(&query.tls, protocols)?;
    let name = match &query.tls.server_name {
        Some(name) => name.split(':').next().unwrap_or_default(),
        None => host,
    };
    let name = ServerName::try_from(name.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let session = Session::of(stream.get_ref().1);
    Ok(Connection {
        stream: Box::new(stream),
        session: Some(session),
    })
}
