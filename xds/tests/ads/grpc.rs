//! Both methods of the service, with gRPC clients.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use nuncio_xds::{
    Resource, ResourceType,
    ads::{self, Authorize, Peer, Rejection, View},
    cache::Update,
    fleet::{FleetState, Protocol},
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
        },
        google::rpc,
    },
    tls::{Files, Tls},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    client::{self, Delta, Sotw},
    envoy::until,
    server::{Server, TIMEOUT, settings},
};

const KIND: ResourceType = ResourceType::Cluster;

fn put(name: &str, body: &'static str) -> Update {
    Update {
        upserts: vec![Resource::new(
            KIND,
            name,
            Bytes::from_static(body.as_bytes()),
        )],
        ..Update::default()
    }
}

fn remove(name: &str) -> Update {
    Update {
        removals: vec![(KIND, name.into())],
        ..Update::default()
    }
}

#[tokio::test]
async fn delta_stream_sends_changes() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let mut client = Delta::open(client::channel(server.address).await?, KIND).await?;
    assert!(
        client.is_silent().await,
        "response before the first snapshot"
    );
    let seq = server.apply(put("a", "1"));
    let first = client.response().await?;
    assert_eq!(first.type_url, KIND.type_url());
    assert_eq!(first.resources.len(), 1);
    assert_eq!(first.resources[0].name, "a");
    let any = first.resources[0].resource.clone().unwrap_or_default();
    assert_eq!(any.value, b"1");
    client.ack(&first)?;
    server.is_acknowledged(seq).await?;
    let state = server.fleet.state();
    assert_eq!(state.envoys[0].node, "client");
    assert_eq!(state.envoys[0].protocol, Protocol::Delta);
    assert_eq!(
        state.envoys[0].digest,
        server.cache.snapshot().map(|snapshot| snapshot.digest())
    );

    server.apply(put("b", "1"));
    let second = client.response().await?;
    assert_eq!(second.resources.len(), 1, "only the new resource is sent");
    assert_eq!(second.resources[0].name, "b");
    client.ack(&second)?;

    let seq = server.apply(remove("a"));
    let third = client.response().await?;
    assert!(third.resources.is_empty());
    assert_eq!(third.removed_resources, ["a"]);
    client.ack(&third)?;
    server.is_acknowledged(seq).await?;
    assert_eq!(server.apply(put("b", "1")), seq, "nothing changed");
    assert!(client.is_silent().await);
    server.stop().await
}

#[tokio::test]
async fn sotw_stream_sends_the_full_state() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    server.apply(put("a", "1"));
    let mut client = Sotw::open(client::channel(server.address).await?, KIND).await?;
    let first = client.response().await?;
    assert_eq!(first.resources.len(), 1);
    client.ack(&first)?;
    let seq = server.apply(put("b", "2"));
    let second = client.response().await?;
    let bodies: Vec<&[u8]> = second
        .resources
        .iter()
        .map(|any| any.value.as_slice())
        .collect();
    assert_eq!(bodies, [b"1", b"2"]);
    client.ack(&second)?;
    server.is_acknowledged(seq).await?;
    let seq = server.apply(remove("a"));
    let third = client.response().await?;
    assert_eq!(third.resources.len(), 1, "the removed resource is left out");
    client.ack(&third)?;
    server.is_acknowledged(seq).await?;
    assert_eq!(server.fleet.state().envoys[0].protocol, Protocol::Sotw);
    server.stop().await
}

