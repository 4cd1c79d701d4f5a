//! A Host: a hostname, its TLS termination, which Mappings can attach, and how insecure requests are handled.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use nuncio_crds::v3alpha1::{self as crd, HostSpec};
use nuncio_ir::{EnvoyVersion, route::split_port};
use serde_json::Value;

use super::{
    Found, Fragment, Host, HostTerms, HostTls, InsecureAction, Name, TlsSettings, not_served,
    of_other_namespaces, parse,
    tls_settings::{InvalidField, TlsFields},
    without_effect,
};
use crate::{
    glob,
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    selector::{Labels, Operator, Requirement, Selector},
    settings::Settings,
};

pub(super) fn reconcile(
    value: Value,
    object: &ObjectRef,
    labels: &Labels,
    settings: &Settings,
) -> Found {
    let (spec, mut problems): (HostSpec, _) = match parse::spec(value, object.kind, false) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match host(&spec, object, labels, settings.oldest_envoy, &mut problems) {
        Ok(host) => (Some(Fragment::Host(host.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn host(
    spec: &HostSpec,
    object: &ObjectRef,
    labels: &Labels,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Result<Host, Problem> {
    let hostname = spec
        .hostname
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("*")
        .to_ascii_lowercase();
    let (name, port) = split_port(&hostname);
    // a fully qualified name is the same without its dot
    let server_name = name.trim_end_matches('.');
    let hostname = match port {
        Some(port) => format!("{server_name}:{port}"),
        None => server_name.to_owned(),
    };
    glob::check(&hostname).map_err(|fact| not_served(object.kind, "spec.hostname", fact))?;
    let (path, selected) = match (&spec.mapping_selector, &spec.selector) {
        (Some(selected), _) if !is_empty(&selected.0) => {
            ("spec.mappingSelector", Some(&selected.0))
        }
        (_, Some(selected)) if !is_empty(&selected.0) => ("spec.selector", Some(&selected.0)),
        _ => ("", None),
    };
    let mapping_selector = selected
        .map(|selected| selector(selected, object.kind, path))
        .transpose()?;
    let tls = tls(spec, object, envoy, problems);
    report_fields_without_effect(spec, problems);
    let insecure = spec
        .request_policy
        .as_ref()
        .and_then(|policy| policy.insecure.as_ref());
    let insecure = match insecure.and_then(|insecure| insecure.action) {
        None | Some(crd::InsecureAction::Redirect) => InsecureAction::Redirect,
        Some(crd::InsecureAction::Reject) => InsecureAction::Reject,
        Some(crd::InsecureAction::Route) => InsecureAction::Route,
    };
    Ok(Host {
        labels: labels.clone(),
        server_name: server_name.into(),
        hostname: hostname.into(),
        mapping_selector,
        insecure,
        tls,
    })
}

/// TLS termination, which needs a Secret.
fn tls(
    spec: &HostSpec,
    object: &ObjectRef,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Option<HostTls> {
    let secret = spec.tls_secret.as_ref().and_then(|secret| {
        let name = secret.name.as_deref().filter(|name| !name.is_empty())?;
        let namespace = secret.namespace.as_deref().filter(|name| !name.is_empty());
        Some(Name {
            namespace: namespace.map_or_else(|| object.namespace.clone(), Into::into),
            name: name.into(),
        })
    });
    let context = spec
        .tls_context
        .as_ref()
        .and_then(|context| context.name.as_deref());
    let context = context.filter(|name| !name.is_empty());
    let own = spec
        .tls
        .as_ref()
        .filter(|tls| **tls != crd::HostTls::default());
    let Some(secret) = secret else {
        if own.is_some() || context.is_some() {
            problems.push(Problem::ignored(
                Reason::NO_CERTIFICATE,
                "spec.tlsSecret",
                "tlsSecret is missing; TLS is not served",
            ));
        }
        return None;
    };
    let named = |name: &str| Name {
        namespace: object.namespace.clone(),
        name: name.into(),
    };
    let terms = match (context, own) {
        (Some(_), Some(_)) => {
            problems.push(Problem::ignored(
                Reason::CONFLICT,
                "spec.tls",
                "tls and tlsContext must not both be set; TLS is not served",
            ));
            HostTerms::Invalid
        }
        (Some(context), None) => HostTerms::Context(named(context)),
        (None, Some(tls)) => match own_settings(tls, object, envoy, problems) {
            Ok(settings) => HostTerms::Own(settings),
            Err((field, fact)) => {
                problems.push(Problem::ignored(
                    Reason::PARTIALLY_INVALID,
                    format!("spec.tls.{field}"),
                    format!("{fact}; TLS is not served"),
                ));
                HostTerms::Invalid
            }
        },
        (None, None) => HostTerms::Implicit(named(&format!("{}-context", object.name))),
    };
    let own = match &terms {
        HostTerms::Own(settings) => Some(settings),
        HostTerms::Context(_) | HostTerms::Implicit(_) | HostTerms::Invalid => None,
    };
    let of_own = |get: fn(&TlsSettings) -> Option<&Name>| own.and_then(get);
    problems.extend(of_other_namespaces(
        object,
        [
            ("spec.tlsSecret", Some(&secret)),
            ("spec.tls.ca_secret", of_own(|own| own.trusted.as_ref())),
            ("spec.tls.crl_secret", of_own(|own| own.revoked.as_ref())),
        ],
    ));
    Some(HostTls { secret, terms })
}

/// The settings in `tls`.
fn own_settings(
    tls: &crd::HostTls,
    object: &ObjectRef,
    envoy: EnvoyVersion,
    problems: &mut Vec<Problem>,
) -> Result<TlsSettings, InvalidField> {
    let files = [
        ("cert_chain_file", &tls.cert_chain_file, "tlsSecret"),
        ("private_key_file", &tls.private_key_file, "tlsSecret"),
        ("cacert_chain_file", &tls.cacert_chain_file, "ca_secret"),
    ];
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if let Some((field, _, instead)) = files.into_iter().find(|(_, file, _)| is_set(file)) {
        let fact = format!("files are not supported; set {instead}");
        return Err((field.to_owned(), fact));
    }
    for (field, set) in [
        (
            "redirect_cleartext_from",
            tls.redirect_cleartext_from.is_some(),
        ),
        ("sni", is_set(&tls.sni)),
    ] {
        if set {
            let path = format!("spec.tls.{field}");
            let message = format!("{path} has no effect on a Host");
            problems.push(without_effect(path, message));
        }
    }
    let fields = TlsFields {
        ca_secret: tls.ca_secret.as_deref(),
        crl_secret: tls.crl_secret.as_deref(),
        cert_required: tls.cert_required,
        alpn_protocols: tls.alpn_protocols.as_deref(),
        min: tls.min_tls_version.as_deref(),
        max: tls.max_tls_version.as_deref(),
        cipher_suites: &tls.cipher_suites,
        ecdh_curves: &tls.ecdh_curves,
        secret_namespacing: true,
        envoy,
    };
    fields.settings(object)
}

/// Reports the fields without effect.
fn report_fields_without_effect(spec: &HostSpec, problems: &mut Vec<Problem>) {
    let authority = spec
        .acme_provider
        .as_ref()
        .and_then(|provider| provider.authority.as_deref());
    if authority.is_some_and(|authority| authority != "none") {
        problems.push(Problem::notice(
            Reason::NOT_SUPPORTED,
            "spec.acmeProvider",
            "ACME is not supported; use cert-manager for the Secret in tlsSecret",
        ));
    }
    let insecure = spec
        .request_policy
        .as_ref()
        .and_then(|policy| policy.insecure.as_ref());
    if insecure.is_some_and(|insecure| insecure.additional_port.is_some()) {
        problems.push(without_effect(
            "spec.requestPolicy.insecure.additionalPort",
            "additionalPort has no effect, as in Emissary 2 and later; create a Listener for the port",
        ));
    }
    if spec.preview_url.is_some() {
        problems.push(without_effect(
            "spec.previewUrl",
            "previewUrl has no effect, as in Emissary 2 and later",
        ));
    }
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(std::collections::BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty)
}

/// A checked selector.
///
/// # Errors
/// The problem of an unknown operator.
pub(super) fn selector(
    selector: &LabelSelector,
    kind: Kind,
    path: &str,
) -> Result<Selector, Problem> {
    let requirement = |(index, expression): (
        usize,
        &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
    )| {
        let operator = match expression.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                let path = format!("{path}.matchExpressions[{index}].operator");
                let fact =
                    format!("unknown operator {other:?}: use In, NotIn, Exists or DoesNotExist");
                return Err(not_served(kind, path, fact));
            }
        };
        Ok(Requirement {
            key: expression.key.clone(),
            operator,
            values: expression.values.iter().flatten().cloned().collect(),
        })
    };
    Ok(Selector {
        match_labels: selector.match_labels.clone().unwrap_or_default(),
        match_expressions: selector
            .match_expressions
            .iter()
            .flatten()
            .enumerate()
            .map(requirement)
            .collect::<Result<_, _>>()?,
    })
}
