//! The connections of the server: TCP or Unix sockets, and TLS if it is configured. Each part of a connection's start has a time limit.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::{Shared, authorize::Peer, connections::Connection, http2};
use crate::{
    socket::{self, Listener},
    tls::Acceptor,
};

/// First and longest pause after a connection could not be accepted, for example because there are no file descriptors.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Accepts connections, and serves each in one of the `tasks`.
pub(super) async fn accept(
    listener: Listener,
    tls: Option<Arc<Acceptor>>,
    shared: &Arc<Shared>,
    closing: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    let limit = shared.settings.max_connections;
    let mut pause = PAUSE.0;
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            Some(_) = tasks.join_next() => continue,
        };
        match stream {
            Ok(stream) => {
                pause = PAUSE.0;
                let Some(connection) = shared.connections.open(limit) else {
                    debug!(limit, "too many xDS connections; closing a new one");
                    continue;
                };
                let (tls, shared, closing) = (tls.clone(), shared.clone(), closing.clone());
                tasks.spawn(async move {
                    let idle = shared.settings.idle_timeout;
                    if let Some((stream, peer)) = handshake(stream, tls.as_deref(), idle).await {
                        let io = Io::new(stream, connection, idle);
                        http2::serve(io, peer, shared, closing).await;
                    }
                });
            }
            Err(error) => {
                if pause == PAUSE.0 {
                    warn!(%error, "failed to accept an xDS connection; retrying");
                }
                shared.connections.close_idle();
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

async fn handshake(
    stream: socket::Stream,
    tls: Option<&Acceptor>,
    limit: Duration,
) -> Option<(Stream, Peer)> {
    let Some(tls) = tls else {
        return Some((Stream::Plain(stream), Peer::Unauthenticated));
    };
    match timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates();
            let peer = Peer::from_chain(chain.unwrap_or_default());
            Some((Stream::Tls(Box::new(stream)), peer))
        }
        Ok(Err(error)) => {
            debug!(%error, "TLS handshake of an xDS client failed");
            None
        }
        Err(_) => {
            debug!("TLS handshake of an xDS client timed out");
            None
        }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(socket::Stream),
    Tls(Box<TlsStream<socket::Stream>>),
}

/// A connection that fails when it has had no stream for too long.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    connection: Connection,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Io {
    fn new(stream: Stream, connection: Connection, limit: Duration) -> Self {
        Self {
            stream,
            connection,
            limit,
            timer: Box::pin(sleep(limit)),
        }
    }

    /// The connection, for its requests.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Fails when the connection must close.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.connection.register(context.waker());
        if self.connection.must_close() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let end = self.connection.idle_since().unwrap_or(now) + self.limit;
            if end <= now {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(end.into());
        }
        Ok(())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
