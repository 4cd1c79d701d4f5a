//! The Hosts and Mappings of an Ingress, as manifests. Names and fields are those of Emissary, so that what users see of them,
//! and which of two wins, stays the same.

use serde_json::{Value, json};

use crate::{
    object::{Kind, ObjectRef},
    reconcile::{Backend, Ingress, IngressPath, PathKind, Port},
    report::{Problem, Reason},
    selector::Labels,
};

/// Label that ties the Mappings of an Ingress with TLS to its Hosts.
const LABEL: &str = "a10r-k8s-ingress";

type Manifests = Vec<(Kind, Value)>;

/// The manifests, with what is wrong with them. `port` finds the number of a named port of a Service in the namespace.
pub(super) fn generate(
    object: &ObjectRef,
    ingress: &Ingress,
    id: &str,
    port: impl Fn(&str, &str) -> Option<u16>,
) -> (Manifests, Vec<Problem>) {
    let mut generator = Generator {
        object,
        ingress,
        id,
        port,
        manifests: Manifests::new(),
        problems: Vec::new(),
    };
    generator.hosts();
    generator.mappings();
    (generator.manifests, generator.problems)
}

struct Generator<'a, P> {
    object: &'a ObjectRef,
    ingress: &'a Ingress,
    id: &'a str,
    port: P,
    manifests: Manifests,
    problems: Vec<Problem>,
}

impl<P: Fn(&str, &str) -> Option<u16>> Generator<'_, P> {
    fn label(&self) -> String {
        let ObjectRef {
            name, namespace, ..
        } = self.object;
        format!("a10r-ingress-{name}-{namespace}")
    }

    fn add(&mut self, kind: Kind, suffix: &str, labels: &Labels, spec: &Value) {
        let (name, namespace) = (&self.object.name, &self.object.namespace);
        let name = format!("{name}-{suffix}");
        let metadata = json!({"name": name, "namespace": &**namespace, "labels": labels});
        let manifest = json!({"metadata": metadata, "spec": spec});
        self.manifests.push((kind, manifest));
    }

    fn hosts(&mut self) {
        let ingress = self.ingress;
        for (index, tls) in ingress.tls.iter().enumerate() {
            let Some(secret) = &tls.secret else { continue };
            let every = ["*".to_owned()];
            let hosts = match tls.hosts.as_slice() {
                [] => &every,
                hosts => hosts,
            };
            for (number, host) in hosts.iter().enumerate() {
                let spec = json!({
                    "ambassador_id": [self.id],
                    "hostname": host,
                    "acmeProvider": {"authority": "none"},
                    "tlsSecret": {"name": secret},
                    "mappingSelector": {"matchLabels": {LABEL: self.label()}},
                    "requestPolicy": {"insecure": {"action": "Route"}},
                });
                self.add(
                    Kind::Host,
                    &format!("{index}-{number}"),
                    &ingress.labels,
                    &spec,
                );
            }
        }
    }

    fn mappings(&mut self) {
        let ingress = self.ingress;
        let has_tls = !ingress.tls.is_empty();
        let mut labels = ingress.labels.clone();
        if has_tls {
            labels.insert(LABEL.to_owned(), self.label());
        }
        if let Some(backend) = &ingress.default_backend {
            let service = self.service("spec.defaultBackend", backend);
            let spec = json!({
                "ambassador_id": [self.id],
                "hostname": "*",
                "prefix": "/",
                "service": service,
            });
            self.add(Kind::Mapping, "default-backend", &labels, &spec);
        }
        for (index, rule) in ingress.rules.iter().enumerate() {
            let host = match rule.host.as_deref() {
                None if has_tls => json!({}),
                None => json!({"hostname": "*"}),
                Some(host) => match host.strip_prefix("*.") {
                    // one label, as Kubernetes defines it
                    Some(rest) => {
                        let rest = rest.replace('.', "\\.");
                        let regex = format!("^[a-z0-9]([-a-z0-9]*[a-z0-9])?\\.{rest}$");
                        json!({"host": regex, "host_regex": true})
                    }
                    None => json!({"hostname": host}),
                },
            };
            for (number, path) in rule.paths.iter().enumerate() {
                let Some(path) = path else { continue };
                let at = format!("spec.rules[{index}].http.paths[{number}].backend");
                let service = self.service(&at, &path.backend);
                for (suffix, matched) in matches(path, ingress.has_kubernetes_paths) {
                    let mut spec = host.clone();
                    spec["ambassador_id"] = json!([self.id]);
                    spec["service"] = service.as_str().into();
                    for (field, value) in matched {
                        spec[field] = value;
                    }
                    let name = format!("{index}-{number}{suffix}");
                    self.add(Kind::Mapping, &name, &labels, &spec);
                }
            }
        }
    }

    /// The `service` of a backend. A port that is not known makes the Mapping invalid, so that its requests get 503 and no
    /// other route has them.
    fn service(&mut self, at: &str, backend: &Backend) -> String {
        let (service, namespace) = (&backend.service, &self.object.namespace);
        match &backend.port {
            Port::Number(number) => format!("{service}.{namespace}:{number}"),
            Port::Name(name) => match (self.port)(service, name) {
                Some(number) => format!("{service}.{namespace}:{number}"),
                None => {
                    let fact = format!(
                        "Service {namespace}/{service} has no TCP port {name:?}; its requests get 503"
                    );
                    let path = format!("{at}.service.port.name");
                    let problem = Problem::unresolved(Reason::PORT_NOT_FOUND, path, fact);
                    self.problems.push(problem);
                    format!("{service}.{namespace}:{name}")
                }
            },
        }
    }
}

/// A suffix of the name of a Mapping, and the fields that say which paths it matches.
type Match = (&'static str, Vec<(&'static str, Value)>);

/// The Mappings of a path.
fn matches(path: &IngressPath, has_kubernetes_paths: bool) -> Vec<Match> {
    let exact = |path: &str| vec![("prefix", path.into()), ("prefix_exact", true.into())];
    let begins = |path: &str| vec![("prefix", path.into())];
    let mut found: Vec<Match> = match path.kind {
        PathKind::Exact => {
            let mut fields = exact(&path.path);
            fields.push(("precedence", 1.into()));
            vec![("", fields)]
        }
        PathKind::Prefix if has_kubernetes_paths => match path.path.trim_end_matches('/') {
            "" => vec![("", begins("/"))],
            base => vec![("", begins(&format!("{base}/"))), ("-exact", exact(base))],
        },
        PathKind::Prefix | PathKind::Text => vec![("", begins(&path.path))],
    };
    if has_kubernetes_paths {
        for (_, fields) in &mut found {
            fields.push(("rewrite", "".into()));
        }
    }
    found
}
