//! Who gets what: streams of clients with certificates of a renewed authority.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use nuncio_xds::{
    Resource, ResourceType,
    ads::{self, Authorize, Peer, Rejection, View},
    cache::Update,
    pb::envoy::config::core::v3::Node,
    tls::{Certificates, Pem, Tls},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tokio::sync::watch;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    client::{self, Delta},
    envoy::until,
    server::{Server, settings},
};

const KIND: ResourceType = ResourceType::Cluster;

/// A client may have what its certificate names, if its node has that name too.
#[derive(Debug)]
struct ByName;

impl Authorize for ByName {
    fn authorize(&self, peer: &Peer, node: &Node) -> Result<View, Rejection> {
        let Peer::Certificate(certificate) = peer else {
            return Ok(View::FIRST);
        };
        let rejection = |reason, message: &str| Rejection {
            reason,
            message: message.to_owned(),
        };
        if certificate.uris != ["spiffe://client"] {
            return Err(rejection("identity", "ask for\nanother certificate"));
        }
        if node.id != "client" {
            return Err(rejection("node", "set node.id to client"));
        }
        Ok(View::FIRST)
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    /// A certificate with this URI, expiring in this time.
    fn issue(&self, uri: &str, lifetime: Duration) -> Result<(String, String)> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        params.not_after = date_time_ymd(1970, 1, 1) + now + lifetime;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }

    fn client(&self) -> Result<(String, String)> {
        self.issue("spiffe://client", Duration::from_secs(600))
    }

    /// What a server with a certificate of this authority shows, if it trusts `trusted`.
    fn server(&self, trusted: &[&Self]) -> Result<Option<Arc<Certificates>>> {
        let (certificate, key) = self.issue("spiffe://server", Duration::from_secs(600))?;
        let pem = |text: String| Pem {
            origin: "test".to_owned(),
            text: text.into_bytes(),
        };
        Ok(Some(Arc::new(Certificates {
            certificate: pem(certificate),
            key: pem(key),
            client_ca: Some(pem(trusted.iter().map(|one| one.0.pem()).collect())),
        })))
    }
}

async fn start(certificates: watch::Receiver<Option<Arc<Certificates>>>) -> Result<Server> {
    let mut server = Server::start(ads::Settings {
        tls: Some(Tls::Renewed(certificates)),
        authorize: Arc::new(ByName),
        ..settings()
    })
    .await?;
    apply(&mut server, "1");
    Ok(server)
}

fn apply(server: &mut Server, body: &'static str) {
    server.apply(Update {
        upserts: vec![Resource::new(
            KIND,
            "a",
            Bytes::from_static(body.as_bytes()),
        )],
        ..Update::default()
    });
}

async fn channel(
    address: SocketAddr,
    ca: &Authority,
    (certificate, key): (String, String),
) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.0.pem()))
        .identity(Identity::from_pem(certificate, key));
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
    Ok(endpoint.tls_config(tls)?.connect().await?)
}

/// The error that a stream ends with, before it gets anything.
async fn error(channel: Channel, node: Node) -> Result<Status> {
    let error = match Delta::open_as(channel, KIND, node).await {
        Ok(mut client) => match client.next().await {
            Ok(response) => anyhow::bail!("there is a response: {response:?}"),
            Err(error) => error,
        },
        Err(error) => error,
    };
    error.downcast().context("another error")
}

#[tokio::test]
async fn streams_get_what_their_certificate_and_node_allow() -> Result<()> {
    let ca = Authority::new("one")?;
    let (_sender, certificates) = watch::channel(ca.server(&[&ca])?);
    let server = start(certificates).await?;
    let named = channel(server.address, &ca, ca.client()?).await?;
    let other = ca.issue("spiffe://other", Duration::from_secs(600))?;
    let other = channel(server.address, &ca, other).await?;

    let status = error(other, client::node()).await?;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.message(), "ask for\\nanother certificate");
    let node = |id: &str| Node {
        id: id.to_owned(),
        ..client::node()
    };
    for id in ["another", ""] {
        let status = error(named.clone(), node(id)).await?;
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "set node.id to client");
    }
    assert!(server.fleet.state().envoys.is_empty());
    assert!((server.metric("xds_rejected_streams_total")? - 3.0).abs() < 0.1);
    assert!(server.metric("xds_pushes_total")?.abs() < 0.1);

    let mut client = Delta::open(named, KIND).await?;
    client.accept().await?;
    server.stop().await
}

#[tokio::test]
async fn a_stream_ends_when_its_certificate_expires() -> Result<()> {
    let ca = Authority::new("one")?;
    let (_sender, certificates) = watch::channel(ca.server(&[&ca])?);
    let server = start(certificates).await?;
    let start = Instant::now();
    let short = ca.issue("spiffe://client", Duration::from_secs(3))?;
    let channel = channel(server.address, &ca, short).await?;
    let mut client = Delta::open(channel.clone(), KIND).await?;
    client.accept().await?;
    assert!(client.next().await?.is_none());
    // neither another stream of that connection nor another connection
    let again = match Delta::open(channel, KIND).await {
        Ok(mut client) => matches!(client.next().await, Ok(None) | Err(_)),
        Err(_) => true,
    };
    assert!(again, "a stream with an expired certificate");
    assert!(
        start.elapsed() > Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    server.stop().await
}

#[tokio::test]
async fn renewed_certificates_are_for_new_connections() -> Result<()> {
    let (old, new) = (Authority::new("old")?, Authority::new("new")?);
    let (sender, certificates) = watch::channel(None);
    let mut server = start(certificates).await?;
    let address = server.address;
    let none = channel(address, &old, old.client()?).await;
    assert!(none.is_err(), "there is no certificate yet");
    sender.send_replace(old.server(&[&old, &new])?);
    let channel_of_old = until("the first certificate is used", async || {
        channel(address, &old, old.client()?).await
    })
    .await?;
    let mut client = Delta::open(channel_of_old, KIND).await?;
    client.accept().await?;
    // the new authority is trusted before it signs
    let early = channel(address, &old, new.client()?).await?;
    Delta::open(early, KIND).await?.accept().await?;

    sender.send_replace(new.server(&[&new])?);
    let channel_of_new = until("the new certificate is used", async || {
        channel(address, &new, new.client()?).await
    })
    .await?;
    Delta::open(channel_of_new, KIND).await?.accept().await?;
    let late = match channel(address, &new, old.client()?).await {
        Ok(channel) => Delta::open(channel, KIND).await.err(),
        Err(error) => Some(error),
    };
    ensure!(late.is_some(), "a client of the old authority is accepted");
    // streams go on
    apply(&mut server, "2");
    assert_eq!(client.response().await?.resources.len(), 1);
    drop(sender);
    apply(&mut server, "3");
    server.stop().await
}
