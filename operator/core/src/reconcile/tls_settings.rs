//! TLS settings for connections from clients, which a TLSContext and the `tls` of a Host have in common.

use nuncio_ir::{EnvoyVersion, TlsParameters, TlsVersion};

use super::{Name, TlsSettings};
use crate::object::ObjectRef;

mod cipher;

/// Curves that BoringSSL supports in Envoy 1.40; names in one line mean the same curve.
const CURVES: [&[&str]; 6] = [
    &["P-256", "prime256v1"],
    &["P-384", "secp384r1"],
    &["P-521", "secp521r1"],
    &["X25519", "x25519"],
    &["X25519MLKEM768"],
    &["MLKEM1024"],
];

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
    /// Envoys of this version and later have to accept them.
    pub(super) envoy: EnvoyVersion,
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
        cipher::check(self.cipher_suites, self.envoy).map_err(|invalid| {
            let Some(index) = invalid.item else {
                return ("cipher_suites".to_owned(), invalid.fact);
            };
            let item = format!("{:?}", self.cipher_suites[index]);
            let fact = if invalid.fact.contains(&item) {
                invalid.fact
            } else {
                format!("invalid cipher list {item}: {}", invalid.fact)
            };
            (format!("cipher_suites[{index}]"), fact)
        })?;
        Ok(TlsParameters {
            min,
            max,
            ciphers: self.cipher_suites.to_vec(),
            curves: curves(self.ecdh_curves)?,
        })
    }
}

/// The curves without duplicates, which Envoy rejects. An item may name several, separated by colons.
fn curves(items: &[String]) -> Result<Vec<String>, InvalidField> {
    if matches!(items, [only] if only.is_empty()) {
        return Ok(Vec::new());
    }
    let mut found: Vec<(&[&str], &str)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        for name in item.split(':') {
            let Some(curve) = CURVES.iter().find(|names| names.contains(&name)) else {
                let known = CURVES.concat().join(", ");
                let fact = format!("unsupported curve {name:?}: use {known}");
                return invalid(&format!("ecdh_curves[{index}]"), &fact);
            };
            if !found.iter().any(|(known, _)| known == curve) {
                found.push((curve, name));
            }
        }
    }
    Ok(found.into_iter().map(|(_, name)| name.to_owned()).collect())
}

/// Whether a text names a cipher suite that older Envoys do not know.
pub(super) fn has_new_cipher(text: &str) -> bool {
    cipher::is_new(text)
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
