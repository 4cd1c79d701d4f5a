//! What an Ingress adds: what its Hosts and Mappings are generated from.

use std::sync::Arc;

use crate::selector::Labels;

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Who serves it.
    pub class: IngressClass,
    /// Its labels, which what it stands for has, too.
    pub labels: Labels,
    /// Certificates by host.
    pub tls: Vec<IngressTls>,
    /// Where requests go, by host.
    pub rules: Vec<IngressRule>,
    /// Where all others go.
    pub default_backend: Option<Backend>,
    /// Whether paths mean what Kubernetes says, and not what Emissary does.
    pub has_kubernetes_paths: bool,
}

impl Ingress {
    /// Every backend.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let paths = self.rules.iter().flat_map(|rule| &rule.paths).flatten();
        paths.map(|path| &path.backend).chain(&self.default_backend)
    }
}

/// Who serves an Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressClass {
    /// We do: its annotation says so.
    Own,
    /// The controller of the IngressClass of this name.
    Named(Arc<str>),
}

/// An item of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressTls {
    /// `secretName`
    pub secret: Option<String>,
    /// `hosts`
    pub hosts: Vec<String>,
}

/// An item of `spec.rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRule {
    /// `host`; `None`: all.
    pub host: Option<String>,
    /// `http.paths`; `None` for one that is not served.
    pub paths: Vec<Option<IngressPath>>,
}

/// An item of `http.paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPath {
    /// `path`
    pub path: String,
    /// `pathType`
    pub kind: PathKind,
    /// `backend`
    pub backend: Backend,
}

/// What a path matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// That path.
    Exact,
    /// Paths below it.
    Prefix,
    /// Paths that begin with it.
    Text,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Name of a Service in the namespace of the Ingress.
    pub service: String,
    /// Its port.
    pub port: Port,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}
