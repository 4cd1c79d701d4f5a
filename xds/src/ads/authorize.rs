//! Who may have which configuration: a peer and its `Node` in, a view or a rejection out. A stream reads nothing before
//! this is decided.

use std::{
    fmt::Debug,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::pb::envoy::config::core::v3::Node;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A connection without TLS: from this machine, unless the server is insecure on purpose.
    Unauthenticated,
    /// A client with a certificate that one of the trusted authorities has signed.
    Certificate(PeerCertificate),
}

/// What the certificate of a client says. It is verified, whatever it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// URIs of the subject alternative names.
    pub uris: Vec<String>,
    /// DNS names of the subject alternative names.
    pub dns_names: Vec<String>,
    /// When it expires, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl Peer {
    /// The client that has shown this chain. One that cannot be read has no names, and expires at once.
    pub(super) fn from_chain(chain: &[CertificateDer<'_>]) -> Self {
        let certificate = chain.first().and_then(|leaf| PeerCertificate::parse(leaf));
        Self::Certificate(certificate.unwrap_or_default())
    }

    /// When the certificate expires.
    pub(super) fn expires(&self, now: Instant) -> Option<Instant> {
        let Self::Certificate(certificate) = self else {
            return None;
        };
        let not_after = Duration::from_secs(u64::try_from(certificate.not_after).unwrap_or(0));
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        now.checked_add(not_after.saturating_sub(wall.unwrap_or_default()))
    }
}

impl PeerCertificate {
    fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let mut found = Self {
            not_after: certificate.validity().not_after.timestamp(),
            ..Self::default()
        };
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => found.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => found.dns_names.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(found)
    }
}

/// What a stream gets: the whole configuration of one fleet of the server, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View(pub usize);

impl View {
    /// The first fleet of the server, and the only one unless it has several.
    pub const FIRST: Self = Self(0);
}

/// Why a stream gets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Label of the metric; one of few.
    pub reason: &'static str,
    /// What to do, for the log and the client.
    pub message: String,
}

/// Decides what a stream gets.
pub trait Authorize: Debug + Send + Sync {
    /// What the stream of this peer gets.
    ///
    /// # Errors
    /// The peer may have nothing.
    fn authorize(&self, peer: &Peer, node: &Node) -> Result<View, Rejection>;
}

/// For a server of one fleet without TLS: whoever can connect gets everything, whatever its node is.
#[derive(Clone, Copy, Debug)]
pub struct LocalOnly;

impl Authorize for LocalOnly {
    fn authorize(&self, peer: &Peer, _: &Node) -> Result<View, Rejection> {
        match peer {
            Peer::Unauthenticated => Ok(View::FIRST),
            Peer::Certificate(_) => Err(Rejection {
                reason: "identity",
                message: "no client certificate is accepted".to_owned(),
            }),
        }
    }
}