#[tokio::test]
async fn rejection_is_reported_until_a_newer_version_is_accepted() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let seq = server.apply(put("a", "bad"));
    let mut client = Delta::open(client::channel(server.address).await?, KIND).await?;
    let bad = client.response().await?;
    client.send(DeltaDiscoveryRequest {
        type_url: bad.type_url.clone(),
        response_nonce: bad.nonce.clone(),
        error_detail: Some(rpc::Status {
            message: "no such thing".to_owned(),
            ..rpc::Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    })?;
    server.is_acknowledged(seq).await?;
    let rejections = server.fleet.state().rejections;
    assert_eq!(rejections.len(), 1);
    assert_eq!(&*rejections[0].name, "a");
    assert_eq!(&*rejections[0].message, "no such thing");
    assert!((server.metric("xds_rejected_resources")? - 1.0).abs() < 0.1);
    assert!((server.metric("xds_nacks_total")? - 1.0).abs() < 0.1);
    assert!(client.is_silent().await, "rejected resource is sent again");

    let seq = server.apply(put("a", "good"));
    let good = client.response().await?;
    client.ack(&good)?;
    server.is_acknowledged(seq).await?;
    assert!(server.fleet.state().rejections.is_empty());
    assert!(server.metric("xds_rejected_resources")?.abs() < 0.1);
    server.stop().await
}

#[tokio::test]
async fn unknown_type_does_not_affect_the_stream() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    server.apply(put("a", "1"));
    let channel = client::channel(server.address).await?;
    let mut delta = Delta::open(channel.clone(), KIND).await?;
    let mut sotw = Sotw::open(channel, KIND).await?;
    let type_url = "type.googleapis.com/nobody.knows.This".to_owned();
    let first = delta.response().await?;
    delta.ack(&first)?;
    let first = sotw.response().await?;
    sotw.ack(&first)?;
    delta.send(DeltaDiscoveryRequest {
        type_url: type_url.clone(),
        ..DeltaDiscoveryRequest::default()
    })?;
    sotw.send(DiscoveryRequest {
        type_url,
        ..DiscoveryRequest::default()
    })?;
    server.apply(put("a", "2"));
    assert_eq!(delta.response().await?.type_url, KIND.type_url());
    assert_eq!(sotw.response().await?.type_url, KIND.type_url());
    server.stop().await
}

#[tokio::test]
async fn large_request_is_accepted() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let held = (0..100_000).map(|n| (format!("a-cluster-of-some-length-{n}"), "0".repeat(32)));
    let channel = client::channel(server.address).await?;
    let mut client = Delta::open(channel, ResourceType::Listener).await?;
    client.send(DeltaDiscoveryRequest {
        type_url: KIND.type_url().to_owned(),
        initial_resource_versions: held.collect(),
        ..DeltaDiscoveryRequest::default()
    })?;
    server.apply(Update::default());
    let mut removed = 0;
    while removed < 100_000 {
        let response = client.response().await?;
        ensure!(
            response.removed_resources.len() <= 100_000 && response.resources.is_empty(),
            "only removals are sent"
        );
        removed += response.removed_resources.len();
        client.ack(&response)?;
    }
    assert_eq!(removed, 100_000, "every missing resource is removed once");
    server.stop().await
}

#[tokio::test]
async fn streams_close_without_an_error_on_shutdown() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    server.apply(put("a", "1"));
    let mut client = Delta::open(client::channel(server.address).await?, KIND).await?;
    client.response().await?;
    // an idle client does not delay the shutdown
    let _idle = tokio::net::TcpStream::connect(server.address).await?;
    let fleet = server.fleet.clone();
    server.stop().await?;
    assert!(client.next().await?.is_none());
    assert!(fleet.state().envoys.is_empty());
    Ok(())
}

#[tokio::test]
async fn client_that_does_not_read_is_dropped_on_shutdown() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let large = Bytes::from(vec![b'x'; 64 << 20]); // more than the transport buffers for a client that does not read
    server.apply(Update {
        upserts: vec![Resource::new(KIND, "large", large)],
        ..Update::default()
    });
    let _client = Delta::open(client::channel(server.address).await?, KIND).await?;
    until("the response is being sent", async || {
        ensure!(server.metric("xds_pushes_total")? > 0.5);
        Ok(())
    })
    .await?;
    server.stop().await
}

#[tokio::test]
async fn connections_close_at_their_maximum_age() -> Result<()> {
    let age = Duration::from_millis(200);
    let mut server = Server::start(ads::Settings {
        max_connection_age: Some(age),
        ..settings()
    })
    .await?;
    server.apply(put("a", "1"));
    let opened = Arc::new(AtomicUsize::new(0));
    let (address, count) = (server.address, opened.clone());
    let connector = tower::service_fn(move |_: http::Uri| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { TcpStream::connect(address).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://nuncio");
    let channel = endpoint.connect_with_connector(connector).await?;
    let start = Instant::now();
    let mut first = Delta::open(channel.clone(), KIND).await?;
    first.accept().await?;
    assert!(first.next().await?.is_none(), "ends without an error");
    assert!(start.elapsed() >= age.mul_f64(0.8), "{:?}", start.elapsed());
    // the client knows that the connection ends, and does not use it for its next stream
    let mut second = Delta::open(channel, KIND).await?;
    second.accept().await?;
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    server.stop().await
}

/// A certificate for loopback, with its key, PEM.
fn certificate(ca: &CertifiedIssuer<'_, KeyPair>) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, ca)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn tls_files(folder: &Path, certificate: &str, key: &str, ca: &str) -> Result<Tls> {
    let write = |name: &str, pem: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, pem)?;
        Ok(path)
    };
    Ok(Tls::Files(Files {
        certificate: write("tls.crt", certificate)?,
        key: write("tls.key", key)?,
        client_ca: write("ca.crt", ca)?,
    }))
}

