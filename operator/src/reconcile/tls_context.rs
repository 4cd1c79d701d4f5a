//! A TLSContext: how TLS is spoken, for whoever refers to it.

use nuncio_crds::v3alpha1::{self as crd, TlsContextSpec};
use nuncio_xds::ir::{TlsParameters, TlsVersion};
use serde_json::Value;

use super::{Found, Fragment, Name, TlsContext, error, notice, parse, warning};
use crate::{object::ObjectRef, report::Problem};

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

pub(super) fn reconcile(value: Value, object: &ObjectRef) -> Found {
    let (spec, mut problems): (TlsContextSpec, _) = match parse::spec(value, false) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match context(&spec, object, &mut problems) {
        Ok(context) => (Some(Fragment::TlsContext(context.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn context(
    spec: &TlsContextSpec,
    object: &ObjectRef,
    problems: &mut Vec<Problem>,
) -> Result<TlsContext, Problem> {
    let files = [
        ("cert_chain_file", &spec.cert_chain_file, "secret"),
        ("private_key_file", &spec.private_key_file, "secret"),
        ("cacert_chain_file", &spec.cacert_chain_file, "ca_secret"),
    ];
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if let Some((field, _, instead)) = files.into_iter().find(|(_, file, _)| is_set(file)) {
        return Err(error(
            "NotSupported",
            &format!("spec.{field}"),
            format!(
                "Envoys run elsewhere and cannot read this file; put it into a Secret and name that as {instead}; nothing is served with this TLSContext"
            ),
        ));
    }
    if spec.redirect_cleartext_from.is_some() {
        let message = "it has no effect: what becomes of requests without TLS is said by the Host, as requestPolicy.insecure".to_owned();
        problems.push(notice(
            "WithoutEffect",
            "spec.redirect_cleartext_from",
            message,
        ));
    }
    let secret = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        Some(secret_name(
            text,
            spec.secret_namespacing != Some(false),
            object,
        ))
    };
    let trusted = secret(&spec.ca_secret);
    let revoked = secret(&spec.crl_secret);
    if trusted.is_none() && revoked.is_some() {
        return Err(invalid(
            "spec.crl_secret",
            "a list of revoked certificates needs ca_secret beside it",
        ));
    }
    if trusted.is_none() && spec.cert_required == Some(true) {
        problems.push(warning("Invalid", "spec.cert_required", "without ca_secret no client certificate can be checked, so TLS from clients is not ended with this TLSContext".to_owned()));
    }
    Ok(TlsContext {
        hosts: spec
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase().into())
            .collect(),
        certificate: secret(&spec.secret),
        trusted,
        revoked,
        require_client_certificate: spec.cert_required == Some(true),
        alpn: alpn(spec.alpn_protocols.as_deref().unwrap_or_default()),
        server_name: server_name(spec)?,
        parameters: parameters(spec)?,
    })
}

/// `name`, or `name.namespace` where names of Secrets may have one.
fn secret_name(text: &str, has_namespace: bool, object: &ObjectRef) -> Name {
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
pub(super) fn alpn(text: &str) -> Vec<String> {
    let protocols = text.split(',').map(str::trim);
    let usable = |protocol: &&str| (1..=255).contains(&protocol.len());
    protocols.filter(usable).map(str::to_owned).collect()
}

fn server_name(spec: &TlsContextSpec) -> Result<Option<String>, Problem> {
    let Some(name) = spec.sni.clone().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name.len() > 255 || name.chars().any(char::is_control) {
        return Err(invalid(
            "spec.sni",
            "a server name has at most 255 bytes and no control characters",
        ));
    }
    Ok(Some(name))
}

fn parameters(spec: &TlsContextSpec) -> Result<TlsParameters, Problem> {
    let version = |version: crd::TlsVersion| match version {
        crd::TlsVersion::V1_0 => TlsVersion::V1_0,
        crd::TlsVersion::V1_1 => TlsVersion::V1_1,
        crd::TlsVersion::V1_2 => TlsVersion::V1_2,
        crd::TlsVersion::V1_3 => TlsVersion::V1_3,
    };
    let (min, max) = (
        spec.min_tls_version.map(version),
        spec.max_tls_version.map(version),
    );
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(invalid(
            "spec.min_tls_version",
            "it is above max_tls_version, so that no version is left",
        ));
    }
    for (index, cipher) in spec.cipher_suites.iter().enumerate() {
        // several in brackets are preferred equally
        let inside = cipher
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let known = match inside {
            Some(several) => several.split('|').all(|one| CIPHERS.contains(&one)),
            None => CIPHERS.contains(&cipher.as_str()),
        };
        if !known {
            let path = format!("spec.cipher_suites[{index}]");
            let message = format!(
                "{cipher:?} is no cipher suite of BoringSSL for TLS 1.2; known are {}",
                CIPHERS.join(", ")
            );
            return Err(invalid(&path, &message));
        }
    }
    for (index, curve) in spec.ecdh_curves.iter().enumerate() {
        if !CURVES.contains(&curve.as_str()) {
            let path = format!("spec.ecdh_curves[{index}]");
            let message = format!(
                "{curve:?} is no curve of BoringSSL; known are {}",
                CURVES.join(", ")
            );
            return Err(invalid(&path, &message));
        }
    }
    Ok(TlsParameters {
        min,
        max,
        ciphers: spec.cipher_suites.clone(),
        curves: spec.ecdh_curves.clone(),
    })
}

fn invalid(path: &str, message: &str) -> Problem {
    error(
        "Invalid",
        path,
        format!("{message}; nothing is served with this TLSContext"),
    )
}
