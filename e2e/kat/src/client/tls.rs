//! TLS of a query.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::query::Tls;

/// A client's certificate with its key.
pub(super) fn identity(chain: &str, key: &str) -> Result<Arc<CertifiedKey>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.context("client_cert")?;
    ensure!(!chain.is_empty(), "client_cert holds no certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("client_key")?;
    let identity = CertifiedKey::from_der(chain, key, &ring::default_provider());
    Ok(Arc::new(identity.context("client_cert and client_key")?))
}

/// What a query asks for, with these protocols to choose from.
pub(super) fn config(tls: &Tls, protocols: &[&str]) -> Result<ClientConfig> {
    let provider = Arc::new(provider(tls)?);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls)?)?;
    let builder = if tls.insecure {
        let trust = TrustAnyone(provider.signature_verification_algorithms);
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust))
    } else {
        builder.with_root_certificates(roots(tls.authorities.as_deref()))
    };
    let mut config = match &tls.identity {
        Some(identity) => {
            let resolver = Arc::new(SingleCertAndKey::from(identity.clone()));
            builder.with_client_cert_resolver(resolver)
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(config)
}

/// The requested versions, of those that are supported.
fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>> {
    // an unknown bound has no effect
    let number = |name: &str| match name {
        "v1.0" => Some(0),
        "v1.1" => Some(1),
        "v1.2" => Some(2),
        "v1.3" => Some(3),
        _ => None,
    };
    let (min, max) = (number(&tls.min).unwrap_or(0), number(&tls.max).unwrap_or(3));
    let supported = [(2, &TLS12), (3, &TLS13)].into_iter();
    let wanted = supported.filter(|(version, _)| (min..=max).contains(version));
    let versions: Vec<_> = wanted.map(|(_, version)| version).collect();
    ensure!(
        !versions.is_empty(),
        "tls: no supported version from {:?} to {:?}",
        tls.min,
        tls.max
    );
    Ok(versions)
}

/// The requested cipher suites and curves, of those that are supported.
fn provider(tls: &Tls) -> Result<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        // those of TLS 1.3 cannot be chosen
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            let wanted = |wanted: &String| {
                wanted.trim_end_matches("_SHA256") == name.trim_end_matches("_SHA256")
            };
            suite.tls13().is_some() || tls.cipher_suites.iter().any(wanted)
        });
    }
    if !tls.curves.is_empty() {
        let wanted = |group| {
            let name = match group {
                NamedGroup::secp256r1 => "CurveP256",
                NamedGroup::secp384r1 => "CurveP384",
                NamedGroup::X25519 => "X25519",
                _ => return false,
            };
            tls.curves.iter().any(|curve| curve == name)
        };
        provider.kx_groups.retain(|group| wanted(group.name()));
        ensure!(
            !provider.kx_groups.is_empty(),
            "tls: no supported curve in {:?}",
            tls.curves
        );
    }
    Ok(provider)
}

/// The authorities of the query, or else of the system. A certificate that cannot be read is left out, as is done in Go.
fn roots(authorities: Option<&str>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    roots
}

/// Accepts every certificate whose key the server has.
#[derive(Debug)]
struct TrustAnyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_below_tls_1_2_are_none_or_leave_nothing() {
        let bounds = |min: &str, max: &str| Tls {
            min: min.into(),
            max: max.into(),
            ..Tls::default()
        };
        let count = |tls| versions(&tls).map(|versions| versions.len()).ok();
        assert_eq!(count(bounds("v1.0", "")), Some(2));
        assert_eq!(count(bounds("v1.3", "unknown")), Some(1));
        assert_eq!(count(bounds("", "v1.2")), Some(1));
        assert_eq!(count(bounds("v1.0", "v1.1")), None);
        assert_eq!(count(bounds("v1.3", "v1.2")), None);
    }

    #[test]
    fn suites_are_known_by_their_iana_and_go_names() {
        let suites = |names: &[&str]| {
            let tls = Tls {
                cipher_suites: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Tls::default()
            };
            let suites = provider(&tls).unwrap().cipher_suites.into_iter();
            suites.filter(|suite| suite.tls13().is_none()).count()
        };
        assert_eq!(
            suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_NONE"]),
            1
        );
        assert_eq!(suites(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]), 1);
        assert_eq!(suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]), 0);
    }

    #[test]
    fn an_unknown_curve_is_ignored_unless_it_is_the_only_one() {
        let groups = |names: &[&str]| {
            let tls = Tls {
                curves: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Tls::default()
            };
            provider(&tls).map(|provider| provider.kx_groups.len()).ok()
        };
        assert_eq!(groups(&["CurveP256", "CurveP521"]), Some(1));
        assert_eq!(groups(&["CurveP521"]), None);
    }
}
