//! A Secret with certificates. Certificate and key are parsed and matched here, so that Envoy never gets what it would
//! reject. The reason why a part is invalid is kept and reported where the Secret is used; no message contains the key.
//!
//! Key and certificate are compared here and not by `CertifiedKey::keys_match` of rustls: that makes the same comparison,
//! but parses the certificate for use by rustls, and fails for what Envoy accepts, such as X.509 version 1 and unknown
//! critical extensions.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as Object;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use x509_parser::{
    prelude::{FromDer, Pem, X509Certificate},
    revocation_list::CertificateRevocationList,
};

use super::{Certificate, Found, Fragment, Secret, not_served, parse};
use crate::{
    object::Kind,
    report::{Problem, Reason},
};

/// Types of Secrets that hold certificates.
const TYPES: [&str; 3] = ["kubernetes.io/tls", "Opaque", "istio.io/key-and-cert"];

pub(super) fn reconcile(value: Value) -> Found {
    let secret: Object = match parse::object(value, Kind::Secret, "") {
        Ok((secret, _unknown)) => secret,
        // the parser's message would quote the value
        Err(problem) => {
            let fact = "data must be a map of names to base64";
            return (None, vec![not_served(Kind::Secret, problem.path, fact)]);
        }
    };
    let content = Secret {
        certificate: certificate(&secret),
        trusted: trusted(&secret),
        revoked: revoked(&secret),
        root: root(&secret),
    };
    // which part is needed is decided where the Secret is used; only a Secret without any is reported here
    let problems = match (&content.certificate, &content.trusted, &content.revoked) {
        (Err(reason), Err(_), Err(_)) => {
            let message = reason.clone();
            vec![Problem::ignored(Reason::INVALID_SECRET, "data", message)]
        }
        _ => Vec::new(),
    };
    (Some(Fragment::Secret(content.into())), problems)
}

/// CA certificates.
fn trusted(secret: &Object) -> Result<Arc<str>, String> {
    check_type(secret)?;
    let keys = ["tls.crt", "cert-chain.pem", "ca.crt", "root-cert.pem"];
    let chain = entry(secret, &keys).unwrap_or_else(|| Err("ca.crt is missing".to_owned()))?;
    first_certificate(&chain)?;
    Ok(chain.text.into())
}

/// CA certificates beside a certificate.
fn root(secret: &Object) -> Option<Arc<str>> {
    let root = entry(secret, &["root-cert.pem"])?.ok()?;
    first_certificate(&root).ok()?;
    Some(root.text.into())
}

/// Certificate revocation lists.
fn revoked(secret: &Object) -> Result<Arc<str>, String> {
    check_type(secret)?;
    let lists = required(secret, &["crl.pem", "user.key"])?;
    let key = lists.key;
    let mut any = false;
    for pem in Pem::iter_from_buffer(lists.text.as_bytes()) {
        let pem = pem.map_err(|_source| format!("{key} is not PEM"))?;
        CertificateRevocationList::from_der(&pem.contents)
            .map_err(|_source| format!("{key} must contain only certificate revocation lists"))?;
        any = true;
    }
    if any {
        Ok(lists.text.into())
    } else {
        Err(format!(
            "{key} contains no certificate revocation list in PEM form"
        ))
    }
}

fn check_type(secret: &Object) -> Result<(), String> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if TYPES.contains(&kind) {
        return Ok(());
    }
    Err(format!(
        "unsupported Secret type {kind:?}: use kubernetes.io/tls"
    ))
}

fn certificate(secret: &Object) -> Result<Certificate, String> {
    check_type(secret)?;
    let chain = required(secret, &["tls.crt", "cert-chain.pem"])?;
    let key = required(secret, &["tls.key", "key.pem"])?;
    let (public, not_after) = first_certificate(&chain)?;
    let parsed = PrivateKeyDer::from_pem_slice(key.text.as_bytes()).map_err(|_source| {
        format!(
            "{} contains no private key in PEM form (PKCS#8, PKCS#1 or SEC1)",
            key.key
        )
    })?;
    // kinds of keys that rustls does not support are left to Envoy
    if let Ok(signing) = rustls::crypto::ring::sign::any_supported_type(&parsed)
        && let Some(own) = signing.public_key()
        && own.as_ref() != public
    {
        return Err(format!(
            "{} is not the private key of the first certificate in {}",
            key.key, chain.key
        ));
    }
    Ok(Certificate {
        chain: chain.text.into(),
        key: key.text.into(),
        not_after,
    })
}

