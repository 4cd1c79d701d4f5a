//! How TLS from clients is spoken: what a TLSContext and the `tls` of a Host have in common.

use nuncio_ir::{TlsParameters, TlsVersion};

use super::{Name, TlsSettings};
use crate::object::ObjectRef;

/// Cipher suites of TLS 1.2 and below that BoringSSL has; Envoy refuses any other.
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

/// Curves that BoringSSL has.
const CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"];

/// The fields as they are written.
#[derive(Default)]
pub(super) struct Written<'a> {
    pub(super) ca_secret: Option<&'a str>,
    pub(super) crl_secret: Option<&'a str>,
    pub(super) cert_required: Option<bool>,
    pub(super) alpn_protocols: Option<&'a str>,
    pub(super) min: Option<&'a str>,
    pub(super) max: Option<&'a str>,
    pub(super) cipher_suites: &'a [String],
    pub(super) ecdh_curves: &'a [String],
    /// Whether `name.namespace` is a Secret of another namespace.
    pub(super) secret_namespacing: bool,
}

/// A field that is wrong, and why.
pub(super) type Flaw = (String, String);

impl Written<'_> {
    /// The settings.
    ///
    /// # Errors
    /// What would have Envoy refuse them, or serve less security than they ask for.
    pub(super) fn settings(&self, object: &ObjectRef) -> Result<TlsSettings, Flaw> {
        let secret = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(secret_name(text, self.secret_namespacing, object))
        };
        let trusted = secret(self.ca_secret);
        let revoked = secret(self.crl_secret);
        if trusted.is_none() && revoked.is_some() {
            return flaw(
                "crl_secret",
                "a list of revoked certificates needs ca_secret beside it",
            );
        }
        Ok(TlsSettings {
            trusted,
            revoked,
            require_client_certificate: self.cert_required == Some(true),
            alpn: alpn(self.alpn_protocols.unwrap_or_default()),
            parameters: self.parameters()?,
        })
    }

    fn parameters(&self) -> Result<TlsParameters, Flaw> {
        let (min, max) = (
            version("min_tls_version", self.min)?,
            version("max_tls_version", self.max)?,
        );
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return flaw(
                "min_tls_version",
                "it is above max_tls_version, so that no version is left",
            );
        }
        if let (None, Some(max)) = (min, max)
            && max < TlsVersion::V1_2
        {
            return flaw(
                "max_tls_version",
                "it is below v1.2, the least version unless min_tls_version names a lower one, so that no version is left",
            );
        }
        for (index, cipher) in self.cipher_suites.iter().enumerate() {
            // several in brackets are preferred equally
            let inside = cipher
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            let known = match inside {
                Some(several) => several.split('|').all(|one| CIPHERS.contains(&one)),
                None => CIPHERS.contains(&cipher.as_str()),
            };
            if !known {
                let message = format!(
                    "{cipher:?} is no cipher suite of BoringSSL for TLS 1.2; known are {}",
                    CIPHERS.join(", ")
                );
                return flaw(&format!("cipher_suites[{index}]"), &message);
            }
        }
        for (index, curve) in self.ecdh_curves.iter().enumerate() {
            if !CURVES.contains(&curve.as_str()) {
                let message = format!(
                    "{curve:?} is no curve of BoringSSL; known are {}",
                    CURVES.join(", ")
                );
                return flaw(&format!("ecdh_curves[{index}]"), &message);
            }
        }
        Ok(TlsParameters {
            min,
            max,
            ciphers: self.cipher_suites.to_vec(),
            curves: once_each(self.ecdh_curves),
        })
    }
}

/// The curves, each in its first place: Envoy refuses repetitions.
fn once_each(curves: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for curve in curves {
        if !found.contains(curve) {
            found.push(curve.clone());
        }
    }
    found
}

fn flaw<T>(field: &str, message: &str) -> Result<T, Flaw> {
    Err((field.to_owned(), message.to_owned()))
}

fn version(field: &str, text: Option<&str>) -> Result<Option<TlsVersion>, Flaw> {
    Ok(match text.filter(|text| !text.is_empty()) {
        None => None,
        Some("v1.0") => Some(TlsVersion::V1_0),
        Some("v1.1") => Some(TlsVersion::V1_1),
        Some("v1.2") => Some(TlsVersion::V1_2),
        Some("v1.3") => Some(TlsVersion::V1_3),
        Some(other) => {
            let message = format!("{other:?} is no version of TLS; v1.0, v1.1, v1.2 and v1.3 are");
            return flaw(field, &message);
        }
    })
}

/// `name`, or `name.namespace` where names of Secrets may have one.
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
