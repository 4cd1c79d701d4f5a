//! A Secret with a certificate. Certificate and key are parsed and matched here, so that Envoy never gets one that it
//! would refuse. What is wrong is kept as text and told where the Secret is used; the key itself is in no message.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as Object;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use x509_parser::{
    prelude::{FromDer, Pem, X509Certificate},
    revocation_list::CertificateRevocationList,
};

use super::{Certificate, Found, Fragment, Secret, parse};
use crate::report::{Problem, Reason};

/// Types of Secrets that hold certificates.
const TYPES: [&str; 3] = ["kubernetes.io/tls", "Opaque", "istio.io/key-and-cert"];

pub(super) fn reconcile(value: Value) -> Found {
    let secret: Object = match parse::object(value, "") {
        Ok((secret, _unknown)) => secret,
        // the parser's message would quote the value
        Err(problem) => {
            let message = "data is not a map of names to base64".to_owned();
            return (
                None,
                vec![Problem::invalid(Reason::INVALID, &problem.path, message)],
            );
        }
    };
    let content = Secret {
        certificate: certificate(&secret),
        trusted: trusted(&secret),
        revoked: revoked(&secret),
        root: root(&secret),
    };
    // what it is for is known where it is used; here it is enough that it is for something
    let problems = match (&content.certificate, &content.trusted, &content.revoked) {
        (Err(reason), Err(_), Err(_)) => {
            vec![Problem::ignored(
                Reason::INVALID_SECRET,
                "data",
                reason.clone(),
            )]
        }
        _ => Vec::new(),
    };
    (Some(Fragment::Secret(content.into())), problems)
}

/// Certificates of authorities.
fn trusted(secret: &Object) -> Result<Arc<str>, String> {
    check_type(secret)?;
    let chain = text(
        secret,
        &["tls.crt", "cert-chain.pem", "ca.crt", "root-cert.pem"],
    )?;
    first_certificate(&chain)?;
    Ok(chain.into())
}

/// Authorities beside a certificate.
fn root(secret: &Object) -> Option<Arc<str>> {
    let root = text(secret, &["root-cert.pem"]).ok()?;
    first_certificate(&root).ok()?;
    Some(root.into())
}

/// Lists of revoked certificates.
fn revoked(secret: &Object) -> Result<Arc<str>, String> {
    check_type(secret)?;
    let lists = text(secret, &["crl.pem", "user.key"])?;
    let mut any = false;
    for pem in Pem::iter_from_buffer(lists.as_bytes()) {
        let pem = pem.map_err(|_source| "crl.pem is not PEM".to_owned())?;
        CertificateRevocationList::from_der(&pem.contents).map_err(|_source| {
            "crl.pem holds something that is no list of revoked certificates".to_owned()
        })?;
        any = true;
    }
    if any {
        Ok(lists.into())
    } else {
        Err("crl.pem holds no list of revoked certificates in PEM form".to_owned())
    }
}

fn check_type(secret: &Object) -> Result<(), String> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if TYPES.contains(&kind) {
        return Ok(());
    }
    Err(format!(
        "a Secret of type {kind:?} holds no certificate; use kubernetes.io/tls"
    ))
}

fn certificate(secret: &Object) -> Result<Certificate, String> {
    check_type(secret)?;
    let chain = text(secret, &["tls.crt", "cert-chain.pem"])?;
    let key = text(secret, &["tls.key", "key.pem"])?;
    let (public, not_after) = first_certificate(&chain)?;
    let parsed = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_source| {
        "tls.key holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)".to_owned()
    })?;
    // kinds of keys that our library does not know are left to Envoy
    if let Ok(signing) = rustls::crypto::ring::sign::any_supported_type(&parsed)
        && let Some(own) = signing.public_key()
        && own.as_ref() != public
    {
        return Err(
            "tls.key is not the private key of the first certificate in tls.crt".to_owned(),
        );
    }
    Ok(Certificate {
        chain: chain.into(),
        key: key.into(),
        not_after,
    })
}

/// The subject public key info of the first certificate and when it expires, all of them being parsed.
fn first_certificate(chain: &str) -> Result<(Vec<u8>, i64), String> {
    let mut first = None;
    for pem in Pem::iter_from_buffer(chain.as_bytes()) {
        let pem = pem.map_err(|_source| "tls.crt is not PEM".to_owned())?;
        if pem.label != "CERTIFICATE" {
            return Err(format!(
                "tls.crt holds a {:?} where a certificate was expected",
                pem.label
            ));
        }
        let (_, certificate) = X509Certificate::from_der(&pem.contents)
            .map_err(|_source| "tls.crt holds a certificate that cannot be parsed".to_owned())?;
        first.get_or_insert_with(|| {
            let not_after = certificate.validity().not_after.timestamp();
            (certificate.public_key().raw.to_vec(), not_after)
        });
    }
    first.ok_or_else(|| "tls.crt holds no certificate in PEM form".to_owned())
}

/// The first of these entries that is there.
fn text(secret: &Object, keys: &[&str]) -> Result<String, String> {
    for key in keys {
        let written = secret
            .string_data
            .as_ref()
            .and_then(|data| data.get(*key))
            .cloned();
        let encoded = || {
            let bytes = &secret.data.as_ref()?.get(*key)?.0;
            Some(String::from_utf8(bytes.clone()).map_err(|_source| format!("{key} is not text")))
        };
        match written.map(Ok).or_else(encoded) {
            Some(Ok(text)) if text.is_empty() => {}
            Some(found) => return found,
            None => {}
        }
    }
    Err(format!("{} is missing", keys[0]))
}