/// The subject public key info of the first certificate and when it expires. All certificates are parsed.
fn first_certificate(chain: &Entry) -> Result<(Vec<u8>, i64), String> {
    let key = chain.key;
    let mut first = None;
    for pem in Pem::iter_from_buffer(chain.text.as_bytes()) {
        let pem = pem.map_err(|_source| format!("{key} is not PEM"))?;
        if pem.label != "CERTIFICATE" {
            return Err(format!(
                "{key} must contain only certificates, not {:?}",
                pem.label
            ));
        }
        let (_, certificate) = X509Certificate::from_der(&pem.contents)
            .map_err(|_source| format!("{key} contains an invalid certificate"))?;
        first.get_or_insert_with(|| {
            let not_after = certificate.validity().not_after.timestamp();
            (certificate.public_key().raw.to_vec(), not_after)
        });
    }
    first.ok_or_else(|| format!("{key} contains no certificate in PEM form"))
}

/// An entry of the data of a Secret.
struct Entry {
    key: &'static str,
    text: String,
}

/// The first of these entries that exists; an error if none does, which names the first.
fn required(secret: &Object, keys: &[&'static str]) -> Result<Entry, String> {
    entry(secret, keys).unwrap_or_else(|| Err(format!("{} is missing", keys[0])))
}

/// The first of these entries that exists and is not empty; an error if it is not text.
fn entry(secret: &Object, keys: &[&'static str]) -> Option<Result<Entry, String>> {
    keys.iter().find_map(|key| {
        let plain = secret.string_data.as_ref().and_then(|data| data.get(*key));
        let text = match plain {
            Some(text) => text.clone(),
            None => match String::from_utf8(secret.data.as_ref()?.get(*key)?.0.clone()) {
                Ok(text) => text,
                Err(_) => return Some(Err(format!("{key} is not text"))),
            },
        };
        (!text.is_empty()).then_some(Ok(Entry { key, text }))
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    };
    use serde_json::json;

    use super::*;

    /// A certificate of X.509 version 1, as `openssl x509 -req` makes it without extensions.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBJTCBywIUDWnDOiXHXCNgZwFshIUnlMiKbVcwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJYS5leGFtcGxlMCAXDTI2MTEyMTE4MjIwOFoYDzIxMjYxMDI4MTgyMjA4
WjAUMRIwEAYDVQQDDAlhLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARaJxDK3C6fNXiLqhLTsEaPyzqh8JapgKkX6eKpbpi9Ba2cC3dif3/33RxFYVQ3
5b/Tjyksm/DLv84iFGlVcbBsMAoGCCqGSM49BAMCA0kAMEYCIQD1FFP3edsNapa4
KoBS477RjpFEXq+r+i7hVHTqJ8SWXQIhALASCSX3/QHgCExx1MBthQQDTE1lXEsa
su2DqT8++f/1
-----END CERTIFICATE-----
";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgddtdmEscHLZu+k8B
3aGyLEBuyGab5oq+DF7dOQaM+UKhRANCAARaJxDK3C6fNXiLqhLTsEaPyzqh8Jap
gKkX6eKpbpi9Ba2cC3dif3/33RxFYVQ35b/Tjyksm/DLv84iFGlVcbBs
-----END PRIVATE KEY-----
";

    fn secret(entries: &Value) -> Arc<Secret> {
        let (fragment, _) = reconcile(json!({"stringData": entries}));
        match fragment {
            Some(Fragment::Secret(secret)) => secret,
            other => panic!("{other:?}"),
        }
    }

    fn certificate(certificate: &str, key: &str) -> Result<Certificate, String> {
        let secret = secret(&json!({"tls.crt": certificate, "tls.key": key}));
        secret.certificate.clone()
    }

    #[test]
    fn a_key_matches_its_own_certificate_only() {
        for algorithm in [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            let made = params.self_signed(&key).unwrap().pem();
            assert_eq!(certificate(&made, &key.serialize_pem()).err(), None);
            assert_eq!(
                certificate(&made, KEY).err().as_deref(),
                Some("tls.key is not the private key of the first certificate in tls.crt")
            );
        }
    }

    #[test]
    fn version_1_certificates_are_matched_too() {
        assert_eq!(certificate(VERSION_1, KEY).err(), None);
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert!(certificate(VERSION_1, &other).is_err());
    }

    #[test]
    fn messages_name_the_entry_that_was_read() {
        let errors = |entries| {
            let secret = secret(&entries);
            let trusted = secret.trusted.clone().err().unwrap_or_default();
            (trusted, secret.revoked.clone().err().unwrap_or_default())
        };
        assert_eq!(
            errors(json!({})),
            (
                "ca.crt is missing".to_owned(),
                "crl.pem is missing".to_owned()
            )
        );
        assert_eq!(
            errors(json!({"ca.crt": "x", "user.key": "x"})),
            (
                "ca.crt contains no certificate in PEM form".to_owned(),
                "user.key contains no certificate revocation list in PEM form".to_owned()
            )
        );
    }
}
