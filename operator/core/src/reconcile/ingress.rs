//! An Ingress of `networking.k8s.io/v1`, and an IngressClass. The Store generates Hosts and Mappings from what is read here,
//! because class and named ports are those of other objects.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, IngressBackend, IngressClassSpec, IngressSpec,
};
use serde_json::Value;

use super::{
    Backend, Found, Fragment, Ingress, IngressClass, IngressPath, IngressRule, IngressTls,
    PathKind, Port, ignored, parse,
};
use crate::{object::Kind, report::Problem};

/// Annotation with the class, from before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";
/// Its value for our Ingresses.
const OWN: &str = "ambassador";
/// Annotation that chooses what paths mean.
const PATHS: &str = "getambassador.io/ingress-paths";
/// `spec.controller` of our IngressClasses.
const CONTROLLER: &str = "getambassador.io/ingress-controller";

/// An IngressClass adds something if it is ours.
pub(super) fn class(value: Value) -> Found {
    let spec: IngressClassSpec = match parse::spec(value, Kind::IngressClass, false) {
        Ok((spec, _unknown)) => spec,
        Err(problem) => return (None, vec![problem]),
    };
    let controller = spec.controller.unwrap_or_default();
    let is_own = controller.eq_ignore_ascii_case(CONTROLLER);
    (is_own.then_some(Fragment::IngressClass), Vec::new())
}

pub(super) fn reconcile(value: Value, metadata: &parse::Metadata) -> Found {
    let annotations = &value["metadata"]["annotations"];
    let is_own = annotations[CLASS]
        .as_str()
        .is_some_and(|class| class.eq_ignore_ascii_case(OWN));
    let mut problems = Vec::new();
    let has_kubernetes_paths = match annotations[PATHS].as_str() {
        Some("kubernetes") => true,
        None | Some("emissary") => false,
        Some(other) => {
            let fact = format!("{other:?} must be kubernetes or emissary");
            problems.push(ignored(format!("metadata.annotations[{PATHS}]"), fact));
            false
        }
    };
    let named = value["spec"]["ingressClassName"].as_str();
    let class = match named.filter(|name| !name.is_empty()) {
        _ if is_own => IngressClass::Own,
        Some(name) => IngressClass::Named(name.into()),
        None => return (None, Vec::new()),
    };
    let spec: IngressSpec = match parse::spec(value, Kind::Ingress, false) {
        Ok((spec, _unknown)) => spec, // newer versions of Kubernetes may have more fields
        Err(problem) => return (None, vec![problem]),
    };
    let tls = spec.tls.into_iter().flatten().map(|tls| IngressTls {
        secret: tls.secret_name.filter(|name| !name.is_empty()),
        hosts: tls.hosts.unwrap_or_default(),
    });
    let mut rules = Vec::new();
    for (index, rule) in spec.rules.into_iter().flatten().enumerate() {
        let paths = rule.http.map(|http| http.paths).unwrap_or_default();
        let at = format!("spec.rules[{index}].http.paths");
        let paths = paths.into_iter().enumerate();
        let paths = paths
            .map(|(index, found)| path(&format!("{at}[{index}]"), found, &mut problems))
            .collect();
        rules.push(IngressRule {
            host: rule.host.filter(|host| !host.is_empty()),
            paths,
        });
    }
    let default_backend = spec
        .default_backend
        .and_then(|found| backend("spec.defaultBackend", found, &mut problems));
    let ingress = Ingress {
        class,
        labels: metadata.labels.clone(),
        tls: tls.collect(),
        rules,
        default_backend,
        has_kubernetes_paths,
    };
    (Some(Fragment::Ingress(ingress.into())), problems)
}

/// A path; `None` for one that cannot be served.
fn path(at: &str, found: HTTPIngressPath, problems: &mut Vec<Problem>) -> Option<IngressPath> {
    let path = found.path.filter(|path| !path.is_empty());
    let kind = match found.path_type.as_str() {
        "Exact" => PathKind::Exact,
        "Prefix" => PathKind::Prefix,
        _ => PathKind::Text,
    };
    Some(IngressPath {
        path: path.unwrap_or_else(|| "/".to_owned()),
        kind,
        backend: backend(&format!("{at}.backend"), found.backend, problems)?,
    })
}

fn backend(at: &str, found: IngressBackend, problems: &mut Vec<Problem>) -> Option<Backend> {
    let Some(service) = found.service.filter(|service| !service.name.is_empty()) else {
        problems.push(ignored(at, "only a backend with a service is supported"));
        return None;
    };
    let port = service.port.unwrap_or_default();
    let port = match (port.number, port.name.filter(|name| !name.is_empty())) {
        (_, Some(name)) => Port::Name(name),
        (Some(number), None) => match u16::try_from(number) {
            Ok(number @ 1..) => Port::Number(number),
            _ => {
                problems.push(ignored(
                    format!("{at}.service.port.number"),
                    "must be from 1 to 65535",
                ));
                return None;
            }
        },
        (None, None) => {
            problems.push(ignored(format!("{at}.service.port"), "set number or name"));
            return None;
        }
    };
    Some(Backend {
        service: service.name,
        port,
    })
}
