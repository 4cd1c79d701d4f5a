//! A TLSContext: TLS settings for the objects that refer to it.

use std::sync::Arc;

use nuncio_crds::v3alpha1::{self as crd, TlsContextSpec};
use nuncio_ir::EnvoyVersion;
use serde_json::Value;

use super::{
    Found, Fragment, TlsContext, not_served, of_other_namespaces, outcome, parse,
    tls_settings::{TlsFields, secret_name},
    without_effect,
};
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    settings::Settings,
};

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let (spec, mut problems): (TlsContextSpec, _) = match parse::spec(value, object.kind, false) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match context(&spec, object, settings.oldest_envoy, &mut problems) {
        Ok(context) => (Some(Fragment::TlsContext(context)), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

/// What a TLSContext adds.
///
/// # Errors
/// The problem that makes it invalid.
pub(super) fn context(
    spec: &TlsContextSpec,
    object: &ObjectRef,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Result<Arc<TlsContext>, Problem> {
    check_files(spec, object.kind)?;
    if spec.redirect_cleartext_from.is_some() {
        problems.push(without_effect(
            "spec.redirect_cleartext_from",
            "ignored; set requestPolicy.insecure on the Host",
        ));
    }
    let context = with_secrets(spec, object, envoy, spec.secret_namespacing != Some(false))?;
    if context.settings.trusted.is_none() && context.settings.require_client_certificate {
        problems.push(Problem::ignored(
            Reason::PARTIALLY_INVALID,
            "spec.cert_required",
            "cert_required needs ca_secret; TLS is not terminated with this TLSContext",
        ));
    }
    let own = match spec.secret_namespacing {
        None => Some(with_secrets(spec, object, envoy, false)?).filter(|own| *own != context),
        Some(_) => None,
    };
    Ok(Arc::new(TlsContext {
        in_own_namespace: own.map(Arc::new),
        ..context
    }))
}

/// Certificates are read from Secrets only.
fn check_files(spec: &TlsContextSpec, kind: Kind) -> Result<(), Problem> {
    let files = [
        ("cert_chain_file", &spec.cert_chain_file, "secret"),
        ("private_key_file", &spec.private_key_file, "secret"),
        ("cacert_chain_file", &spec.cacert_chain_file, "ca_secret"),
    ];
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let Some((field, _, instead)) = files.into_iter().find(|(_, file, _)| is_set(file)) else {
        return Ok(());
    };
    Err(Problem::invalid(
        Reason::NOT_SUPPORTED,
        format!("spec.{field}"),
        format!("files are not supported; set {instead}; {}", outcome(kind)),
    ))
}

/// A TLSContext whose names of Secrets can have a namespace or cannot.
fn with_secrets(
    spec: &TlsContextSpec,
    object: &ObjectRef,
    envoy: EnvoyVersion,
    has_namespace: bool,
) -> Result<TlsContext, Problem> {
    let certificate = spec.secret.as_deref().filter(|text| !text.is_empty());
    let version = |version: Option<crd::TlsVersion>| {
        version.map(|version| match version {
            crd::TlsVersion::V1_0 => "v1.0",
            crd::TlsVersion::V1_1 => "v1.1",
            crd::TlsVersion::V1_2 => "v1.2",
            crd::TlsVersion::V1_3 => "v1.3",
        })
    };
    let fields = TlsFields {
        ca_secret: spec.ca_secret.as_deref(),
        crl_secret: spec.crl_secret.as_deref(),
        cert_required: spec.cert_required,
        alpn_protocols: spec.alpn_protocols.as_deref(),
        min: version(spec.min_tls_version),
        max: version(spec.max_tls_version),
        cipher_suites: &spec.cipher_suites,
        ecdh_curves: &spec.ecdh_curves,
        secret_namespacing: has_namespace,
        envoy,
    };
    let settings = fields
        .settings(object)
        .map_err(|(field, fact)| not_served(object.kind, format!("spec.{field}"), fact))?;
    let certificate = certificate.map(|text| secret_name(text, has_namespace, object));
    Ok(TlsContext {
        hosts: spec
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase().into())
            .collect(),
        in_own_namespace: None,
        certificate,
        server_name: server_name(spec)?,
        settings,
    })
}

/// A notice for each Secret of another namespace.
pub(crate) fn notices<'a>(
    object: &'a ObjectRef,
    context: &'a TlsContext,
) -> impl Iterator<Item = Problem> {
    let settings = &context.settings;
    let secrets = [
        ("spec.secret", context.certificate.as_ref()),
        ("spec.ca_secret", settings.trusted.as_ref()),
        ("spec.crl_secret", settings.revoked.as_ref()),
    ];
    of_other_namespaces(object, secrets)
}

fn server_name(spec: &TlsContextSpec) -> Result<Option<String>, Problem> {
    let Some(name) = spec.sni.clone().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name.len() > 255 || name.chars().any(char::is_control) {
        return Err(not_served(
            Kind::TlsContext,
            "spec.sni",
            "must be at most 255 bytes without control characters",
        ));
    }
    Ok(Some(name))
}
