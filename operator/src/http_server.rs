//! An HTTP/1 server that clients cannot block: connections are few and short, a handshake and a request head must arrive in
//! time, and a new connection takes the place of the oldest of the address that has most.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nuncio_xds::tls::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::descriptors::{self, Share};

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at a time. Clients are a few probes and scrapers, and file descriptors are needed elsewhere.
    pub connections: usize,
    /// How long a handshake may take, and the head of a request, from its connection or from the request before it.
    pub head: Duration,
    /// How long a connection may last, for clients that send or read slowly.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: descriptors::at_most(64, Share::Eighth),
            head: Duration::from_secs(10),
            age: Duration::from_secs(60),
        }
    }
}

/// How long responses may take when the server stops.
const DRAIN: Duration = Duration::from_millis(500);
/// First and longest pause after a connection could not be accepted, such as without file descriptors.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// How often it is logged that connections cannot be accepted.
const WARNING: Duration = Duration::from_secs(60);

/// Serves until `shutdown` completes. Requests have the [`IpAddr`] of the client as an extension.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    run(listener, None, router, limits, shutdown).await;
}

/// The same with TLS.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<Acceptor>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    run(listener, Some(tls), router, limits, shutdown).await;
}

async fn run(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut connections = Connections {
        limits,
        tasks: JoinSet::new(),
        open: VecDeque::new(),
    };
    let mut pause = PAUSES.0;
    let mut warned: Option<Instant> = None;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    pause = PAUSES.0;
                    let router = router.clone().layer(Extension(peer.ip()));
                    connections.add(peer.ip(), stream, tls.clone(), router);
                }
                Err(error) => {
                    if warned.is_none_or(|warned| warned.elapsed() > WARNING) {
                        warn!(%error, "failed to accept a connection; retrying");
                        warned = Some(Instant::now());
                    }
                    connections.close_oldest();
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.tasks.join_next().await.is_some() {} };
    let _ = timeout(DRAIN, all).await;
}

/// The open connections.
struct Connections {
    limits: Limits,
    tasks: JoinSet<()>,
    /// Oldest first.
    open: VecDeque<(IpAddr, AbortHandle)>,
}

impl Connections {
    fn add(
        &mut self,
        client: IpAddr,
        stream: TcpStream,
        tls: Option<Arc<Acceptor>>,
        router: Router,
    ) {
        self.open
            .retain(|(_, connection)| !connection.is_finished());
        if self.open.len() >= self.limits.connections {
            self.close_oldest();
        }
        let task = self
            .tasks
            .spawn(connection(stream, tls, router, self.limits));
        self.open.push_back((client, task));
    }

    /// Closes the oldest connection of the address that has most: one client cannot close those of others, and its oldest
    /// is the least likely one to have a request, because requests take milliseconds.
    fn close_oldest(&mut self) {
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for (client, _) in &self.open {
            *counts.entry(*client).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let position = self
            .open
            .iter()
            .position(|(client, _)| counts.get(client).copied() == most);
        if let Some((_, connection)) = position.and_then(|at| self.open.remove(at)) {
            connection.abort();
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<Arc<Acceptor>>, router: Router, limits: Limits) {
    let Some(tls) = tls else {
        return http(stream, router, limits).await;
    };
    match timeout(limits.head, tls.accept(stream)).await {
        Ok(Ok(stream)) => http(stream, router, limits).await,
        Ok(Err(error)) => debug!(%error, "TLS handshake of an HTTP client failed"),
        Err(_elapsed) => debug!("TLS handshake of an HTTP client timed out"),
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: Limits,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits.age, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "connection closed with an error"),
        Err(_elapsed) => debug!("connection closed because of its age"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use nuncio_xds::tls::{Certificates, Pem, Tls};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn start(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "alive" }));
        tokio::spawn(serve(listener, router, limits, std::future::pending()));
        address
    }

    async fn request(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn idle_connections_make_room_for_a_request() {
        let limits = Limits::default();
        let address = start(limits).await;
        let mut idle = Vec::new();
        for _ in 0..limits.connections * 2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
            idle.push(stream);
        }
        assert!(request(address).await.ends_with("alive"));
        // the oldest were closed, the newest were not
        let closed = timeout(Duration::from_secs(5), idle[0].read_u8()).await;
        assert!(closed.unwrap().is_err());
        let newest = idle.last_mut().unwrap();
        let open = timeout(Duration::from_millis(50), newest.read_u8()).await;
        assert!(open.is_err(), "{open:?}");
    }

    #[tokio::test]
    async fn one_client_cannot_close_the_connections_of_others() {
        let limits = Limits::default();
        let address = start(limits).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..limits.connections * 2 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            idle.push(socket.connect(address).await.unwrap());
        }
        let closed = timeout(Duration::from_secs(5), idle[0].read_u8()).await;
        assert!(closed.unwrap().is_err());
        let open = timeout(Duration::from_millis(50), first.read_u8()).await;
        assert!(open.is_err(), "{open:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_stops_is_closed_after_a_while() {
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        let pem = |text: String| Pem {
            origin: "test".to_owned(),
            text: text.into_bytes(),
        };
        let certificates = Certificates {
            certificate: pem(made.cert.pem()),
            key: pem(made.signing_key.serialize_pem()),
            client_ca: None,
        };
        let (_sender, certificates) = tokio::sync::watch::channel(Some(certificates.into()));
        let tls = Tls::Renewed(certificates);
        let tls = Arc::new(Acceptor::new(tls, b"http/1.1").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            head: Duration::from_millis(100),
            ..Limits::default()
        };
        let end = std::future::pending();
        tokio::spawn(serve_tls(listener, tls, Router::new(), limits, end));
        for sent in [b"".as_slice(), b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            let mut answer = Vec::new();
            let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "{sent:?} keeps the connection");
        }
    }

    #[tokio::test]
    async fn half_a_request_and_no_request_are_closed_after_a_while() {
        let limits = Limits {
            head: Duration::from_millis(100),
            ..Limits::default()
        };
        let address = start(limits).await;
        for sent in [
            "",
            "GET / HTTP/1.1\r\nhos",
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "{sent:?} keeps the connection");
        }
    }

    #[tokio::test]
    async fn requests_in_progress_end_before_the_server_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = get(|| async {
            sleep(Duration::from_millis(100)).await;
            "alive"
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(
            listener,
            Router::new().route("/", slow),
            Limits::default(),
            async {
                let _ = stopped.await;
            },
        ));
        let answer = tokio::spawn(request(address));
        sleep(Duration::from_millis(40)).await;
        stop.send(()).unwrap();
        assert!(answer.await.unwrap().ends_with("alive"));
        server.await.unwrap();
    }
}
