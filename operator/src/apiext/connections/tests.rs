use nuncio_xds::tls::{Certificates, Pem, Tls};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(5);

/// A request in progress.
pub(in super::super) fn busy() -> Busy {
    State::default().begin()
}

struct Running {
    address: SocketAddr,
    connector: TlsConnector,
    stop: Option<oneshot::Sender<()>>,
}

/// A server whose answers take this long.
async fn start(limits: Limits, duration: Duration) -> Running {
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
    let tls = Acceptor::new(Tls::Renewed(certificates), b"http/1.1").unwrap();
    let server = Server {
        tls: tls.into(),
        answer: Arc::new(move |_request, busy| {
            Box::pin(async move {
                let _busy = busy;
                sleep(duration).await;
                Response::new(Body::from("answer"))
            })
        }),
        limits,
        metrics: Metrics::new().0,
        draining: CancellationToken::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Running {
        address,
        connector: TlsConnector::from(Arc::new(config)),
        stop: Some(stop),
    }
}

impl Running {
    async fn open(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("x").unwrap();
        self.connector.connect(name, stream).await.unwrap()
    }
}

/// Sends a request, and returns the head of the answer.
async fn send(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(REQUEST).await?;
    read(stream).await
}

async fn read(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"answer") {
        text.push(timeout(PATIENCE, stream.read_u8()).await.unwrap()?);
    }
    Ok(String::from_utf8(text).unwrap())
}

async fn is_closed(stream: &mut TlsStream<TcpStream>) -> bool {
    let read = timeout(PATIENCE, stream.read_u8()).await;
    read.is_ok_and(|read| read.is_err())
}

fn limits() -> Limits {
    Limits {
        connections: 8,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_connection_is_kept_until_it_is_old_and_the_client_is_told() {
    let limits = Limits {
        age: Duration::from_millis(300),
        ..limits()
    };
    let running = start(limits, Duration::ZERO).await;
    let mut stream = running.open().await;
    for _ in 0..3 {
        let answer = send(&mut stream).await.unwrap();
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    sleep(limits.age).await;
    let answer = send(&mut stream).await.unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn silent_clients_make_room_and_those_with_requests_stay() {
    let running = start(limits(), Duration::from_millis(500)).await;
    let mut served = running.open().await;
    send(&mut served).await.unwrap();
    let mut busy = running.open().await;
    busy.write_all(REQUEST).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let mut silent = Vec::new();
    for _ in 0..limits().connections * 3 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
        sleep(Duration::from_millis(2)).await;
    }
    assert!(read(&mut busy).await.is_ok());
    assert!(send(&mut served).await.is_ok());
    let closed = timeout(PATIENCE, silent[0].read_u8()).await.unwrap();
    assert!(closed.is_err());
}

#[tokio::test]
async fn clients_that_stop_are_closed_after_a_while() {
    let limits = Limits {
        head: Duration::from_millis(200),
        request: Duration::from_millis(400),
        ..limits()
    };
    let running = start(limits, Duration::from_secs(60)).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut half = running.open().await;
    half.write_all(b"POST / HTTP/1.1\r\nhos").await.unwrap();
    let mut endless = running.open().await;
    endless.write_all(REQUEST).await.unwrap();
    let closed = timeout(PATIENCE, silent.read_u8()).await.unwrap();
    assert!(closed.is_err());
    assert!(is_closed(&mut half).await);
    assert!(is_closed(&mut endless).await);
}

#[tokio::test]
async fn a_server_that_stops_goes_on_for_a_while() {
    let mut running = start(limits(), Duration::ZERO).await;
    let mut before = running.open().await;
    send(&mut before).await.unwrap();
    let _ = running.stop.take().unwrap().send(());
    sleep(Duration::from_millis(50)).await;
    for stream in [&mut before, &mut running.open().await] {
        let answer = send(stream).await.unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(is_closed(stream).await);
    }
}
