//! TLS of servers: certificates from files or from another task, replaced while the server runs. Connections that are open
//! keep what they started with.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::interval,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};
use xxhash_rust::xxh3::Xxh3Default;

/// Certificates of a server that another task renews; `None`: there are none yet, and handshakes fail.
pub type Renewed = watch::Receiver<Option<Arc<Certificates>>>;

/// Where the certificates of a server come from.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Files, which are read again when they change.
    Files(Files),
    /// Another task.
    Renewed(Renewed),
}

/// PEM files with certificates for mutual TLS.
#[derive(Clone, Debug)]
pub struct Files {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// CA certificates that client certificates are verified with.
    pub client_ca: PathBuf,
}

/// PEM text and where it is from.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// A path, or the name of an object.
    pub origin: String,
    /// The text.
    pub text: Vec<u8>,
}

/// Not the text, which can be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.origin)
    }
}

/// What a server shows and verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The server's certificate chain.
    pub certificate: Pem,
    /// The server's private key.
    pub key: Pem,
    /// CA certificates that client certificates are verified with; `None`: clients need none.
    pub client_ca: Option<Pem>,
}

/// Errors of certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A text has no valid PEM of its kind.
    #[error("invalid PEM in {0}")]
    Pem(String, #[source] rustls::pki_types::pem::Error),
    /// The parts do not fit together.
    #[error("invalid certificate or key")]
    Certificate(#[source] rustls::Error),
    /// The CA certificates are invalid.
    #[error("invalid client CA")]
    ClientCa(#[source] VerifierBuilderError),
}

/// Performs the handshakes of a server.
#[derive(Debug)]
pub struct Acceptor {
    source: Tls,
    protocol: &'static [u8],
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// Hash of the certificates that were read last, valid or not.
    digest: u128,
    config: Option<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Reads the certificates. `protocol` is what the server speaks, as ALPN names it.
    ///
    /// # Errors
    /// Invalid certificates.
    pub fn new(source: Tls, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let certificates = source.read()?;
        let config = certificates
            .as_deref()
            .map(|certificates| certificates.config(protocol))
            .transpose()?;
        let digest = certificates.as_deref().map_or(0, Certificates::digest);
        Ok(Self {
            source,
            protocol,
            current: Mutex::new(Current { digest, config }),
        })
    }

    /// Performs a handshake with the newest valid certificates.
    ///
    /// # Errors
    /// The handshake fails, or there are no certificates yet.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current().config.clone();
        let config = config.ok_or_else(|| io::Error::other("there is no certificate yet"))?;
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Follows the source; files are read every `interval`.
    pub async fn follow(&self, every: Duration) {
        match &self.source {
            Tls::Files(_) => {
                let mut interval = interval(every);
                loop {
                    interval.tick().await;
                    self.reload();
                }
            }
            Tls::Renewed(certificates) => {
                let mut certificates = certificates.clone();
                certificates.mark_changed(); // since the first read
                while certificates.changed().await.is_ok() {
                    self.reload();
                }
                std::future::pending().await // the last ones stay
            }
        }
    }

    /// Reads the certificates again. If they are invalid, new connections get the last valid ones.
    fn reload(&self) {
        let certificates = match self.source.read() {
            Ok(Some(certificates)) => certificates,
            Ok(None) => return,
            Err(error) => {
                // files are replaced one by one
                warn!(error = ?error, "failed to read certificates of a server; retrying");
                return;
            }
        };
        let digest = certificates.digest();
        let mut current = self.current();
        if current.digest == digest {
            return;
        }
        current.digest = digest;
        match certificates.config(self.protocol) {
            Ok(config) => {
                current.config = Some(config);
                info!(origin = %certificates.certificate.origin, "certificates of a server loaded");
            }
            Err(error) => {
                warn!(error = ?error, "invalid certificates of a server; using the previous ones");
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tls {
    fn read(&self) -> Result<Option<Arc<Certificates>>, TlsError> {
        match self {
            Self::Files(files) => files.read().map(|read| Some(Arc::new(read))),
            Self::Renewed(certificates) => Ok(certificates.borrow().clone()),
        }
    }
}

impl Files {
    fn read(&self) -> Result<Certificates, TlsError> {
        let read = |path: &PathBuf| {
            let text = fs::read(path).map_err(|source| TlsError::Read(path.clone(), source))?;
            let origin = path.display().to_string();
            Ok(Pem { origin, text })
        };
        Ok(Certificates {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: Some(read(&self.client_ca)?),
        })
    }
}

impl Certificates {
    fn config(&self, protocol: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?;
        let builder = match &self.client_ca {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for root in ca.certificates()? {
                    roots.add(root).map_err(TlsError::Certificate)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::ClientCa)?)
            }
            None => builder.with_no_client_auth(),
        };
        let chain = self.certificate.certificates()?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.text)
            .map_err(|source| TlsError::Pem(self.key.origin.clone(), source))?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // a resumed session would skip the verification of a certificate that has expired since
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn digest(&self) -> u128 {
        let mut hash = Xxh3Default::new();
        for pem in [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.client_ca)
        {
            hash.update(&pem.text.len().to_le_bytes());
            hash.update(&pem.text);
        }
        hash.digest128()
    }
}

impl Pem {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        found
            .and_then(|found| match found.is_empty() {
                true => Err(rustls::pki_types::pem::Error::NoItemsFound),
                false => Ok(found),
            })
            .map_err(|source| TlsError::Pem(self.origin.clone(), source))
    }
}
