//! A review that this replica sends to itself, over HTTPS, with the certificates that the definitions trust: what is ready
//! has converted an object.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use axum::body::Body;
use http::{Method, Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::runtime::reflector::Store;
use nuncio_crds::GROUP;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::definition::{Definition, PATH, Reference};
use crate::{health::Progress, identity::rotation::Authorities};

/// Pause between checks until the first success, and after a failure.
const SOON: Duration = Duration::from_secs(1);
/// Pause between checks.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Failures after which a replica is not ready any more. One can be the load of a moment.
const FAILURES: u32 = 5;
/// Subject of what is missing.
const SUBJECT: &str = "self-check";
/// Longest answer.
const LONGEST: usize = 64 << 10;

/// What a check needs.
pub(super) struct SelfCheck {
    /// Where the webhook listens.
    pub(super) address: SocketAddr,
    pub(super) service: Reference,
    pub(super) definitions: Store<Definition>,
    pub(super) authorities: watch::Receiver<Option<Arc<Authorities>>>,
    pub(super) progress: Progress,
}

/// Keeps a replica from being ready until a check succeeds.
pub(super) fn hold(progress: &Progress) {
    progress.hold(SUBJECT, "no review was converted over HTTPS yet");
}

impl SelfCheck {
    /// Checks until the task is dropped.
    pub(super) async fn run(self) {
        let mut failures = FAILURES;
        let mut problem = None;
        let mut authorities = self.authorities.clone();
        // there is nothing to check before
        let _ = authorities.wait_for(Option::is_some).await;
        loop {
            let checked = match timeout(LIMIT, self.check()).await {
                Ok(checked) => checked.map_err(|error| format!("{error:#}")),
                Err(_elapsed) => Err(format!("no answer within {LIMIT:?}")),
            };
            match checked {
                Ok(()) => {
                    if failures >= FAILURES {
                        info!("self-check succeeded");
                    }
                    failures = 0;
                    problem = None;
                    self.progress.release(SUBJECT);
                    sleep(PAUSE).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures >= FAILURES {
                        self.progress.hold(SUBJECT, error.clone());
                    }
                    if failures == FAILURES || problem.as_ref() != Some(&error) {
                        warn!(%error, "self-check failed; retrying");
                    }
                    problem = Some(error);
                    sleep(SOON).await;
                }
            }
        }
    }

    async fn check(&self) -> anyhow::Result<()> {
        for bundle in self.bundles() {
            let review = json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "ConversionReview",
                "request": {"uid": "self-check", "desiredAPIVersion": format!("{GROUP}/v3alpha1"), "objects": [{
                    "apiVersion": format!("{GROUP}/v2"),
                    "kind": "Mapping",
                    "metadata": {"name": "self-check", "namespace": "self-check"},
                    "spec": {"prefix": "/", "service": "self-check", "host": "self-check"},
                }]},
            });
            let answer = self.send(&bundle, review.to_string()).await?;
            let hostname = answer.pointer("/response/convertedObjects/0/spec/hostname");
            ensure!(
                hostname == Some(&json!("self-check")),
                "an object was not converted: {answer}"
            );
        }
        Ok(())
    }

    /// The different bundles with which the apiserver verifies; that of the authority if no definition has one.
    fn bundles(&self) -> BTreeSet<String> {
        let definitions = self.definitions.state().into_iter();
        let bundles: BTreeSet<String> = definitions
            .filter(|one| one.calls(&self.service))
            .filter_map(|one| one.bundle())
            .collect();
        if !bundles.is_empty() {
            return bundles;
        }
        let authorities = self.authorities.borrow().clone();
        authorities.iter().map(|known| known.bundle()).collect()
    }

    async fn send(&self, bundle: &str, review: String) -> anyhow::Result<Value> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.context("invalid caBundle")?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.service.dns_name())?;
        let stream = TcpStream::connect(local(self.address)).await?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .context("caBundle does not verify our certificate")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(header::HOST, self.service.dns_name())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(review))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = axum::body::to_bytes(Body::new(response.into_body()), LONGEST).await?;
        driver.abort();
        ensure!(status.is_success(), "status {status}");
        Ok(serde_json::from_slice(&body)?)
    }
}

/// Where a server on this address is reached from this machine.
fn local(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
