//! A certificate for this pod: a new key pair is made, the control plane signs its public key. The private key is sent
//! nowhere.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use axum::body::{Body, to_bytes};
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    sign::CertifiedKey,
};
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::printable::{printable, shortened};

/// How long a request may take: a control plane that does not respond is one of several.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response: a certificate, and all CAs that are trusted.
const MAX_BYTES: usize = 256 << 10;
/// Longest part of an unexpected response in an error.
const EXCERPT_BYTES: usize = 200;
/// Path of requests.
const PATH: &str = "/v1/certificates";

/// A certificate and what belongs to it.
pub(super) struct Issued {
    /// The chain, PEM.
    pub(super) chain: String,
    /// Its private key, PEM.
    pub(super) key: String,
    /// The CAs that the control plane trusts, PEM.
    pub(super) ca: String,
    /// When it expires, in seconds since the Unix epoch.
    pub(super) not_after: i64,
    /// For how long it is valid, by the clock of the control plane: that of this machine may be wrong.
    pub(super) lifetime: Duration,
}

impl fmt::Debug for Issued {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut issued = f.debug_struct("Issued");
        issued.field("not_after", &self.not_after);
        issued.finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Response {
    certificate: String,
    ca: String,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

/// Requests a certificate from this host and port.
pub(super) async fn certificate(
    (host, port): (&str, u16),
    roots: RootCertStore,
    token: &str,
) -> anyhow::Result<Issued> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?.pem()?;
    let exchange = exchange((host, port), roots, token, &csr);
    let (headers, body) = timeout(TIMEOUT, exchange)
        .await
        .map_err(|_elapsed| anyhow::anyhow!("no response within {} s", TIMEOUT.as_secs()))
        .flatten()
        .with_context(|| format!("certificate server {host}:{port}"))?;
    let response: Response = serde_json::from_slice(&body)
        .with_context(|| format!("certificate server {host}:{port}: {}", excerpt(&body)))?;
    issued(response, key.serialize_pem(), &headers)
        .with_context(|| format!("invalid certificate from {host}:{port}"))
}

async fn exchange(
    (host, port): (&str, u16),
    roots: RootCertStore,
    token: &str,
    csr: &str,
) -> anyhow::Result<(HeaderMap, Vec<u8>)> {
    let name = ServerName::try_from(host.to_owned())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect((host, port)).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from(serde_json::json!({ "csr": csr }).to_string()))
        .context("the token is invalid")?;
    // the connection ends with its sender
    let response = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = to_bytes(Body::new(body), MAX_BYTES).await?.to_vec();
        if head.status != StatusCode::OK {
            let problem: Result<Problem, _> = serde_json::from_slice(&body);
            let text = problem.map_or_else(|_| excerpt(&body), |problem| problem.error);
            bail!("{}: {text}", head.status);
        }
        Ok((head.headers, body))
    };
    // the response, if there is one, explains an error of the connection
    let (response, connection) = tokio::join!(biased; response, connection);
    response.map_err(|error| match connection {
        Err(cause) if error.is::<hyper::Error>() => anyhow::Error::from(cause),
        _ => error,
    })
}

/// The start of a response that is not what was expected.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES * 2)]).into_owned();
    let text = printable(text.trim()).into_owned();
    format!("unexpected response \"{}\"", shortened(text, EXCERPT_BYTES))
}

fn issued(response: Response, key: String, headers: &HeaderMap) -> anyhow::Result<Issued> {
    ensure!(
        !certificates(&response.ca)?.is_empty(),
        "it has no certificate authority"
    );
    let not_after = not_after(&response.certificate, &key)?;
    let now = headers
        .get(DATE)
        .and_then(|date| jiff::fmt::rfc2822::parse(date.to_str().ok()?).ok())
        .map_or_else(Timestamp::now, |date| date.timestamp());
    let lifetime = u64::try_from(not_after - now.as_second()).unwrap_or_default();
    ensure!(lifetime > 0, "it has expired");
    Ok(Issued {
        chain: response.certificate,
        key,
        ca: response.ca,
        not_after,
        lifetime: Duration::from_secs(lifetime),
    })
}

/// The certificates in a PEM text.
pub(super) fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.context("invalid certificate")
}

/// When a certificate expires, in seconds since the Unix epoch.
///
/// # Errors
/// PEM that is invalid, or a key of another certificate.
pub(super) fn not_after(chain: &str, key: &str) -> anyhow::Result<i64> {
    let chain = certificates(chain)?;
    let first = chain.first().context("there is no certificate")?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(first).context("invalid certificate")?;
    let not_after = certificate.validity().not_after.timestamp();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("invalid private key")?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .context("the private key is not that of the certificate")?;
    Ok(not_after)
}

#[cfg(test)]
mod tests;
