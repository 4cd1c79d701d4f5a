//! What an Ingress of Knative adds: what its Hosts and Mappings are generated from.

use std::collections::BTreeMap;

use nuncio_ir::AddedHeader;

use super::{Backend, Host, InsecureAction};
use crate::selector::Labels;

/// Label of Mappings for hosts that only clients in the cluster may use. A Host serves them if its selector has it.
pub(crate) const VISIBILITY: (&str, &str) = ("networking.knative.dev/visibility", "cluster-local");

/// An Ingress of Knative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnativeIngress {
    /// Its labels, which what it stands for has, too.
    pub labels: Labels,
    /// Certificates: for each host that is served to clients outside the cluster, at most one.
    pub tls: Vec<KnativeTls>,
    /// `httpOption` is `Redirected`.
    pub is_redirected: bool,
    /// `rules`; `None` for one that is not served.
    pub rules: Vec<Option<KnativeRule>>,
}

impl KnativeIngress {
    /// Every split.
    pub fn splits(&self) -> impl Iterator<Item = &KnativeSplit> {
        let rules = self.rules.iter().flatten();
        rules
            .flat_map(|rule| &rule.paths)
            .flat_map(|path| &path.splits)
    }
}

/// An item of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnativeTls {
    /// `secretName`
    pub secret: String,
    /// `secretNamespace`
    pub namespace: Option<String>,
    /// `hosts`; `None` for one that is ignored.
    pub hosts: Vec<Option<String>>,
}

/// An item of `spec.rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnativeRule {
    /// `hosts`; `None` for one that is not served.
    pub hosts: Vec<Option<String>>,
    /// Whether only clients in the cluster may use it.
    pub is_local: bool,
    /// `http.paths`, without those that are not served.
    pub paths: Vec<KnativePath>,
}

/// An item of `http.paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnativePath {
    /// `path`
    pub path: String,
    /// Headers that requests must have, with these values.
    pub headers: BTreeMap<String, String>,
    /// `rewriteHost`
    pub rewrite_host: Option<String>,
    /// `timeout` in milliseconds.
    pub timeout: u64,
    /// `splits`; at least one.
    pub splits: Vec<KnativeSplit>,
}

/// An item of `splits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnativeSplit {
    /// Where it is in the object.
    pub at: String,
    /// Where requests go; `None` if that is invalid, so that they get 503 unless another split has them.
    pub backend: Option<Backend>,
    /// Namespace of the Service, if it is not that of the Ingress.
    pub namespace: Option<String>,
    /// `percent`
    pub percent: u32,
    /// `appendHeaders`, with those of the path.
    pub headers: BTreeMap<String, String>,
}

impl KnativeSplit {
    /// One whose requests get 503.
    #[must_use]
    pub(crate) const fn unusable(at: String) -> Self {
        Self {
            at,
            backend: None,
            namespace: None,
            percent: 100,
            headers: BTreeMap::new(),
        }
    }
}

/// What only a Mapping has that is generated from a Knative Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnativeTerms {
    /// Whether only Hosts serve it whose selector has the label [`VISIBILITY`].
    pub is_local: bool,
    /// Whether only Hosts serve it that do not route cleartext requests.
    pub is_redirected: bool,
    /// Headers of its requests alone. Those that a user writes are for the whole group.
    pub request_headers: BTreeMap<String, AddedHeader>,
}

impl KnativeTerms {
    /// Whether this Host may serve the Mapping.
    #[must_use]
    pub fn allow(&self, host: &Host) -> bool {
        let (name, value) = VISIBILITY;
        let selects = || {
            let selector = host.mapping_selector.as_ref();
            let label = selector.and_then(|selector| selector.match_labels.get(name));
            label.is_some_and(|found| found == value)
        };
        let is_secure = || host.tls.is_some() && host.insecure != InsecureAction::Route;
        (!self.is_local || selects()) && (!self.is_redirected || is_secure())
    }

    /// What to do if no Host serves the Mapping; `None` if these terms are not the reason.
    #[must_use]
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self { is_local: true, .. } => Some(
                "no Host for cluster-local hosts matches: its mappingSelector.matchLabels must have networking.knative.dev/visibility: cluster-local",
            ),
            Self {
                is_redirected: true,
                ..
            } => Some(
                "no Host matches that terminates TLS and redirects or rejects requests without it, which httpOption Redirected requires",
            ),
            Self { .. } => None,
        }
    }
}
