//! HTTP clients: one request at a time, and a steady load that counts what is lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::certificate::Certificate;

mod http2;
mod load;

pub use self::{
    http2::Http2Connection,
    load::{Load, Sent},
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
    /// The certificate that the server showed.
    pub certificate: Option<CertificateDer<'static>>,
}

/// A connection that can carry several requests.
pub struct Connection<S> {
    stream: BufReader<S>,
    /// Whether the server has said that it closes the connection.
    is_over: bool,
}

/// A connection that speaks TLS.
pub type TlsConnection = Connection<TlsStream<TcpStream>>;

impl Connection<TcpStream> {
    /// Connects without TLS.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: &str) -> Result<Self> {
        Self::open_behind(address, &[]).await
    }

    /// Connects as a proxy in front would that says this first.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open_behind(address: &str, preface: &[u8]) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        stream.write_all(preface).await?;
        stream.flush().await?;
        Ok(Self {
            stream,
            is_over: false,
        })
    }

    /// Goes on with TLS.
    ///
    /// # Errors
    /// There is no agreement, or no trust.
    pub async fn with_tls(self, host: &str, config: Arc<ClientConfig>) -> Result<TlsConnection> {
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(config);
        let stream = connector.connect(name, self.stream.into_inner());
        let stream = timeout(PATIENCE, stream).await.context("no handshake")??;
        Ok(Connection {
            stream: BufReader::new(stream),
            is_over: false,
        })
    }
}

impl TlsConnection {
    /// The certificate that the server showed.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        let certificates = self.stream.get_ref().get_ref().1.peer_certificates();
        certificates
            .and_then(|chain| chain.first().cloned())
            .map(CertificateDer::into_owned)
    }

    /// Whether an earlier session was resumed, in which certificates had been shown.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let kind = self.stream.get_ref().get_ref().1.handshake_kind();
        kind == Some(HandshakeKind::Resumed)
    }

    /// The protocol that was agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.stream.get_ref().get_ref().1.alpn_protocol();
        protocol.map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// One GET.
    ///
    /// # Errors
    /// The connection ends, or there is no answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer> {
        self.get_with(host, path, &[]).await
    }

    /// One GET with headers.
    ///
    /// # Errors
    /// The connection ends, or there is no answer.
    pub async fn get_with(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        timeout(PATIENCE, async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.flush().await?;
            self.answer().await
        })
        .await
        .context("no answer")?
    }

    async fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line).await? > 0,
            "the connection is closed"
        );
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut answer = Answer {
            status: status.with_context(|| format!("no HTTP: {line:?}"))?,
            ..Answer::default()
        };
        loop {
            line.clear();
            ensure!(
                self.stream.read_line(&mut line).await? > 0,
                "the connection is closed"
            );
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            answer
                .headers
                .insert(name.to_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if answer
            .headers
            .get("transfer-encoding")
            .is_some_and(|encoding| encoding == "chunked")
        {
            loop {
                line.clear();
                self.stream.read_line(&mut line).await?;
                let size = usize::from_str_radix(line.trim(), 16)?;
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk).await?;
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else {
            let length = answer
                .headers
                .get("content-length")
                .and_then(|length| length.parse().ok());
            body = vec![0; length.unwrap_or(0)];
            self.stream.read_exact(&mut body).await?;
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        let told = answer.headers.get("connection");
        self.is_over = told.is_some_and(|told| told == "close");
        Ok(answer)
    }
}

/// One GET on a connection of its own.
///
/// # Errors
/// There is no answer.
pub async fn get(address: &str, host: &str, path: &str) -> Result<Answer> {
    Connection::open(address).await?.get(host, path).await
}

/// One GET with TLS, the server's certificate being verified against `authority`.
///
/// # Errors
/// There is no answer, or no trust.
pub async fn get_tls(
    address: &str,
    host: &str,
    path: &str,
    authority: &CertificateDer<'static>,
) -> Result<Answer> {
    let mut connection = open_tls(address, host, authority).await?;
    let mut answer = connection.get(host, path).await?;
    answer.certificate = connection.certificate();
    Ok(answer)
}

/// Connects with TLS, the server's certificate being verified against `authority`.
///
/// # Errors
/// Nobody listens, or there is no trust.
pub async fn open_tls(
    address: &str,
    host: &str,
    authority: &CertificateDer<'static>,
) -> Result<TlsConnection> {
    let config = tls_config(authority, None)?;
    let connection = Connection::open(address).await?;
    connection.with_tls(host, config.into()).await
}

/// TLS of a client that trusts `authority` and shows `certificate`.
///
/// # Errors
/// Either of them is none.
pub fn tls_config(
    authority: &CertificateDer<'static>,
    certificate: Option<&Certificate>,
) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match certificate {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(vec![own.der()?], own.key_der()?)?,
    })
}
