//! A connection that speaks HTTP/2.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{Answer, PATIENCE, Session, connect, connect_tls};

/// A connection that speaks HTTP/2.
pub struct Http2Connection {
    sender: SendRequest<Empty<Bytes>>,
    scheme: &'static str,
}

impl Http2Connection {
    /// Connects with TLS.
    ///
    /// # Errors
    /// The connection or the handshake fails, or the server does not support HTTP/2.
    pub async fn open(address: &str, host: &str, mut config: ClientConfig) -> Result<Self> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = connect_tls(connect(address, &[]).await?, host, config.into()).await?;
        ensure!(
            Session::of(&stream).protocol.is_some(),
            "{host} does not negotiate HTTP/2"
        );
        Self::over(stream, "https").await
    }

    /// Connects without TLS, with prior knowledge.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn open_clear(address: &str) -> Result<Self> {
        Self::over(connect(address, &[]).await?, "http").await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        scheme: &'static str,
    ) -> Result<Self> {
        let stream = TokioIo::new(stream);
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await?;
        // senders see how it ends
        tokio::spawn(connection);
        Ok(Self { sender, scheme })
    }

    /// One GET; `None` if the server accepts no more requests on this connection, so that nothing was sent.
    ///
    /// # Errors
    /// The connection is closed, or there is no answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Option<Answer>> {
        self.try_get(host, path, PATIENCE).await
    }

    /// One GET, answered within this time; `None` as above.
    ///
    /// # Errors
    /// The connection is closed, or there is no answer.
    pub async fn try_get(
        &mut self,
        host: &str,
        path: &str,
        patience: Duration,
    ) -> Result<Option<Answer>> {
        timeout(patience, self.answer(host, path))
            .await
            .context("no answer within the time limit")?
    }

    async fn answer(&mut self, host: &str, path: &str) -> Result<Option<Answer>> {
        let request = Request::get(format!("{}://{host}{path}", self.scheme)).body(Empty::new())?;
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                Some(_unsent) => return Ok(None),
                None => bail!(error.into_error()),
            },
        };
        Answer::read(response).await.map(Some)
    }

    /// Whether the connection is closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }
}
