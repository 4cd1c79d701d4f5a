//! Connections: each is HTTP/1.1 or HTTP/2, whichever its first bytes are, and each request knows its connection.

use std::time::Duration;

use axum::{Router, extract::Request};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::tls::Session;
use crate::header::LIMIT;

/// The connection of a request, an extension of it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// What TLS agreed on.
    pub(super) tls: Option<Session>,
    /// Fails once the server has ended.
    pub(super) stopped: watch::Receiver<()>,
}

/// Accepts connections until it is dropped; they end with it.
pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    backend: Router,
    stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // out of file descriptors: the next try would fail at once
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let connection = Connection {
            tls: None,
            stopped: stopped.clone(),
        };
        connections.spawn(open(stream, acceptor.clone(), backend.clone(), connection));
    }
}

async fn open(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    backend: Router,
    mut connection: Connection,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Some(acceptor) = acceptor else {
        return serve(stream, backend, connection).await;
    };
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    connection.tls = Some(Session::of(stream.get_ref().1));
    serve(stream, backend, connection).await;
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    backend: Router,
    connection: Connection,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(connection.clone());
        backend.clone().call(request)
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().title_case_headers(true);
    server.http2().max_header_list_size(LIMIT);
    let served = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if served.await.is_err() {
        // the client has gone, or does not use HTTP: there is no one to report it to
    }
}
