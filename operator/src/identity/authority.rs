//! A certificate authority: made, read and used to sign.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use x509_parser::{
    certificate::X509Certificate,
    pem::Pem,
    prelude::{FromDer as _, parse_x509_certificate},
    time::ASN1Time,
};

/// How long an authority is valid.
pub(crate) const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How far the start of a validity is set back, so that a clock that is a day behind does no harm.
pub(crate) const SET_BACK: SignedDuration = SignedDuration::from_hours(25);
/// A chain with more certificates is not read.
const LONGEST_CHAIN: usize = 16;
/// A later time is taken for this one, of the year 8307, so that times can be added.
const FAR: i64 = 200_000_000_000;

/// A certificate authority with its key.
pub(crate) struct Authority {
    /// Its certificate, and those above it that are not roots, PEM.
    chain: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    certificate: Trusted,
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?})", self.certificate)
    }
}

/// The certificate of an authority.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Trusted {
    der: Vec<u8>,
    /// Start of its validity.
    not_before: Timestamp,
    /// When it expires.
    pub(crate) not_after: Timestamp,
    is_root: bool,
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trusted({} to {})", self.not_before, self.not_after)
    }
}

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} has no valid PEM of certificates")]
    Certificates(&'static str),
    #[error("the certificate in {0} is not one of a certificate authority (basicConstraints CA)")]
    NotCa(&'static str),
    #[error(
        "{0} is not a private key in PEM as PKCS#8 (with cert-manager, privateKey.encoding: PKCS8)"
    )]
    Key(&'static str, #[source] rcgen::Error),
    #[error("{0} is not the private key of the first certificate in {1}")]
    Mismatch(&'static str, &'static str),
    #[error("no root certificate: {0} is signed by another authority; add its root to ca.crt")]
    NoRoot(&'static str),
    #[error("the certificate in {0} is not valid yet")]
    Early(&'static str),
    #[error("failed to sign")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// A new root.
    pub(crate) fn create(now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        // verifiers confuse authorities of the same name
        let hash = xxhash_rust::xxh3::xxh3_64(key.public_key_raw());
        params.distinguished_name = named(&format!("Nuncio CA {hash:016x}"));
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now - SET_BACK);
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now + LIFETIME);
        let certificate = params.self_signed(&key)?;
        Self::parse(
            &certificate.pem(),
            &key.serialize_pem(),
            ["tls.crt", "tls.key"],
        )
    }

    /// The authority of a chain and a key, which are called `names` in errors.
    pub(crate) fn parse(
        chain: &str,
        key: &str,
        [chain_name, key_name]: [&'static str; 2],
    ) -> Result<Self, Error> {
        let mut certificates = Trusted::parse(chain, chain_name)?;
        let key_pair = KeyPair::from_pem(key).map_err(|source| Error::Key(key_name, source))?;
        let first = certificates.remove(0);
        let matches = first.parsed(|certificate| {
            certificate.public_key().raw == key_pair.subject_public_key_info()
        });
        if matches != Some(true) {
            return Err(Error::Mismatch(key_name, chain_name));
        }
        let above = certificates
            .iter()
            .filter(|certificate| !certificate.is_root);
        let chain = std::iter::once(&first)
            .chain(above)
            .map(Trusted::pem)
            .collect();
        let issuer = Issuer::from_ca_cert_der(&first.der.as_slice().into(), key_pair)?;
        Ok(Self {
            chain,
            key: key.to_owned(),
            issuer,
            certificate: first,
        })
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &Trusted {
        &self.certificate
    }

    /// Its certificate and those above it that are not roots, PEM.
    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    /// Its private key, PEM.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Signs a certificate for these names, and returns its chain, PEM. It does not outlive the authority.
    pub(crate) fn sign(
        &self,
        public_key: &impl PublicKeyData,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
        lifetime: SignedDuration,
    ) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("nuncio");
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let not_after = self.certificate.not_after.min(now + lifetime);
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now - SET_BACK);
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        let mut chain = params.signed_by(public_key, &self.issuer)?.pem();
        if !self.certificate.is_root {
            chain += &self.chain;
        }
        Ok(chain)
    }
}

impl Trusted {
    /// The certificates of authorities in this text, which is called `name` in errors; one at least.
    pub(crate) fn parse(text: &str, name: &'static str) -> Result<Vec<Self>, Error> {
        let mut found = Vec::new();
        for pem in Pem::iter_from_buffer(text.as_bytes()).take(LONGEST_CHAIN) {
            let pem = pem.map_err(|_source| Error::Certificates(name))?;
            if pem.label == "CERTIFICATE" {
                found.push(Self::from_der(pem.contents, name)?);
            }
        }
        if found.is_empty() {
            return Err(Error::Certificates(name));
        }
        Ok(found)
    }

    fn from_der(der: Vec<u8>, name: &'static str) -> Result<Self, Error> {
        let (_, certificate) =
            parse_x509_certificate(&der).map_err(|_source| Error::Certificates(name))?;
        if !certificate.is_ca() {
            return Err(Error::NotCa(name));
        }
        let at = |time: ASN1Time| {
            let seconds = time.timestamp().clamp(0, FAR);
            Timestamp::from_second(seconds).map_err(|_source| Error::Certificates(name))
        };
        Ok(Self {
            not_before: at(certificate.validity().not_before)?,
            not_after: at(certificate.validity().not_after)?,
            is_root: certificate.subject() == certificate.issuer(),
            der,
        })
    }

    /// Whether its validity has not begun.
    pub(crate) fn is_early(&self, now: Timestamp) -> bool {
        self.not_before > now
    }

    /// When it was made, if it is of [`Authority::create`].
    pub(crate) fn created(&self) -> Timestamp {
        self.not_before + SET_BACK
    }

    /// Whether nothing is above it.
    pub(crate) fn is_root(&self) -> bool {
        self.is_root
    }

    /// It as PEM.
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }

    fn parsed<T>(&self, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        Some(read(&certificate))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// `rcgen` takes dates of a crate that is used for nothing else.
fn since_epoch(time: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
}
