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

use self::pem::Block;
use super::{Certificate, Found, Fragment, Secret, Token, not_served, parse};
use crate::{
    object::Kind,
    report::{Problem, Reason},
};

mod pem;

/// Types of Secrets that hold certificates.
const TYPES: [&str; 3] = ["kubernetes.io/tls", "Opaque", "istio.io/key-and-cert"];

pub(super) fn reconcile(value: Value) -> Found {
    let secret: Object = match parse::object(value, Kind::Secret, "") {
        Ok((secret, _unknown)) => secret,
        // the parser's message would quote the value
        Err(problem) => {
            let fact = "data must be a map of names to base64";
            let content = Secret {
                certificate: Err(fact.to_owned().into()),
                trusted: Err(fact.to_owned().into()),
                revoked: Err(fact.to_owned().into()),
                token: Err(fact.to_owned().into()),
            };
            let problems = vec![not_served(Kind::Secret, problem.path, fact)];
            return (Some(Fragment::Secret(content.into())), problems);
        }
    };
    let content = Secret {
        certificate: certificate(&secret).map_err(Into::into),
        trusted: trusted(&secret).map_err(Into::into),
        revoked: revoked(&secret).map_err(Into::into),
        token: token(&secret).map_err(Into::into),
    };
    // which part is needed is decided where the Secret is used; only a Secret without any is reported here
    let is_unused = content.trusted.is_err() && content.revoked.is_err() && content.token.is_err();
    let problems = match &content.certificate {
        Err(unusable) if is_unused => {
            let message = unusable.reason.clone();
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
    Ok(certificates(&chain, Use::Trust)?.text.into())
}

/// CA certificates beside a certificate. Without those that were meant, more clients would be accepted, so that the
/// certificate is unusable if they are invalid.
fn root(secret: &Object) -> Result<Option<Arc<str>>, String> {
    let Some(root) = entry(secret, &["root-cert.pem"]) else {
        return Ok(None);
    };
    Ok(Some(certificates(&root?, Use::Trust)?.text.into()))
}

/// Certificate revocation lists.
fn revoked(secret: &Object) -> Result<Arc<str>, String> {
    check_type(secret)?;
    let lists = required(secret, &["crl.pem", "user.key"])?;
    let key = lists.key;
    let mut text = String::new();
    for block in blocks(&lists)? {
        if block.is_revocation_list() {
            text.push_str(&revocation_list(&block, key)?);
        }
    }
    if text.is_empty() {
        return Err(format!(
            "{key} contains no certificate revocation list in PEM form"
        ));
    }
    Ok(text.into())
}

/// A token that is meant for others, such as that of a ServiceAccount, must not be sent anywhere.
fn token(secret: &Object) -> Result<Token, String> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if kind != "Opaque" {
        return Err(format!("unsupported Secret type {kind:?}: use Opaque"));
    }
    let token = required(secret, &["token"])?;
    let text = token.text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("token must be printable text without spaces".to_owned());
    }
    Ok(Token(text.into()))
}

/// The text of a revocation list, which is parsed.
fn revocation_list(block: &Block<'_>, key: &str) -> Result<String, String> {
    let invalid = || format!("{key} contains an invalid certificate revocation list");
    let der = contents(block).ok_or_else(invalid)?;
    CertificateRevocationList::from_der(&der).map_err(|_source| invalid())?;
    Ok(block.text.clone())
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
    let chain_key = chain.key;
    let chain = certificates(&chain, Use::Present)?;
    let block = blocks(&key)?.into_iter().find(Block::is_key);
    if block.as_ref().is_some_and(Block::is_encrypted) {
        return Err(format!(
            "{} is encrypted; encrypted keys are not supported",
            key.key
        ));
    }
    let text = block.map(|block| block.text).unwrap_or_default();
    let parsed = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_source| {
        format!(
            "{} contains no private key in PEM form (PKCS#8, PKCS#1 or SEC1)",
            key.key
        )
    })?;
    // kinds of keys that rustls does not support are left to Envoy
    if let Ok(signing) = rustls::crypto::ring::sign::any_supported_type(&parsed)
        && let Some(own) = signing.public_key()
        && own.as_ref() != chain.public
    {
        return Err(format!(
            "{} is not the private key of the first certificate in {}",
            key.key, chain_key
        ));
    }
    Ok(Certificate {
        chain: chain.text.into(),
        key: text.into(),
        not_before: chain.not_before,
        not_after: chain.not_after,
        root: root(secret)?,
    })
}

/// What certificates are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// To present them to a peer.
    Present,
    /// To trust them. Revocation lists beside them are enforced.
    Trust,
}

/// The certificates of an entry.
struct Certificates {
    /// The blocks that Envoy reads.
    text: String,
    /// Subject public key info of the first.
    public: Vec<u8>,
    /// When the first begins to be valid.
    not_before: i64,
    /// When it expires.
    not_after: i64,
}

