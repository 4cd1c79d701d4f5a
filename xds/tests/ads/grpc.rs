//! Both methods of the service, with gRPC clients.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use nuncio_xds::{
    Resource, ResourceType, ads,
    cache::Update,
    fleet::Protocol,
    pb::{
        envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
        google::rpc,
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    client::{self, Delta, Sotw},
    envoy::until,
    server::{Server, settings},
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
async fn stream_closes_at_its_maximum_age() -> Result<()> {
    let age = Duration::from_millis(100);
    let server = Server::start(ads::Settings {
        max_stream_age: Some(age),
        ..settings()
    })
    .await?;
    let opened = Instant::now();
    let mut client = Delta::open(client::channel(server.address).await?, KIND).await?;
    assert!(client.next().await?.is_none());
    assert!(opened.elapsed() >= age / 2);
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

#[tokio::test]
async fn clients_without_a_trusted_certificate_are_rejected() -> Result<()> {
    let ca = authority()?;
    let stranger = authority()?;
    let (certificate_pem, key) = certificate(&ca)?;
    let mut server = Server::start(ads::Settings {
        tls: Some(ads::Tls {
            certificate: certificate_pem,
            key,
            client_ca: Some(ca.pem()),
        }),
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
