//! TLS of the server: certificates from files, which are read again when they change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_128;

/// Files with certificates for mutual TLS, PEM. They are read again when they change.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// CA certificates that client certificates are verified with. If set, clients must have a certificate.
    pub client_ca: Option<PathBuf>,
}

/// Errors of the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A file has no valid PEM of its kind.
    #[error("invalid PEM in {0}")]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// The files do not fit together.
    #[error("invalid certificate or key")]
    Certificate(#[source] rustls::Error),
    /// The CA certificates are invalid.
    #[error("invalid client CA")]
    ClientCa(#[source] VerifierBuilderError),
}

/// The configuration of new connections.
#[derive(Debug)]
pub(super) struct Reloader {
    files: Tls,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// Hash of the files that were read last, valid or not.
    digest: u128,
    config: Arc<ServerConfig>,
}

impl Reloader {
    /// Reads the files.
    pub(super) fn new(files: Tls) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let config = files.config(&contents)?;
        Ok(Self {
            files,
            current: Mutex::new(Current {
                digest: digest(&contents),
                config,
            }),
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.config.clone().into()
    }

    /// Reads the files again. If they are invalid, new connections get the last valid ones.
    pub(super) fn reload(&self) {
        let contents = match self.files.read() {
            Ok(contents) => contents,
            Err(error) => {
                // files are replaced one by one
                warn!(error = ?error, "failed to read certificates of the xDS server; retrying");
                return;
            }
        };
        let digest = digest(&contents);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.digest == digest {
            return;
        }
        current.digest = digest;
        match self.files.config(&contents) {
            Ok(config) => {
                current.config = config;
                info!("certificates of the xDS server reloaded");
            }
            Err(error) => {
                warn!(error = ?error, "invalid certificates of the xDS server; using the previous ones");
            }
        }
    }
}

impl Tls {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.client_ca)
            .map(PathBuf::as_path)
    }

    /// Contents of the files, in the order of their fields.
    fn read(&self) -> Result<Vec<Vec<u8>>, TlsError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| TlsError::Read(path.to_owned(), source));
        self.paths().map(read).collect()
    }

    fn config(&self, contents: &[Vec<u8>]) -> Result<Arc<ServerConfig>, TlsError> {
        let [certificate, key, ca @ ..] = contents else {
            unreachable!("there are two files at least");
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?;
        let builder = match (ca, &self.client_ca) {
            ([ca, ..], Some(path)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path, ca)? {
                    roots.add(root).map_err(TlsError::Certificate)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::ClientCa)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = certificates(&self.certificate, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem(self.key.clone(), source))?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found
        .and_then(|found| match found.is_empty() {
            true => Err(rustls::pki_types::pem::Error::NoItemsFound),
            false => Ok(found),
        })
        .map_err(|source| TlsError::Pem(path.to_owned(), source))
}

fn digest(contents: &[Vec<u8>]) -> u128 {
    let digests = contents.iter().map(|content| xxh3_128(content));
    let bytes: Vec<u8> = digests.flat_map(u128::to_le_bytes).collect();
    xxh3_128(&bytes)
}
