//! A Host: a host name, its certificate, which Mappings it takes, and what becomes of insecure requests.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use nuncio_crds::v3alpha1::{self as crd, HostSpec};
use serde_json::Value;

use super::{
    Found, Fragment, Host, HostTls, InsecureAction, Name, error, not_supported, parse, warning,
};
use crate::{
    glob,
    object::ObjectRef,
    report::Problem,
    selector::{Labels, Operator, Requirement, Selector},
};

/// Fields of `spec.tls` that we act on; any other asks for something that has to be enforced.
const SUPPORTED_TLS: [&str; 1] = ["alpn_protocols"];

pub(super) fn reconcile(value: Value, object: &ObjectRef, labels: &Labels) -> Found {
    let not_enforced = not_enforced(&value);
    let (spec, mut problems): (HostSpec, _) = match parse::spec(value, false) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match host(&spec, object, labels, &not_enforced, &mut problems) {
        Ok(host) => (Some(Fragment::Host(host.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

/// Paths of what TLS settings the Host asks for that we do not act on.
fn not_enforced(value: &Value) -> Vec<String> {
    let fields = parse::set_fields(value);
    let tls = fields
        .get("tls")
        .and_then(|tls| tls.as_object())
        .into_iter()
        .flatten();
    let mut paths: Vec<String> = tls
        .filter(|(field, value)| !SUPPORTED_TLS.contains(&field.as_str()) && !value.is_null())
        .map(|(field, _)| format!("spec.tls.{field}"))
        .collect();
    if fields.get("tlsContext").is_some_and(|context| {
        context["name"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
    }) {
        paths.push("spec.tlsContext".to_owned());
    }
    paths
}

fn host(
    spec: &HostSpec,
    object: &ObjectRef,
    labels: &Labels,
    not_enforced: &[String],
    problems: &mut Vec<Problem>,
) -> Result<Host, Problem> {
    let hostname = spec
        .hostname
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("*")
        .to_ascii_lowercase();
    if let Some(flaw) = glob::flaw(&hostname) {
        return Err(error(
            "Invalid",
            "spec.hostname",
            format!("{hostname:?} {flaw}; nothing of this Host is served"),
        ));
    }
    let server_name = hostname
        .rsplit_once(':')
        .map_or(hostname.as_str(), |(name, _port)| name);
    let (path, selected) = match (&spec.mapping_selector, &spec.selector) {
        (Some(selected), _) if !blank(&selected.0) => ("spec.mappingSelector", Some(&selected.0)),
        (_, Some(selected)) if !blank(&selected.0) => ("spec.selector", Some(&selected.0)),
        _ => ("", None),
    };
    let mapping_selector = selected
        .map(|selected| selector(selected, path))
        .transpose()?;
    let tls = tls(spec, object, not_enforced, problems);
    without_effect(spec, problems);
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

/// Termination of TLS, which needs a Secret.
fn tls(
    spec: &HostSpec,
    object: &ObjectRef,
    not_enforced: &[String],
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
    let Some(secret) = secret else {
        if spec.tls.is_some() || !not_enforced.is_empty() {
            problems.push(warning(
                "NoCertificate",
                "spec.tlsSecret",
                "TLS is set up but tlsSecret is missing, so TLS is not served".to_owned(),
            ));
        }
        return None;
    };
    problems.extend(not_enforced.iter().map(|path| {
        warning("NotSupported", path, format!("{path} is not supported yet; since it could not be enforced, TLS is not served for this Host"))
    }));
    let alpn = spec
        .tls
        .as_ref()
        .and_then(|tls| tls.alpn_protocols.as_deref())
        .unwrap_or_default();
    Some(HostTls {
        secret,
        alpn: super::tls_context::alpn(alpn),
        refused: !not_enforced.is_empty(),
    })
}

/// Says which fields do nothing.
fn without_effect(spec: &HostSpec, problems: &mut Vec<Problem>) {
    let authority = spec
        .acme_provider
        .as_ref()
        .and_then(|provider| provider.authority.as_deref());
    if authority.is_some_and(|authority| authority != "none") {
        problems.push(super::notice("NotSupported", "spec.acmeProvider", "certificates are not asked for here; let cert-manager fill the Secret that tlsSecret names".to_owned()));
    }
    let insecure = spec
        .request_policy
        .as_ref()
        .and_then(|policy| policy.insecure.as_ref());
    if insecure.is_some_and(|insecure| insecure.additional_port.is_some()) {
        problems.push(not_supported("spec.requestPolicy.insecure.additionalPort"));
    }
    if spec.preview_url.is_some() {
        problems.push(not_supported("spec.previewUrl"));
    }
}

fn blank(selector: &LabelSelector) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(std::collections::BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty)
}

/// A selector as we evaluate it.
///
/// # Errors
/// An operator that Kubernetes does not have.
pub(super) fn selector(selector: &LabelSelector, path: &str) -> Result<Selector, Problem> {
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
                return Err(error(
                    "Invalid",
                    &path,
                    format!(
                        "{other:?} is no operator; In, NotIn, Exists and DoesNotExist are; nothing of this object is served"
                    ),
                ));
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
