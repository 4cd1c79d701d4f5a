//! What it takes to query an agent: its address, TLS, credentials. Made from the resolver, and for what that does not say
//! from the environment. Files are read each time, because others replace them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use anyhow::{Context as _, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use nuncio_core::{
    consul::{
        Agent,
        address::{self, Address},
    },
    variable::expanded,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::Environment;
use crate::text_file;

/// Largest file that is read, in MiB.
const MAX_FILE_MIB: u64 = 1;
/// Most files in a directory of certificate authorities.
const MAX_FILES: usize = 1000;
/// Header of the ACL token.
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// The certificate authorities of the system.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
});

/// An agent that can be queried.
pub(super) struct Target {
    pub(super) place: Place,
    /// TLS, and the name in the agent's certificate.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Credentials.
    pub(super) headers: HeaderMap,
    /// Value of the header `host`.
    pub(super) authority: String,
    /// Further parameters of a query: names and values.
    pub(super) parameters: Vec<(&'static str, String)>,
}

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Target {
    /// The target of an agent. Reads files, so that it may block.
    ///
    /// # Errors
    /// Something is invalid or cannot be read. The error has no secret.
    pub(super) fn new(agent: &Agent, environment: &Environment) -> anyhow::Result<Self> {
        let written = environment.address(agent.address.as_deref());
        let expanded = expanded(written, environment.variables());
        let parsed = address::parse(&expanded).map_err(|fact| match expanded == written {
            true => anyhow!("invalid address: {fact}"),
            false => anyhow!("invalid address once its variables are replaced: {fact}"),
        })?;
        let forced = agent.requires_tls()
            || environment
                .boolean("CONSUL_HTTP_SSL")
                .map_err(anyhow::Error::msg)?
                == Some(true);
        let (place, tls, authority) = match parsed {
            Address::Unix(path) => {
                ensure!(
                    !agent.requires_tls(),
                    "TLS cannot be used with a Unix socket"
                );
                (Place::Unix(path), None, "localhost".to_owned())
            }
            Address::Tcp { tls, host, port } => {
                let tls = if forced || tls == Some(true) {
                    Some(client(agent, environment, &host)?)
                } else {
                    None
                };
                let authority = match host.contains(':') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                };
                (Place::Tcp { host, port }, tls, authority)
            }
        };
        let named = [
            ("ns", "CONSUL_NAMESPACE"),
            ("partition", "CONSUL_PARTITION"),
        ];
        let parameters = named.into_iter().filter_map(|(parameter, variable)| {
            Some((parameter, environment.get(variable)?.to_owned()))
        });
        Ok(Self {
            place,
            tls,
            headers: credentials(agent, environment)?,
            authority,
            parameters: parameters.collect(),
        })
    }
}

/// The headers that authenticate a query.
fn credentials(agent: &Agent, environment: &Environment) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: &str, what: &str| {
        // the error would quote the value
        let value = HeaderValue::from_str(value).map_err(|_secret| anyhow!("{what} is invalid"));
        value.map(|mut value| {
            value.set_sensitive(true);
            headers.insert(name, value);
        })
    };
    if let Some(token) = &agent.token {
        insert(TOKEN, &token.0, "the token")?;
        return Ok(headers);
    }
    let file = environment.path("CONSUL_HTTP_TOKEN_FILE");
    let file = file
        .map(|path| read(&path, "CONSUL_HTTP_TOKEN_FILE"))
        .transpose()?;
    let file = file
        .as_deref()
        .map(str::trim)
        .filter(|token| !token.is_empty());
    if let Some(token) = file.or_else(|| environment.get("CONSUL_HTTP_TOKEN")) {
        insert(TOKEN, token, "CONSUL_HTTP_TOKEN")?;
    }
    if let Some(user) = environment.get("CONSUL_HTTP_AUTH") {
        let basic = format!("Basic {}", STANDARD.encode(user));
        insert(AUTHORIZATION, &basic, "CONSUL_HTTP_AUTH")?;
    }
    Ok(headers)
}

/// TLS to an agent.
fn client(
    agent: &Agent,
    environment: &Environment,
    host: &str,
) -> anyhow::Result<(Arc<ClientConfig>, ServerName<'static>)> {
    let name = agent.server_name.as_deref();
    let name = name.or_else(|| environment.get("CONSUL_TLS_SERVER_NAME"));
    let name = ServerName::try_from(name.unwrap_or(host).to_owned())
        .map_err(|_name| anyhow!("the TLS server name is invalid"))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let verify = environment
        .boolean("CONSUL_HTTP_SSL_VERIFY")
        .map_err(anyhow::Error::msg)?;
    let builder = if agent.trusted.is_none() && verify == Some(false) {
        let verifier = Arc::new(Unverified(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots(agent, environment)?)
    };
    let mut config = match certificate(agent, environment)? {
        Some((chain, key)) => {
            let chain = certificates(&chain).context("the client certificate is invalid")?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_secret| anyhow!("the key of the client certificate is invalid"))?;
            builder
                .with_client_auth_cert(chain, key)
                .context("the client certificate cannot be used")?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config.into(), name))
}

/// The client certificate: chain and key.
fn certificate(
    agent: &Agent,
    environment: &Environment,
) -> anyhow::Result<Option<(String, String)>> {
    if let Some(certificate) = &agent.certificate {
        let (chain, key) = (certificate.chain.to_string(), certificate.key.to_string());
        return Ok(Some((chain, key)));
    }
    let files = ["CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"];
    match files.map(|variable| Some((variable, environment.path(variable)?))) {
        [Some((first, chain)), Some((second, key))] => {
            Ok(Some((read(&chain, first)?, read(&key, second)?)))
        }
        [None, None] => Ok(None),
        _ => Err(anyhow!(
            "CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY must both be set"
        )),
    }
}

/// Whom to trust.
fn roots(agent: &Agent, environment: &Environment) -> anyhow::Result<RootCertStore> {
    let mut texts: Vec<String> = Vec::new();
    if let Some(trusted) = &agent.trusted {
        texts.push(trusted.to_string());
    } else if let Some(path) = environment.path("CONSUL_CACERT") {
        texts.push(read(&path, "CONSUL_CACERT")?);
    } else if let Some(directory) = environment.path("CONSUL_CAPATH") {
        let entries = std::fs::read_dir(directory).context("CONSUL_CAPATH cannot be read")?;
        for entry in entries.take(MAX_FILES) {
            let path = entry.context("CONSUL_CAPATH cannot be read")?.path();
            if path.is_file() {
                texts.push(read(&path, "CONSUL_CAPATH")?);
            }
        }
    } else {
        return Ok(SYSTEM.clone());
    }
    let mut roots = RootCertStore::empty();
    for text in texts {
        for certificate in certificates(&text).context("a CA certificate is invalid")? {
            roots
                .add(certificate)
                .context("a CA certificate is invalid")?;
        }
    }
    ensure!(!roots.is_empty(), "there is no CA certificate");
    Ok(roots)
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    Ok(all?)
}

/// The text of a file that a variable names.
fn read(path: &Path, variable: &str) -> anyhow::Result<String> {
    let text = text_file::read(path, MAX_FILE_MIB);
    text.map_err(|error| anyhow!("{variable} cannot be read: {error}"))
}

/// Accepts every certificate (`CONSUL_HTTP_SSL_VERIFY=false`).
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
