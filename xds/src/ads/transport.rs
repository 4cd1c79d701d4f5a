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
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::{
    connections::{ConnectInfo, Connection, Connections},
    tls::Reloader,
};
use crate::socket::{self, Listener};

/// First and longest pause after a connection could not be accepted, for example because there are no file descriptors.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_connections: usize,
    /// How long a connection may have no stream, and how long a TLS handshake may take.
    pub(super) idle: Duration,
}

/// Accepts connections until the receiver is gone.
pub(super) async fn accept(
    listener: Listener,
    tls: Option<Arc<Reloader>>,
    connections: Connections,
    limits: Limits,
    accepted: mpsc::Sender<Io>,
) {
    let mut pause = PAUSE.0;
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = accepted.closed() => return,
        };
        match stream {
            Ok(stream) => {
                pause = PAUSE.0;
                let Some(connection) = connections.open(limits.max_connections) else {
                    debug!(
                        limit = limits.max_connections,
                        "too many xDS connections; closing a new one"
                    );
                    continue;
                };
                let (tls, accepted) = (tls.clone(), accepted.clone());
                tokio::spawn(async move {
                    if let Some(stream) = handshake(stream, tls.as_deref(), limits.idle).await {
                        let io = Io::new(stream, connection, limits.idle);
                        let _ = accepted.send(io).await; // an error means that the server stops
                    }
                });
            }
            Err(error) => {
                if pause == PAUSE.0 {
                    warn!(%error, "failed to accept an xDS connection; retrying");
                }
                connections.close_idle();
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

async fn handshake(
    stream: socket::Stream,
    tls: Option<&Reloader>,
    limit: Duration,
) -> Option<Stream> {
    let Some(tls) = tls else {
        return Some(Stream::Plain(stream));
    };
    match timeout(limit, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
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

impl Connected for Io {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.connection.info()
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