/// Everything for every client with a certificate.
#[derive(Debug)]
struct AnyCertificate;

impl Authorize for AnyCertificate {
    fn authorize(&self, peer: &Peer, _: &Node) -> Result<View, Rejection> {
        match peer {
            Peer::Certificate(_) => Ok(View::FIRST),
            Peer::Unauthenticated => Err(Rejection {
                reason: "identity",
                message: "no certificate".to_owned(),
            }),
        }
    }
}

/// A connection of a client with this CA and identity.
async fn tls_channel(
    address: SocketAddr,
    ca: &str,
    (certificate, key): (String, String),
) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(certificate, key));
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
    Ok(endpoint.tls_config(tls)?.connect().await?)
}

#[tokio::test]
async fn certificates_are_reloaded_when_their_files_change() -> Result<()> {
    let (old, new) = (authority()?, authority()?);
    let folder = tempfile::tempdir()?;
    let (server_certificate, key) = certificate(&old)?;
    let tls = tls_files(folder.path(), &server_certificate, &key, &old.pem())?;
    let mut server = Server::start(ads::Settings {
        tls: Some(tls),
        authorize: Arc::new(AnyCertificate),
        tls_reload: Duration::from_millis(10),
        ..settings()
    })
    .await?;
    server.apply(put("a", "1"));
    let address = server.address;
    let old_channel = tls_channel(address, &old.pem(), certificate(&old)?).await?;
    let mut client = Delta::open(old_channel, KIND).await?;
    client.accept().await?;

    // a broken pair changes nothing
    fs::write(folder.path().join("tls.key"), certificate(&old)?.1)?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    tls_channel(address, &old.pem(), certificate(&old)?).await?;

    let (server_certificate, key) = certificate(&new)?;
    tls_files(folder.path(), &server_certificate, &key, &new.pem())?;
    until("the new certificates are used", async || {
        let channel = tls_channel(address, &new.pem(), certificate(&new)?).await?;
        Delta::open(channel, KIND).await?.response().await
    })
    .await?;
    let rejected = tls_channel(address, &new.pem(), certificate(&old)?).await;
    let rejected = match rejected {
        Ok(channel) => Delta::open(channel, KIND).await.is_err(),
        Err(_) => true,
    };
    assert!(rejected, "a client of the old CA is accepted");
    // streams go on
    server.apply(put("a", "2"));
    assert_eq!(client.response().await?.resources.len(), 1);
    server.stop().await
}

/// Whether the server closes the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    let closed = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    timeout(TIMEOUT, closed).await.is_ok()
}

#[tokio::test]
async fn connections_without_a_stream_are_closed() -> Result<()> {
    let ca = authority()?;
    let folder = tempfile::tempdir()?;
    let (certificate_pem, key) = certificate(&ca)?;
    for tls in [
        None,
        Some(tls_files(folder.path(), &certificate_pem, &key, &ca.pem())?),
    ] {
        let server = Server::start(ads::Settings {
            tls,
            idle_timeout: Duration::from_millis(200),
            ..settings()
        })
        .await?;
        for sent in [
            b"".as_slice(),
            b"PRI * HTTP/2.0\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            b"\x16\x03\x01\x02",
        ] {
            let mut stream = TcpStream::connect(server.address).await?;
            stream.write_all(sent).await?;
            assert!(is_closed(&mut stream).await, "{sent:?}");
        }
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn stream_without_a_request_is_closed() -> Result<()> {
    let server = Server::start(ads::Settings {
        idle_timeout: Duration::from_millis(200),
        ..settings()
    })
    .await?;
    let channel = client::channel(server.address).await?;
    let mut silent = Delta::silent(channel).await?;
    assert!(silent.next().await?.is_none());
    server.stop().await
}

#[tokio::test]
async fn idle_connections_do_not_keep_envoys_away() -> Result<()> {
    let mut server = Server::start(ads::Settings {
        max_connections: 20,
        ..settings()
    })
    .await?;
    server.apply(put("a", "1"));
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(server.address).await?);
    }
    let mut client = Delta::open(client::channel(server.address).await?, KIND).await?;
    client.accept().await?;
    for _ in 0..100 {
        idle.push(TcpStream::connect(server.address).await?);
    }
    let seq = server.apply(put("a", "2"));
    client.accept().await?;
    server.is_acknowledged(seq).await?;
    server.stop().await
}

