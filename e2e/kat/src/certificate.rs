//! Certificates for tests.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Number of authorities created so far.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// How long before its issue a certificate is valid, for clocks that are slow.
const CLOCK_SKEW: Duration = Duration::from_secs(25 * 3600);

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain.
    pub chain: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // a name of its own: a verifier takes a certificate with the name of its issuer for self-signed, and confuses
        // authorities of the same name
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("Authority {number} of tests");
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names.
    ///
    /// # Errors
    /// A name is invalid.
    pub fn issue(&self, names: &[&str]) -> Result<Certificate> {
        self.sign(&params(names)?)
    }

    /// A certificate for these names that has expired.
    ///
    /// # Errors
    /// A name is invalid.
    pub fn issue_expired(&self, names: &[&str]) -> Result<Certificate> {
        let mut params = params(names)?;
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&params)
    }

    /// A certificate for these names with the key of another.
    ///
    /// # Errors
    /// A name or the key is invalid.
    pub fn issue_for(&self, names: &[&str], other: &Certificate) -> Result<Certificate> {
        let key = KeyPair::from_pem(&other.key)?;
        Ok(Certificate {
            chain: params(names)?.signed_by(&key, &self.issuer)?.pem(),
            key: other.key.clone(),
        })
    }

    fn sign(&self, params: &CertificateParams) -> Result<Certificate> {
        let key = KeyPair::generate()?;
        Ok(Certificate {
            chain: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The certificate that this request for signing (PEM) asks for, valid for this long, PEM.
    ///
    /// # Errors
    /// The request is invalid.
    pub fn sign_request(&self, request: &str, lifetime: Duration) -> Result<String> {
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        let now = SystemTime::now();
        request.params.not_before = (now - CLOCK_SKEW).into();
        request.params.not_after = (now + lifetime).into();
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    /// A list that revokes these certificates, PEM.
    ///
    /// # Errors
    /// One of them is invalid.
    pub fn revoke(&self, certificates: &[&Certificate]) -> Result<String> {
        let revoked: Result<_> = certificates.iter().map(|one| one.revoked()).collect();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// A Secret with its certificate, for `ca_secret`.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> String {
        secret(namespace, name, "Opaque", &[("tls.crt", &self.pem())])
    }
}

fn params(names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Ok(CertificateParams::new(names)?)
}

impl Certificate {
    /// The first certificate of the chain, DER.
    ///
    /// # Errors
    /// There is no certificate.
    pub fn der(&self) -> Result<CertificateDer<'static>> {
        Ok(CertificateDer::from_pem_slice(self.chain.as_bytes())?)
    }

    /// The key, DER.
    ///
    /// # Errors
    /// The key is invalid.
    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_slice(self.key.as_bytes())?)
    }

    /// Its entry in a list of revoked certificates.
    fn revoked(&self) -> Result<RevokedCertParams> {
        let der = self.der()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)?;
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(certificate.raw_serial()),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        })
    }

    /// A Secret with this certificate.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> String {
        let entries = [("tls.crt", &*self.chain), ("tls.key", &*self.key)];
        secret(namespace, name, "kubernetes.io/tls", &entries)
    }
}

/// A Secret with these entries.
#[must_use]
pub fn secret(namespace: &str, name: &str, kind: &str, entries: &[(&str, &str)]) -> String {
    let entries: String = entries
        .iter()
        .map(|(key, text)| format!("  {key}: |\n    {}\n", text.trim().replace('\n', "\n    ")))
        .collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: {kind}\nstringData:\n{entries}---\n"
    )
}
