//! A TLSContext: how TLS is spoken, for whoever refers to it.

use nuncio_crds::v3alpha1::{self as crd, TlsContextSpec};
use serde_json::Value;

use super::{
    Found, Fragment, TlsContext, parse,
    tls_settings::{Written, secret_name},
};
use crate::{
    object::ObjectRef,
    report::{Problem, Reason},
};

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
        return Err(Problem::invalid(
            Reason::NOT_SUPPORTED,
            &format!("spec.{field}"),
            format!(
                "Envoys run elsewhere and cannot read this file; put it into a Secret and name that as {instead}; nothing is served with this TLSContext"
            ),
        ));
    }
    if spec.redirect_cleartext_from.is_some() {
        let message = "it has no effect: what becomes of requests without TLS is said by the Host, as requestPolicy.insecure".to_owned();
        problems.push(Problem::notice(
            Reason::WITHOUT_EFFECT,
            "spec.redirect_cleartext_from",
            message,
        ));
    }
    let has_namespace = spec.secret_namespacing != Some(false);
    let certificate = spec.secret.as_deref().filter(|text| !text.is_empty());
    let version = |version: Option<crd::TlsVersion>| {
        version.map(|version| match version {
            crd::TlsVersion::V1_0 => "v1.0",
            crd::TlsVersion::V1_1 => "v1.1",
            crd::TlsVersion::V1_2 => "v1.2",
            crd::TlsVersion::V1_3 => "v1.3",
        })
    };
    let written = Written {
        ca_secret: spec.ca_secret.as_deref(),
        crl_secret: spec.crl_secret.as_deref(),
        cert_required: spec.cert_required,
        alpn_protocols: spec.alpn_protocols.as_deref(),
        min: version(spec.min_tls_version),
        max: version(spec.max_tls_version),
        cipher_suites: &spec.cipher_suites,
        ecdh_curves: &spec.ecdh_curves,
        secret_namespacing: has_namespace,
    };
    let settings = written
        .settings(object)
        .map_err(|(field, message)| invalid(&format!("spec.{field}"), &message))?;
    if settings.trusted.is_none() && settings.require_client_certificate {
        problems.push(Problem::ignored(Reason::INVALID, "spec.cert_required", "without ca_secret no client certificate can be checked, so TLS from clients is not ended with this TLSContext".to_owned()));
    }
    Ok(TlsContext {
        hosts: spec
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase().into())
            .collect(),
        certificate: certificate.map(|text| secret_name(text, has_namespace, object)),
        server_name: server_name(spec)?,
        settings,
    })
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

fn invalid(path: &str, message: &str) -> Problem {
    Problem::invalid(
        Reason::INVALID,
        path,
        format!("{message}; nothing is served with this TLSContext"),
    )
}