#[tokio::test]
async fn node_ids_are_bounded_and_escaped() -> Result<()> {
    let server = Server::start(settings()).await?;
    let channel = client::channel(server.address).await?;
    let with_node = |id: String| {
        let node = Node {
            id,
            ..client::node()
        };
        Delta::open_as(channel.clone(), KIND, node)
    };
    let error = match with_node("a".repeat(254)).await {
        Ok(mut client) => client.next().await.err(),
        Err(error) => Some(error),
    };
    let error = format!("{:#}", error.expect("an error"));
    assert!(
        error.contains("node.id is longer than 253 bytes"),
        "{error}"
    );
    let _client = with_node("a\nb\u{1b}[31m".to_owned()).await?;
    let is_escaped = |state: &FleetState| {
        let nodes = state.envoys.iter().map(|envoy| envoy.node.as_str());
        nodes.eq([r"a\nb\u{1b}[31m"])
    };
    server.fleet_is("the node is escaped", is_escaped).await?;
    server.stop().await
}

#[tokio::test]
async fn envoys_with_the_same_node_id_are_each_counted() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let first = server.apply(put("a", "1"));
    let channel = client::channel(server.address).await?;
    let mut one = Delta::open(channel.clone(), KIND).await?;
    let mut other = Delta::open(channel, KIND).await?;
    one.accept().await?;
    other.accept().await?;
    let both = |seq| {
        move |state: &FleetState| {
            state
                .envoys
                .iter()
                .filter(|envoy| envoy.acked == seq)
                .count()
                == 2
        }
    };
    server.fleet_is("both are counted", both(first)).await?;
    let seq = server.apply(put("a", "2"));
    one.accept().await?;
    let counts = server.fleet.clone();
    until("one has acknowledged", async || {
        ensure!(counts.acked_counts() == [(first, 1), (seq, 1)].into());
        Ok(())
    })
    .await?;
    other.accept().await?;
    server.fleet_is("both have it", both(seq)).await?;
    server.stop().await
}

#[tokio::test]
async fn streams_end_one_by_one_on_shutdown() -> Result<()> {
    let spread = Duration::from_secs(1);
    let mut server = Server::start(ads::Settings {
        shutdown_spread: spread,
        ..settings()
    })
    .await?;
    server.apply(put("a", "1"));
    let mut clients = Vec::new();
    for _ in 0..20 {
        let channel = client::channel(server.address).await?;
        let mut client = Delta::open(channel, KIND).await?;
        client.response().await?;
        clients.push(client);
    }
    let started = Instant::now();
    let ends = clients.into_iter().map(|mut client| async move {
        client
            .next()
            .await
            .map(|next| (next.is_none(), started.elapsed()))
    });
    let (ends, stopped) = tokio::join!(futures::future::join_all(ends), server.stop());
    stopped?;
    let mut times = Vec::new();
    for end in ends {
        let (without_error, time) = end?;
        assert!(without_error);
        times.push(time);
    }
    let (first, last) = (times.iter().min(), times.iter().max());
    let between = *last.expect("20 clients") - *first.expect("20 clients");
    assert!(between > spread / 4, "{times:?}");
    Ok(())
}

#[tokio::test]
async fn clients_without_a_trusted_certificate_are_rejected() -> Result<()> {
    let ca = authority()?;
    let stranger = authority()?;
    let (certificate_pem, key) = certificate(&ca)?;
    let folder = tempfile::tempdir()?;
    let tls = tls_files(folder.path(), &certificate_pem, &key, &ca.pem())?;
    let mut server = Server::start(ads::Settings {
        tls: Some(tls),
        authorize: Arc::new(AnyCertificate),
        ..settings()
    })
    .await?;
    server.apply(put("a", "1"));
    let address = server.address;
    let root = Certificate::from_pem(ca.pem());
    let open = async |identity: Option<(String, String)>| -> Result<Delta> {
        let mut tls = ClientTlsConfig::new().ca_certificate(root.clone());
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let channel: Channel = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(tls)?
            .connect()
            .await?;
        Delta::open(channel, KIND).await
    };
    let mut client = open(Some(certificate(&ca)?)).await?;
    assert_eq!(client.response().await?.resources.len(), 1);
    assert!(
        open(None).await.is_err(),
        "client without a certificate is accepted"
    );
    assert!(
        open(Some(certificate(&stranger)?)).await.is_err(),
        "client with a certificate of another CA is accepted"
    );
    server.stop().await
}
