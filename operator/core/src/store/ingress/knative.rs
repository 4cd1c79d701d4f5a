//! The Hosts and Mappings of an Ingress of Knative. Names and fields of Mappings are those of Emissary. What the fields of a
//! Mapping cannot express is added to what is read from them: which Hosts may serve it, and headers of its own.

use std::{collections::BTreeMap, sync::Arc};

use nuncio_ir::AddedHeader;
use serde_json::{Value, json};

use crate::{
    change::Reconciled,
    object::{Kind, ObjectRef},
    reconcile::{
        Backend, Fragment, KnativeIngress, KnativePath, KnativeSplit, KnativeTerms, Mapping, Port,
        VISIBILITY, reconcile,
    },
    report::{Problem, Reason},
    selector::Labels,
    settings::Settings,
};

/// Finds the number of a named port: namespace and name of a Service, name of the port.
type PortOf<'a> = dyn Fn(Arc<str>, &str, &str) -> Option<u16> + 'a;

/// What it stands for, with what is wrong with it.
pub(super) fn generate(
    object: &ObjectRef,
    ingress: &KnativeIngress,
    settings: &Settings,
    port_of: &PortOf<'_>,
) -> (Vec<Reconciled>, Vec<Problem>) {
    let mut generator = Generator {
        object,
        ingress,
        settings,
        port_of,
        found: Vec::new(),
        problems: Vec::new(),
    };
    generator.hosts();
    generator.mappings();
    (generator.found, generator.problems)
}

struct Generator<'a> {
    object: &'a ObjectRef,
    ingress: &'a KnativeIngress,
    settings: &'a Settings,
    port_of: &'a PortOf<'a>,
    found: Vec<Reconciled>,
    problems: Vec<Problem>,
}

