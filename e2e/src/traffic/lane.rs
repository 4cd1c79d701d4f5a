//! One sort of traffic: its connection, and its exchanges.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use rustls::{ClientConfig, client::Resumption};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{
    Target,
    backend::{PIECE, PIECES},
};
use crate::client::{Answer, Connection, Http2Connection, connect, connect_tls};

/// Messages of a WebSocket session.
const MESSAGES: usize = 20;
/// Time between them.
const PACE: Duration = Duration::from_millis(100);
/// Longest wait for an answer or a message; on a busy machine, a download of three seconds takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a lane sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// HTTP/1.1 on a connection that stays open.
    Http1,
    /// The same with TLS.
    Http1Tls,
    /// HTTP/1.1 with a connection for each request.
    Connections,
    /// The same with a TLS handshake for each request.
    Handshakes,
    /// HTTP/2 without TLS.
    Http2,
    /// HTTP/2 with TLS.
    Http2Tls,
    /// WebSocket sessions.
    WebSocket,
    /// The same with TLS.
    WebSocketTls,
    /// Long downloads over HTTP/1.1.
    Download,
    /// The same over HTTP/2 with TLS.
    DownloadHttp2Tls,
}

impl Sort {
    pub(super) const ALL: [Self; 10] = [
        Self::Http1,
        Self::Http1Tls,
        Self::Connections,
        Self::Handshakes,
        Self::Http2,
        Self::Http2Tls,
        Self::WebSocket,
        Self::WebSocketTls,
        Self::Download,
        Self::DownloadHttp2Tls,
    ];

    /// Its name, which is the last part of its path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http1Tls => "http1-tls",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::Http2 => "http2",
            Self::Http2Tls => "http2-tls",
            Self::WebSocket => "websocket",
            Self::WebSocketTls => "websocket-tls",
            Self::Download => "download",
            Self::DownloadHttp2Tls => "download-http2-tls",
        }
    }

    /// Whether it needs an address with TLS.
    pub(super) fn has_tls(self) -> bool {
        matches!(
            self,
            Self::Http1Tls
                | Self::Handshakes
                | Self::Http2Tls
                | Self::WebSocketTls
                | Self::DownloadHttp2Tls
        )
    }

    /// Whether an exchange takes seconds.
    pub(super) fn is_long(self) -> bool {
        matches!(
            self,
            Self::WebSocket | Self::WebSocketTls | Self::Download | Self::DownloadHttp2Tls
        )
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls | Self::DownloadHttp2Tls)
    }

    fn keeps_connections(self) -> bool {
        !matches!(self, Self::Connections | Self::Handshakes)
    }
}

/// A lane.
pub(super) struct Lane {
    sort: Sort,
    target: Target,
    path: String,
    connection: Option<Open>,
}

enum Open {
    Http1(Connection),
    Http2(Http2Connection),
}

impl Open {
    async fn get(&mut self, host: &str, path: &str) -> Result<Option<Answer>> {
        match self {
            Self::Http1(connection) => connection.try_get(host, path, PATIENCE).await,
            Self::Http2(connection) => connection.try_get(host, path, PATIENCE).await,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_over(),
            Self::Http2(connection) => connection.is_over(),
        }
    }
}

impl Lane {
    pub(super) fn new(sort: Sort, mut target: Target) -> Self {
        if let (Sort::Handshakes, Some((_, config))) = (sort, &mut target.https) {
            config.resumption = Resumption::disabled();
        }
        Self {
            sort,
            path: format!("/traffic/{}", sort.name()),
            target,
            connection: None,
        }
    }

    /// One exchange; an error is a loss.
    pub(super) async fn exchange(&mut self) -> Result<()> {
        if matches!(self.sort, Sort::WebSocket | Sort::WebSocketTls) {
            return self.session().await;
        }
        let result = self.request().await;
        if result.is_err() || !self.sort.keeps_connections() {
            self.connection = None;
        }
        let answer = result?;
        ensure!(
            answer.status == 200,
            "status {}: {}",
            answer.status,
            answer.body
        );
        let expected = match self.sort {
            Sort::Download | Sort::DownloadHttp2Tls => PIECES * PIECE,
            _ => 2,
        };
        let length = answer.body.len();
        ensure!(length == expected, "{length} of {expected} bytes");
        Ok(())
    }

    async fn request(&mut self) -> Result<Answer> {
        let (host, path) = (&self.target.host, &self.path);
        self.connection = self.connection.take().filter(|open| !open.is_over());
        if let Some(open) = &mut self.connection
            && let Some(answer) = open.get(host, path).await?
        {
            return Ok(answer);
        }
        let open = self.connection.insert(
            open(self.sort, &self.target)
                .await
                .context("no connection")?,
        );
        let answer = open.get(host, path).await?;
        answer.context("the connection was closed before its first request")
    }

    /// A WebSocket session, from the handshake to its end by the client.
    async fn session(&self) -> Result<()> {
        let Target { host, http, https } = &self.target;
        match https {
            Some((address, config)) if self.sort.has_tls() => {
                let stream = connect(address, &[]).await?;
                let config = Arc::new(config.clone());
                talk(connect_tls(stream, host, config).await?, host, &self.path).await
            }
            _ => talk(connect(http, &[]).await?, host, &self.path).await,
        }
    }
}

async fn open(sort: Sort, target: &Target) -> Result<Open> {
    let Target { host, http, https } = target;
    let https: Option<&(String, ClientConfig)> = https.as_ref().filter(|_| sort.has_tls());
    Ok(match (https, sort.is_http2()) {
        (None, false) => Open::Http1(Connection::open(http).await?),
        (None, true) => Open::Http2(Http2Connection::open_clear(http).await?),
        (Some((address, config)), false) => {
            let config = Arc::new(config.clone());
            Open::Http1(Connection::open_tls(address, host, config).await?)
        }
        (Some((address, config)), true) => {
            Open::Http2(Http2Connection::open(address, host, config.clone()).await?)
        }
    })
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    host: &str,
    path: &str,
) -> Result<()> {
    let request = format!("ws://{host}{path}").into_client_request()?;
    let (mut socket, _) = timeout(PATIENCE, client_async(request, stream))
        .await
        .context("no handshake within the time limit")?
        .context("no handshake")?;
    for number in 0..MESSAGES {
        let text = number.to_string();
        socket.send(Message::text(&text)).await?;
        let answer = timeout(PATIENCE, socket.next())
            .await
            .context("no message within the time limit")?;
        match answer.context("closed")?? {
            Message::Text(echo) if echo.as_str() == text => {}
            other => bail!("{other:?} instead of message {number}"),
        }
        sleep(PACE).await;
    }
    socket.close(None).await?;
    Ok(())
}
