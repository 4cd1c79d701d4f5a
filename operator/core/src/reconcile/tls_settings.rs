//! TLS settings for connections from clients, which a TLSContext and the `tls` of a Host have in common.

use nuncio_ir::{TlsParameters, TlsVersion};

use super::{Name, TlsSettings};
use crate::object::ObjectRef;

/// Cipher suites of TLS 1.2 and below that BoringSSL supports; Envoy rejects others.
const CIPHERS: [&str; 19] = [
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Curves that BoringSSL supports.
const CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"];

/// The fields.
#[derive(Default)]
pub(super) struct TlsFields<'a> {
    pub(super) ca_secret: Option<&'a str>,
    pub(super) crl_secret: Option<&'a str>,
    pub(super) cert_required: Option<bool>,
    pub(super) alpn_protocols: Option<&'a str>,
    pub(super) min: Option<&'a str>,
    pub(super) max: Option<&'a str>,
    pub(super) cipher_suites: &'a [String],
    pub(super) ecdh_curves: &'a [String],
    /// Whether `name.namespace` names a Secret of another namespace.
    pub(super) secret_namespacing: bool,
}

/// A field, and what is wrong with it.
pub(super) type InvalidField = (String, String);

impl TlsFields<'_> {
    /// The settings.
    ///
    /// # Errors
    /// The first field that Envoy would reject, or that would be less secure than configured.
    pub(super) fn settings(&self, object: &ObjectRef) -> Result<TlsSettings, InvalidField> {
        let secret = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(secret_name(text, self.secret_namespacing, object))
        };
        let trusted = secret(self.ca_secret);
        let revoked = secret(self.crl_secret);
        if trusted.is_none() && revoked.is_some() {
            return invalid("crl_secret", "crl_secret needs ca_secret");
        }
        Ok(TlsSettings {
            trusted,
            revoked,
            require_client_certificate: self.cert_required == Some(true),
            alpn: alpn(self.alpn_protocols.unwrap_or_default()),
            parameters: self.parameters()?,
        })
    }

    fn parameters(&self) -> Result<TlsParameters, InvalidField> {
        let (min, max) = (
            version("min_tls_version", self.min)?,
            version("max_tls_version", self.max)?,
        );
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return invalid("min_tls_version", "must not be above max_tls_version");
        }
        if let (None, Some(max)) = (min, max)
            && max < TlsVersion::V1_2
        {
            return invalid(
                "max_tls_version",
                "must not be below v1.2 unless min_tls_version is",
            );
        }
        for (index, cipher) in self.cipher_suites.iter().enumerate() {
            // those in brackets have equal preference
            let inside = cipher
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            let is_supported = match inside {
                Some(several) => several.split('|').all(|one| CIPHERS.contains(&one)),
                None => CIPHERS.contains(&cipher.as_str()),
            };
            if !is_supported {
                let fact = format!(
                    "unsupported cipher suite {cipher:?} (the list is in the documentation)"
                );
                return invalid(&format!("cipher_suites[{index}]"), &fact);
            }
        }
        for (index, curve) in self.ecdh_curves.iter().enumerate() {
            if !CURVES.contains(&curve.as_str()) {
                let fact = format!("unsupported curve {curve:?}: use {}", CURVES.join(", "));
                return invalid(&format!("ecdh_curves[{index}]"), &fact);
            }
        }
        Ok(TlsParameters {
            min,
            max,
            ciphers: self.cipher_suites.to_vec(),
            curves: unique(self.ecdh_curves),
        })
    }
}

/// The curves without duplicates, which Envoy rejects.
fn unique(curves: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for curve in curves {
        if !found.contains(curve) {
            found.push(curve.clone());
        }
    }
    found
}

fn invalid<T>(field: &str, fact: &str) -> Result<T, InvalidField> {
    Err((field.to_owned(), fact.to_owned()))
}

fn version(field: &str, text: Option<&str>) -> Result<Option<TlsVersion>, InvalidField> {
    Ok(match text.filter(|text| !text.is_empty()) {
        None => None,
        Some("v1.0") => Some(TlsVersion::V1_0),
        Some("v1.1") => Some(TlsVersion::V1_1),
        Some("v1.2") => Some(TlsVersion::V1_2),
        Some("v1.3") => Some(TlsVersion::V1_3),
        Some(other) => {
            let fact = format!("unsupported TLS version {other:?}: use v1.0, v1.1, v1.2 or v1.3");
            return invalid(field, &fact);
        }
    })
}

/// `name`, or `name.namespace` if names of Secrets may have one.
pub(super) fn secret_name(text: &str, has_namespace: bool, object: &ObjectRef) -> Name {
    let (name, namespace) = match text.rsplit_once('.') {
        Some((name, namespace)) if has_namespace => (name, namespace.into()),
        _ => (text, object.namespace.clone()),
    };
    Name {
        namespace,
        name: name.into(),
    }
}

/// Protocols, separated by commas.
fn alpn(text: &str) -> Vec<String> {
    let protocols = text.split(',').map(str::trim);
    let usable = |protocol: &&str| (1..=255).contains(&protocol.len());
    protocols.filter(usable).map(str::to_owned).collect()
}