impl Generator<'_> {
    fn read(&self, kind: Kind, suffix: &str, labels: &Labels, mut spec: Value) -> Reconciled {
        let (name, namespace) = (&self.object.name, &self.object.namespace);
        spec["ambassador_id"] = json!([self.settings.ambassador_id]);
        let metadata = json!({
            "name": format!("{name}-{suffix}"),
            "namespace": &**namespace,
            "labels": labels,
        });
        let manifest = json!({"metadata": metadata, "spec": spec});
        reconcile(kind, manifest, self.settings)
    }

    fn hosts(&mut self) {
        let ingress = self.ingress;
        let action = if ingress.is_redirected {
            "Redirect"
        } else {
            "Route"
        };
        for (index, tls) in ingress.tls.iter().enumerate() {
            for (number, host) in tls.hosts.iter().enumerate() {
                let Some(host) = host else { continue };
                let mut secret = json!({"name": tls.secret});
                if let Some(namespace) = &tls.namespace {
                    secret["namespace"] = namespace.as_str().into();
                }
                let spec = json!({
                    "hostname": host,
                    "acmeProvider": {"authority": "none"},
                    "tlsSecret": secret,
                    "requestPolicy": {"insecure": {"action": action}},
                });
                let suffix = format!("{index}-{number}");
                let host = self.read(Kind::Host, &suffix, &ingress.labels, spec);
                self.found.push(host);
            }
        }
    }

    fn mappings(&mut self) {
        let ingress = self.ingress;
        let mut local_labels = ingress.labels.clone();
        local_labels.insert(VISIBILITY.0.to_owned(), VISIBILITY.1.to_owned());
        for (index, rule) in ingress.rules.iter().enumerate() {
            let Some(rule) = rule else { continue };
            let labels = if rule.is_local {
                &local_labels
            } else {
                &ingress.labels
            };
            let is_enforced = self.settings.knative_local_hosts;
            if rule.is_local && !is_enforced {
                let message = "ClusterLocal is not enforced: each Host that matches serves this rule; to change that, run nuncio operator with --knative-local-hosts";
                let at = format!("spec.rules[{index}].visibility");
                let problem = Problem::notice(Reason::WITHOUT_EFFECT, at, message);
                self.problems.push(problem);
            }
            let terms = KnativeTerms {
                is_local: rule.is_local && is_enforced,
                // certificates are for clients outside
                is_redirected: ingress.is_redirected && !rule.is_local,
                request_headers: BTreeMap::new(),
            };
            let splits = rule.paths.iter();
            let splits = splits.flat_map(|path| path.splits.iter().map(move |split| (path, split)));
            let specs: Vec<(Value, bool)> =
                splits.map(|(path, split)| self.spec(path, split)).collect();
            let mut number = 0;
            for host in &rule.hosts {
                for (spec, is_usable) in &specs {
                    let suffix = format!("{index}-{number}");
                    number += 1;
                    let Some(host) = host else { continue };
                    let mut spec = spec.clone();
                    spec["host"] = host.as_str().into();
                    let mut mapping = self.read(Kind::Mapping, &suffix, labels, spec);
                    if !is_usable {
                        // what is wrong is reported at the field of the Ingress
                        let message = "its split is invalid; requests get 503";
                        let problem = Problem::notice(Reason::UNAVAILABLE, "", message);
                        mapping.problems = vec![problem];
                    }
                    self.found.push(with_terms(mapping, &terms));
                }
            }
        }
    }

    /// A Mapping for any host, and whether its service is known. One without any is invalid, so that its requests get 503.
    fn spec(&mut self, path: &KnativePath, split: &KnativeSplit) -> (Value, bool) {
        let backend = split.backend.as_ref();
        let service = backend.and_then(|backend| self.service(split, backend));
        // the values are no templates
        let headers = split.headers.iter();
        let headers: serde_json::Map<_, _> = headers
            .map(|(name, value)| {
                let value = value.replace('%', "%%");
                (name.clone(), json!({"value": value, "append": false}))
            })
            .collect();
        let is_usable = service.is_some();
        let spec = json!({
            "prefix": path.path,
            "headers": path.headers,
            "host_rewrite": path.rewrite_host,
            "timeout_ms": path.timeout,
            "service": service.unwrap_or_default(),
            "weight": split.percent,
            "add_request_headers": headers,
        });
        (spec, is_usable)
    }

    /// The `service` of a split; `None` if its port is not known.
    fn service(&mut self, split: &KnativeSplit, backend: &Backend) -> Option<String> {
        let service = &backend.service;
        let namespace = split.namespace.as_deref();
        let namespace: Arc<str> =
            namespace.map_or_else(|| self.object.namespace.clone(), Into::into);
        let number = match &backend.port {
            Port::Number(number) => Some(*number),
            Port::Name(name) => {
                let number = (self.port_of)(namespace.clone(), service, name);
                if number.is_none() {
                    let fact = format!(
                        "Service {namespace}/{service} has no TCP port {name:?}; requests of this split get 503"
                    );
                    let at = format!("{}.servicePort", split.at);
                    let problem = Problem::unresolved(Reason::PORT_NOT_FOUND, at, fact);
                    self.problems.push(problem);
                }
                number
            }
        };
        number.map(|number| format!("{service}.{namespace}:{number}"))
    }
}

/// The Mapping with terms that its fields cannot express.
fn with_terms(found: Reconciled, terms: &KnativeTerms) -> Reconciled {
    let Some(Fragment::Mapping(mapping)) = found.fragment else {
        return found;
    };
    let mut mapping = Arc::unwrap_or_clone(mapping);
    let mut terms = terms.clone();
    terms.request_headers = take_headers(&mut mapping);
    mapping.knative = terms.into();
    Reconciled {
        fragment: Some(Fragment::Mapping(mapping.into())),
        // they do not depend on the version of Envoy
        older: Vec::new(),
        ..found
    }
}

/// Takes the added headers from what applies to the whole group.
fn take_headers(mapping: &mut Mapping) -> BTreeMap<String, AddedHeader> {
    let mut shared = (*mapping.shared).clone();
    let headers = shared.add_request_headers.take().unwrap_or_default();
    mapping.shared = shared.into();
    let headers = headers.into_iter();
    headers
        .filter_map(|(name, header)| Some((name, header?)))
        .collect()
}