/// The certificates of an entry, all of which are parsed.
fn certificates(entry: &Entry, used: Use) -> Result<Certificates, String> {
    let key = entry.key;
    let mut found: Option<Certificates> = None;
    let mut lists = String::new();
    for block in blocks(entry)? {
        if used == Use::Trust && block.is_revocation_list() {
            lists.push_str(&revocation_list(&block, key)?);
        }
        // beyond the first, Envoy skips trusted certificates when it presents them
        let is_skipped = used == Use::Present && block.label == "TRUSTED CERTIFICATE";
        if !block.is_certificate() || (is_skipped && found.is_some()) {
            continue;
        }
        let invalid = || format!("{key} contains an invalid certificate");
        let der = contents(&block).ok_or_else(invalid)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_source| invalid())?;
        let certificates = found.get_or_insert_with(|| Certificates {
            text: String::new(),
            public: parsed.public_key().raw.to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        });
        certificates.text.push_str(&block.text);
    }
    let mut found = found.ok_or_else(|| format!("{key} contains no certificate in PEM form"))?;
    found.text.push_str(&lists);
    Ok(found)
}

fn blocks(entry: &Entry) -> Result<Vec<Block<'_>>, String> {
    pem::blocks(&entry.text).ok_or_else(|| format!("{} is not PEM", entry.key))
}

/// The decoded contents of a block.
fn contents(block: &Block<'_>) -> Option<Vec<u8>> {
    if block.has_headers() {
        return None;
    }
    let pem = Pem::iter_from_buffer(block.text.as_bytes()).next()?.ok()?;
    Some(pem.contents)
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
        secret
            .certificate
            .clone()
            .map_err(|unusable| unusable.reason)
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
            let (trusted, revoked) = (secret.trusted.clone(), secret.revoked.clone());
            (trusted.unwrap_err().reason, revoked.unwrap_err().reason)
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

    /// What else stands in an entry is skipped and not sent to Envoy, as BoringSSL skips it.
    #[test]
    fn other_blocks_beside_a_certificate_and_a_key_are_skipped() {
        let other = "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n";
        let x509 = VERSION_1.replace(" CERTIFICATE", " X509 CERTIFICATE");
        let trusted = VERSION_1.replace(" CERTIFICATE", " TRUSTED CERTIFICATE");
        let without_breaks = {
            let lines: Vec<&str> = VERSION_1.lines().collect();
            let (head, tail) = (lines[0], lines[lines.len() - 1]);
            format!("{head}\n{}\n{tail}\n", lines[1..lines.len() - 1].concat())
        };
        for (chain, sent) in [
            (format!("{VERSION_1}{KEY}"), VERSION_1.to_owned()),
            (format!("{KEY}{other}{VERSION_1}"), VERSION_1.to_owned()),
            (
                format!("subject=a\n\n{VERSION_1}issuer=b\n"),
                VERSION_1.to_owned(),
            ),
            (VERSION_1.replace('\n', "\r\n"), VERSION_1.to_owned()),
            (VERSION_1.replace('\n', "  \n\n"), VERSION_1.to_owned()),
            (VERSION_1.trim_end().to_owned(), VERSION_1.to_owned()),
            (x509.clone(), x509.clone()),
            (trusted.clone(), trusted.clone()),
            (format!("{VERSION_1}{trusted}"), VERSION_1.to_owned()),
            (
                format!("{trusted}{VERSION_1}"),
                format!("{trusted}{VERSION_1}"),
            ),
            (without_breaks.clone(), without_breaks.clone()),
        ] {
            let found = certificate(&chain, &format!("{other}{VERSION_1}{KEY}{other}"));
            let found = found.unwrap_or_else(|fact| panic!("{fact}: {chain}"));
            assert_eq!(&*found.chain, sent);
            assert_eq!(&*found.key, KEY);
        }
    }

    #[test]
    fn what_envoy_cannot_read_is_invalid() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let headers = VERSION_1.replacen("-----\n", "-----\nProc-Type: 4,CLEAR\n\n", 1);
        for chain in [
            format!("{VERSION_1}{broken}"),
            format!("{broken}{VERSION_1}"),
            format!("{}{VERSION_1}", VERSION_1.trim_end()),
            format!("{VERSION_1}-----BEGIN CERTIFICATE-----\nAAAA\n"),
            VERSION_1.replace('\n', "\n  "),
            headers,
            KEY.to_owned(),
        ] {
            assert!(certificate(&chain, KEY).is_err(), "{chain}");
        }
        let encrypted = KEY.replace(" PRIVATE", " ENCRYPTED PRIVATE");
        assert_eq!(
            certificate(VERSION_1, &format!("{encrypted}{KEY}"))
                .err()
                .as_deref(),
            Some("tls.key is encrypted; encrypted keys are not supported")
        );
    }
}
