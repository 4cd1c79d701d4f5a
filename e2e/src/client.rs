//! HTTP clients: one request at a time, and a steady load that counts what is lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::certificate::Certificate;

mod http2;
mod load;

pub use self::{
    http2::Http2Connection,
    load::{Load, Loads, Sent},
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
    /// The certificate that the server presented.
    pub certificate: Option<CertificateDer<'static>>,
}

/// An HTTP/1.1 connection, which can carry several requests.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    task: Option<JoinHandle<hyper::Result<()>>>,
    /// Whether the server has announced that it closes the connection.
    is_over: bool,
    session: Session,
}

/// The result of the TLS handshake; empty without TLS.
#[derive(Clone, Debug, Default)]
struct Session {
    certificate: Option<CertificateDer<'static>>,
    is_resumed: bool,
    protocol: Option<String>,
}

impl Connection {
    /// Connects without TLS.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn open(address: &str) -> Result<Self> {
        Self::open_behind(address, &[]).await
    }

    /// Connects like a proxy in front that sends this first.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn open_behind(address: &str, preface: &[u8]) -> Result<Self> {
        let stream = connect(address, preface).await?;
        Self::over(stream, Session::default()).await
    }

    /// Connects with TLS.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub async fn open_tls(address: &str, host: &str, config: Arc<ClientConfig>) -> Result<Self> {
        Self::open_tls_behind(address, &[], host, config).await
    }

    /// Connects with TLS, like a proxy in front that sends this first.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub async fn open_tls_behind(
        address: &str,
        preface: &[u8],
        host: &str,
        config: Arc<ClientConfig>,
    ) -> Result<Self> {
        let stream = connect_tls(connect(address, preface).await?, host, config).await?;
        let session = Session::of(&stream);
        Self::over(stream, session).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        session: Session,
    ) -> Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            task: Some(tokio::spawn(connection)),
            is_over: false,
            session,
        })
    }

    /// The certificate that the server presented.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.session.certificate.clone()
    }

    /// Whether TLS resumed an earlier session, in which certificates had been presented.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.session.is_resumed
    }

    /// The negotiated protocol (ALPN).
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.session.protocol.as_deref()
    }

    /// One GET.
    ///
    /// # Errors
    /// The connection is closed, or there is no answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer> {
        self.get_with(host, path, &[]).await
    }

    /// One GET with headers.
    ///
    /// # Errors
    /// The connection is closed, or there is no answer.
    pub async fn get_with(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        timeout(PATIENCE, self.exchange(host, path, headers))
            .await
            .context("no answer within the time limit")?
    }

    async fn exchange(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = Request::get(path).header(header::HOST, host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        let sent = async {
            // the connection may still be busy with the end of the last answer
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = match sent.await {
            Ok(response) => response,
            Err(error) => return Err(self.cause(error).await),
        };
        let answer = Answer::read(response).await?;
        let last = answer.headers.get("connection");
        self.is_over = last.is_some_and(|value| value == "close");
        Ok(answer)
    }

    /// One GET; `None` if the connection was closed before the request was sent.
    ///
    /// # Errors
    /// The connection is closed after it was sent, or there is no answer within this time.
    pub async fn try_get(
        &mut self,
        host: &str,
        path: &str,
        patience: Duration,
    ) -> Result<Option<Answer>> {
        if self.sender.ready().await.is_err() {
            return Ok(None);
        }
        let answer = timeout(patience, self.exchange(host, path, &[])).await;
        answer.context("no answer within the time limit")?.map(Some)
    }

    /// Whether the server has announced that it closes the connection.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Why a request failed: hyper reports a request that it did not send as canceled, without the cause.
    async fn cause(&mut self, error: hyper::Error) -> Error {
        match self.task.take() {
            Some(task) if error.is_canceled() || error.is_closed() => match task.await {
                Ok(Err(cause)) => cause.into(),
                _ => error.into(),
            },
            _ => error.into(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Session {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let (_, connection) = stream.get_ref();
        let certificates = connection.peer_certificates();
        let certificate = certificates.and_then(|chain| chain.first().cloned());
        let protocol = connection.alpn_protocol();
        Self {
            certificate: certificate.map(CertificateDer::into_owned),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            protocol: protocol.map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        }
    }
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self> {
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Self {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned(),
            certificate: None,
        })
    }
}

/// Connects, and sends this first.
pub(crate) async fn connect(address: &str, preface: &[u8]) -> Result<TcpStream> {
    let mut stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(preface).await?;
    Ok(stream)
}

/// Starts TLS on a connection.
pub(crate) async fn connect_tls(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(config).connect(name, stream);
    Ok(timeout(PATIENCE, stream)
        .await
        .context("no handshake within the time limit")??)
}

/// One GET on a new connection.
///
/// # Errors
/// There is no answer.
pub async fn get(address: &str, host: &str, path: &str) -> Result<Answer> {
    Connection::open(address).await?.get(host, path).await
}

/// One GET with TLS, and verifies the server's certificate against `authority`.
///
/// # Errors
/// The handshake fails, or there is no answer.
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

/// Connects with TLS, and verifies the server's certificate against `authority`.
///
/// # Errors
/// The connection or the handshake fails.
pub async fn open_tls(
    address: &str,
    host: &str,
    authority: &CertificateDer<'static>,
) -> Result<Connection> {
    let config = tls_config(authority, None)?;
    Connection::open_tls(address, host, config.into()).await
}

/// TLS configuration of a client that trusts `authority` and presents `certificate`.
///
/// # Errors
/// Either of them is invalid.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_follow_each_other_on_one_connection() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let backend = Backend::start(&address, "one").await.unwrap();
        let mut connection = Connection::open(&address).await.unwrap();
        for number in 0..1000 {
            let answer = connection.get("localhost", &format!("/{number}?q")).await;
            let answer = answer.unwrap();
            assert_eq!(answer.body, format!("one GET /{number}?q"));
        }
        assert_eq!(backend.requests(), 1000);
    }
}
