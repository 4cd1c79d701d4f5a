//! Who may be an Envoy: certificates for pods, streams for certificates, and clients that try to get in or in the way.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::tls_config,
    control_plane::{ControlPlane, NAMESPACE},
    gateway::Replica,
    wait::until,
};
use nuncio_xds::{
    ResourceType,
    pb::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status, Streaming,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    Space,
    fixture::{host, mapping},
};

/// Addresses of the replicas.
const REPLICAS: [&str; 2] = ["10.244.9.1", "10.244.9.2"];
/// Where a client that floods is.
const FLOOD: &str = "10.244.9.66:0";
/// The name of the control plane's Service.
const SERVICE: &str = "nuncio-xds";
const PATIENCE: Duration = Duration::from_secs(20);

const PODS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: nuncio-envoy}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger}
---
apiVersion: v1
kind: Pod
metadata: {name: envoy-1}
spec: {serviceAccountName: nuncio-envoy, containers: [{name: envoy, image: envoy}]}
---
apiVersion: v1
kind: Pod
metadata: {name: envoy-2}
spec: {serviceAccountName: nuncio-envoy, containers: [{name: envoy, image: envoy}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec: {serviceAccountName: stranger, containers: [{name: stranger, image: stranger}]}
";

pub(crate) async fn only_pods_of_envoys_get_a_certificate_and_a_stream(
    space: &mut Space,
) -> Result<()> {
    let plane = space.plane.clone();
    let (replica, ca) = start(space, 0).await?;
    let proper = token(&plane, "nuncio-envoy", "envoy-1", "nuncio-xds")?;
    let envoy = Envoy::new(&ca, REPLICAS[0], &proper).await?;
    let mut stream = envoy.stream(REPLICAS[0], "envoy-1").await?;
    stream.response().await?;

    for (node, part) in [
        ("envoy-2", "set node.id to \"envoy-1.nuncio-system\""),
        ("", "set node.id to"),
    ] {
        let status = envoy.rejection(REPLICAS[0], node).await?;
        ensure!(status.code() == Code::PermissionDenied, "{status}");
        ensure!(status.message().contains(part), "{status}");
    }
    ensure!(replica.metric("nuncio_xds_rejected_streams_total").await? > 1.5);
    // a foreign authority, and none
    let foreign = Authority::new()?.issue(&["envoy"])?;
    let foreign = Envoy {
        chain: foreign.chain,
        key: foreign.key,
        ca: ca.clone(),
    };
    ensure!(foreign.stream(REPLICAS[0], "envoy-1").await.is_err());
    tokens_that_are_not_proper(&plane, &ca).await?;
    requests_that_are_not_proper(&ca, &proper).await?;

    // the pod is deleted, and with it its token
    plane.kubectl(
        &[
            "delete",
            "pod",
            "envoy-1",
            "-n",
            NAMESPACE,
            "--grace-period=0",
            "--force",
        ],
        "",
    )?;
    until("the token is rejected", || async {
        let (status, body) = certificate(&ca, REPLICAS[0], Some(&proper), &csr()?).await?;
        ensure!(status == 401, "{status} {body}");
        ensure!(
            error(&body).contains("the apiserver rejected the token"),
            "{body}"
        );
        Ok(())
    })
    .await?;
    let log = std::fs::read_to_string(&replica.process.log)?;
    for secret in [&*proper, "PRIVATE KEY"] {
        ensure!(!log.contains(secret), "the log has a token or a key");
    }
    for line in ["xDS stream rejected", "certificate request rejected"] {
        ensure!(log.contains(line), "{line:?} is not in the log");
    }
    Ok(())
}

async fn tokens_that_are_not_proper(plane: &ControlPlane, ca: &str) -> Result<()> {
    let of = |account, pod, audience| token(plane, account, pod, audience);
    let unbound = plane.kubectl(
        &[
            "create",
            "token",
            "nuncio-envoy",
            "-n",
            NAMESPACE,
            "--audience",
            "nuncio-xds",
        ],
        "",
    )?;
    for (token, status, part) in [
        (None, 401, "no token"),
        (Some("forged".to_owned()), 401, "rejected the token"),
        (
            Some(of("nuncio-envoy", "envoy-2", "other")?),
            401,
            "with audience nuncio-xds",
        ),
        (
            Some(of("stranger", "stranger", "nuncio-xds")?),
            403,
            "add --envoy-service-account nuncio-system/stranger",
        ),
        (Some(unbound.trim().to_owned()), 403, "not bound to a pod"),
    ] {
        let answer = certificate(ca, REPLICAS[0], token.as_deref(), &csr()?).await?;
        ensure!(answer.0 == status, "{answer:?} instead of {status} {part}");
        ensure!(error(&answer.1).contains(part), "{answer:?}");
        ensure!(!answer.1.contains("BEGIN"), "{answer:?}");
    }
    Ok(())
}

async fn requests_that_are_not_proper(ca: &str, token: &str) -> Result<()> {
    let authorization = format!("authorization: Bearer {token}\r\n");
    for (body, status, part) in [
        ("x".to_owned(), 400, "invalid body"),
        (json!({"csr": "garbage"}).to_string(), 400, "invalid csr"),
        ("x".repeat(100_000), 413, "longer than 16384 bytes"),
    ] {
        let head = format!("{authorization}content-length: {}\r\n", body.len());
        let answer = post(ca, REPLICAS[0], &head, &body).await?;
        ensure!(
            answer.0 == status && error(&answer.1).contains(part),
            "{answer:?}"
        );
    }
    // half a body, and then nothing
    let start = Instant::now();
    let head = format!("{authorization}content-length: 100\r\n");
    let answer = post(ca, REPLICAS[0], &head, "{").await?;
    ensure!(answer.0 == 408, "{answer:?}");
    ensure!(start.elapsed() < PATIENCE);
    // names of others are ignored
    let mut params = CertificateParams::new(vec![SERVICE.to_owned(), "envoy-2".to_owned()])?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let csr = params.serialize_request(&key)?.pem()?;
    let (status, body) = certificate(ca, REPLICAS[0], Some(token), &csr).await?;
    ensure!(status == 200, "{status} {body}");
    let envoy = Envoy::of(&body, key.serialize_pem())?;
    envoy
        .stream(REPLICAS[0], "envoy-1")
        .await?
        .response()
        .await?;
    ensure!(envoy.rejection(REPLICAS[0], "envoy-2").await?.code() == Code::PermissionDenied);
    Ok(())
}

pub(crate) async fn a_new_authority_drops_no_stream_and_holds_for_all_replicas(
    space: &mut Space,
) -> Result<()> {
    let plane = space.plane.clone();
    let (_first, ca) = start(space, 0).await?;
    let (_second, _) = start(space, 1).await?;
    let token = token(&plane, "nuncio-envoy", "envoy-1", "nuncio-xds")?;
    let envoy = Envoy::new(&ca, REPLICAS[0], &token).await?;
    let mut streams = Vec::new();
    // what one replica signs is good for both
    for replica in REPLICAS {
        let mut stream = envoy.stream(replica, "envoy-1").await?;
        stream.response().await?;
        streams.push(stream);
    }
    plane.kubectl(&["delete", "secret", "nuncio-ca", "-n", NAMESPACE], "")?;
    let renewed = until("a new authority", || async {
        let renewed = trusted(&plane)?;
        ensure!(renewed != ca, "the old one");
        for replica in REPLICAS {
            let envoy = Envoy::new(&renewed, replica, &token).await?;
            envoy.stream(replica, "envoy-1").await?.response().await?;
        }
        Ok(renewed)
    })
    .await?;
    let old = Envoy {
        ca: renewed,
        ..envoy
    };
    for replica in REPLICAS {
        let stream = old.stream(replica, "envoy-1").await;
        ensure!(stream.is_err(), "the old authority is trusted");
    }
    space.apply(&host("later", "later.example", ""))?;
    for stream in &mut streams {
        stream.response().await?;
    }
    an_authority_that_expires_soon_gets_a_successor(&plane, &token).await?;
    an_authority_that_a_user_replaces_is_trusted_meanwhile(&plane, &token).await
}

/// A certificate of an authority that is a month old and expires in a month, and its key.
fn authority() -> Result<(String, String)> {
    let month = Duration::from_secs(30 * 24 * 3600);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.not_before = date_time_ymd(1970, 1, 1) + (now - month);
    params.not_after = date_time_ymd(1970, 1, 1) + (now + month);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Changes the Secret of the authority.
fn patch_authority(plane: &ControlPlane, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    plane.kubectl(
        &[
            "patch",
            "secret",
            "nuncio-ca",
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            &patch,
        ],
        "",
    )?;
    Ok(())
}

async fn an_authority_that_a_user_replaces_is_trusted_meanwhile(
    plane: &ControlPlane,
    token: &str,
) -> Result<()> {
    let before = trusted(plane)?;
    // the pod may have asked too often
    let first = || Envoy::new(&before, REPLICAS[0], token);
    let mut envoy = until("a certificate", first).await?;
    let (certificate, key) = authority()?;
    let patch = json!({
        "metadata": {"labels": {"app.kubernetes.io/managed-by": null}},
        "data": {"ca.crt": null, "next.crt": null, "next.key": null},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    patch_authority(plane, &patch)?;
    envoy.ca = until("the authority of the user", || async {
        let published = trusted(plane)?;
        let count = CertificateDer::pem_slice_iter(published.as_bytes()).count();
        ensure!(count == 1, "{count} authorities are published");
        Ok(published)
    })
    .await?;
    for replica in REPLICAS {
        // its own certificate is of the new one
        let renewed = || Envoy::new(&envoy.ca, replica, token);
        until("the new authority", renewed).await?;
        let stream = envoy.stream(replica, "envoy-1").await;
        let mut stream = stream.context("a certificate of the old authority")?;
        stream.response().await?;
    }
    Ok(())
}

async fn an_authority_that_expires_soon_gets_a_successor(
    plane: &ControlPlane,
    token: &str,
) -> Result<()> {
    let (old, key) = authority()?;
    let patch = json!({"stringData": {"tls.crt": old, "tls.key": key, "ca.crt": old}});
    patch_authority(plane, &patch)?;
    until("the next authority", || async {
        let next = plane.field(NAMESPACE, "secret/nuncio-ca", r"{.data.next\.crt}")?;
        ensure!(!next.is_empty(), "there is none");
        // both are trusted, and the old one still signs
        let bundle = trusted(plane)?;
        let count = CertificateDer::pem_slice_iter(bundle.as_bytes()).count();
        ensure!(count == 2, "{count} authorities are trusted");
        for replica in REPLICAS {
            let envoy = Envoy::new(&old, replica, token).await?;
            envoy.stream(replica, "envoy-1").await?.response().await?;
        }
        Ok(())
    })
    .await
}

pub(crate) async fn clients_in_the_way_delay_no_change(space: &mut Space) -> Result<()> {
    let _backend = Backend::start("10.96.12.1:80", "behind").await?;
    let plane = space.plane.clone();
    let (_replica, ca) = start(space, 0).await?;
    let token = token(&plane, "nuncio-envoy", "envoy-1", "nuncio-xds")?;
    let envoy = Envoy::new(&ca, REPLICAS[0], &token).await?;
    let mut stream = envoy.stream(REPLICAS[0], "envoy-1").await?;
    stream.response().await?;
    let mut idle = Vec::new();
    // nothing, half a handshake, and garbage
    for (port, number) in [(8003, 1000), (8004, 1000)] {
        for index in 0..number {
            let socket = TcpSocket::new_v4()?;
            socket.bind(FLOOD.parse()?)?;
            let address: SocketAddr = format!("{}:{port}", REPLICAS[0]).parse()?;
            let mut connection = socket.connect(address).await?;
            let sent = [
                b"".as_slice(),
                b"\x16\x03\x01\x02\x00\x01",
                b"GET / HTTP/1.1\r\n",
            ];
            let _ = connection.write_all(sent[index % 3]).await; // closed already
            idle.push(connection);
        }
    }
    let start = Instant::now();
    space.apply(
        &[
            host("behind", "behind.example", ""),
            mapping("behind", "behind.example", "/", "10.96.12.1", ""),
        ]
        .concat(),
    )?;
    stream.response().await?;
    eprintln!("a change took {:?}", start.elapsed());
    ensure!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let start = Instant::now();
    let other = Envoy::new(&ca, REPLICAS[0], &token).await?;
    other
        .stream(REPLICAS[0], "envoy-1")
        .await?
        .response()
        .await?;
    eprintln!("a certificate and a stream took {:?}", start.elapsed());
    ensure!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    drop(idle);
    Ok(())
}

/// Starts a replica that signs certificates, and returns what Envoys trust.
async fn start(space: &Space, number: u16) -> Result<(Replica, String)> {
    space.plane.apply(NAMESPACE, PODS)?;
    let instance = &space.gateway.instance;
    let address = format!("{}:8003", REPLICAS[usize::from(number)]);
    let replica = Replica::start_with(&space.plane, instance, number + 1, &address, &[]).await?;
    Ok((replica, trusted(&space.plane)?))
}

/// What the ConfigMap says that Envoys trust.
fn trusted(plane: &ControlPlane) -> Result<String> {
    plane.field(NAMESPACE, "configmap/nuncio-ca", "{.data.ca\\.crt}")
}

/// A token of a pod.
fn token(plane: &ControlPlane, account: &str, pod: &str, audience: &str) -> Result<String> {
    let arguments = [
        "create",
        "token",
        account,
        "-n",
        NAMESPACE,
        "--audience",
        audience,
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        pod,
    ];
    Ok(plane.kubectl(&arguments, "")?.trim().to_owned())
}

fn csr() -> Result<String> {
    let request = CertificateParams::default().serialize_request(&KeyPair::generate()?)?;
    Ok(request.pem()?)
}

/// The answer to a certificate signing request: status and body.
async fn certificate(
    ca: &str,
    replica: &str,
    token: Option<&str>,
    csr: &str,
) -> Result<(u16, String)> {
    let body = json!({"csr": csr}).to_string();
    let mut head = format!("content-length: {}\r\n", body.len());
    if let Some(token) = token {
        head += &format!("authorization: Bearer {token}\r\n");
    }
    post(ca, replica, &head, &body).await
}

/// The answer of the certificate server of a replica.
async fn post(ca: &str, replica: &str, head: &str, body: &str) -> Result<(u16, String)> {
    let ask = async {
        let ca = CertificateDer::from_pem_slice(ca.as_bytes())?;
        let connector = TlsConnector::from(Arc::new(tls_config(&ca, None)?));
        let stream = TcpStream::connect(format!("{replica}:8004")).await?;
        let name = ServerName::try_from(SERVICE)?;
        let mut stream = connector.connect(name, stream).await?;
        let head = format!(
            "POST /v1/certificates HTTP/1.1\r\nhost: {SERVICE}\r\n{head}connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let _ = stream.write_all(body.as_bytes()).await; // answered already
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        // the server may close without a close_notify
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    };
    timeout(PATIENCE, ask).await.context("no answer in time")?
}

/// The text of an error.
fn error(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    body["error"].as_str().unwrap_or_default().to_owned()
}

/// The identity of an Envoy, and what it trusts.
struct Envoy {
    chain: String,
    key: String,
    ca: String,
}

impl Envoy {
    /// One with a certificate of this replica.
    async fn new(ca: &str, replica: &str, token: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?;
        let (status, body) = certificate(ca, replica, Some(token), &request.pem()?).await?;
        ensure!(status == 200, "{status} {body}");
        Self::of(&body, key.serialize_pem())
    }

    /// One with the certificate of this answer.
    fn of(body: &str, key: String) -> Result<Self> {
        let answer: Value = serde_json::from_str(body)?;
        let text = |name: &str| -> Result<String> {
            Ok(answer[name].as_str().context("no text")?.to_owned())
        };
        Ok(Self {
            chain: text("certificate")?,
            key,
            ca: text("ca")?,
        })
    }

    /// Opens a stream to a replica as this pod.
    async fn stream(&self, replica: &str, pod: &str) -> Result<Stream> {
        let tls = ClientTlsConfig::new()
            .domain_name(SERVICE)
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.chain, &self.key));
        let endpoint = Endpoint::from_shared(format!("https://{replica}:8003"))?;
        let channel = endpoint.tls_config(tls)?.connect().await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let (requests, receiver) = unbounded();
        for kind in [ResourceType::Cluster, ResourceType::Listener] {
            requests.unbounded_send(DeltaDiscoveryRequest {
                node: Some(Node {
                    id: match pod {
                        "" => String::new(),
                        pod => format!("{pod}.{NAMESPACE}"),
                    },
                    cluster: "envoys".to_owned(),
                    ..Node::default()
                }),
                type_url: kind.type_url().to_owned(),
                ..DeltaDiscoveryRequest::default()
            })?;
        }
        let responses = client.delta_aggregated_resources(receiver).await?;
        Ok(Stream {
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Why a stream as this pod gets nothing.
    async fn rejection(&self, replica: &str, pod: &str) -> Result<Status> {
        let error = match self.stream(replica, pod).await {
            Ok(mut stream) => match timeout(PATIENCE, stream.responses.message()).await? {
                Ok(response) => bail!("there is a response: {response:?}"),
                Err(status) => return Ok(status),
            },
            Err(error) => error,
        };
        error.downcast().context("another error")
    }
}

/// A stream of an Envoy.
struct Stream {
    requests: UnboundedSender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    /// Receives and acknowledges the next response.
    async fn response(&mut self) -> Result<()> {
        let response = timeout(PATIENCE, self.responses.message()).await;
        let response = response.context("no response in time")??;
        let response = response.context("the stream has ended")?;
        self.requests.unbounded_send(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        })?;
        Ok(())
    }
}
