//! Which objects there are: their kinds and their identity.

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::reconcile::Name;

/// A kind of object that configures the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `getambassador.io` KubernetesServiceResolver
    KubernetesServiceResolver,
    /// `getambassador.io` KubernetesEndpointResolver
    KubernetesEndpointResolver,
    /// `getambassador.io` TLSContext
    TlsContext,
    /// `getambassador.io` Listener
    Listener,
    /// `getambassador.io` Host
    Host,
    /// `getambassador.io` Mapping
    Mapping,
    /// `getambassador.io` TCPMapping
    TcpMapping,
    /// core Service
    Service,
    /// `discovery.k8s.io` EndpointSlice
    EndpointSlice,
    /// core Secret
    Secret,
    /// core Namespace, for its labels
    Namespace,
    /// A place in a file that holds no object we can name: text that is no YAML, or a kind we do not know.
    /// Exists so that such input has a report of its own; the name is `FILE#DOCUMENT`.
    Document,
}

impl Kind {
    /// Every kind that is watched in a cluster.
    pub const WATCHED: [Self; 11] = [
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::KubernetesServiceResolver,
        Self::KubernetesEndpointResolver,
        Self::TlsContext,
        Self::Listener,
        Self::Host,
        Self::Mapping,
        Self::TcpMapping,
    ];

    /// As `kind:` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KubernetesServiceResolver => "KubernetesServiceResolver",
            Self::KubernetesEndpointResolver => "KubernetesEndpointResolver",
            Self::TlsContext => "TLSContext",
            Self::Listener => "Listener",
            Self::Host => "Host",
            Self::Mapping => "Mapping",
            Self::TcpMapping => "TCPMapping",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
            Self::Document => "Document",
        }
    }

    /// API group, empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::KubernetesServiceResolver
            | Self::KubernetesEndpointResolver
            | Self::TlsContext
            | Self::Listener
            | Self::Host
            | Self::Mapping
            | Self::TcpMapping => nuncio_crds::GROUP,
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Service | Self::Secret | Self::Namespace | Self::Document => "",
        }
    }

    /// The API version that we read and write.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::KubernetesServiceResolver
            | Self::KubernetesEndpointResolver
            | Self::TlsContext
            | Self::Listener
            | Self::Host
            | Self::Mapping
            | Self::TcpMapping => "v3alpha1",
            Self::Service
            | Self::EndpointSlice
            | Self::Secret
            | Self::Namespace
            | Self::Document => "v1",
        }
    }

    /// Resource name in API paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::KubernetesServiceResolver => "kubernetesserviceresolvers",
            Self::KubernetesEndpointResolver => "kubernetesendpointresolvers",
            Self::TlsContext => "tlscontexts",
            Self::Listener => "listeners",
            Self::Host => "hosts",
            Self::Mapping => "mappings",
            Self::TcpMapping => "tcpmappings",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Secret => "secrets",
            Self::Namespace => "namespaces",
            Self::Document => "",
        }
    }

    /// Whether we own its status.
    #[must_use]
    pub const fn has_status(self) -> bool {
        matches!(
            self,
            Self::TlsContext | Self::Listener | Self::Host | Self::Mapping | Self::TcpMapping
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Identity of one object. Cheap to clone.
///
/// Ordered by kind, then by the bytes of `NAME.NAMESPACE.1`, which is how Emissary orders its resources: the order in which
/// conflicts between objects of a kind are decided, so that the same object wins after a migration. `-` comes before `.`,
/// so that `api-canary` is before `api`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.namespace`
    pub namespace: Arc<str>,
}

impl ObjectRef {
    /// The object of this kind with this name.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            name: name.into(),
            namespace: namespace.into(),
        }
    }
}

impl Ord for ObjectRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.kind
            .cmp(&other.kind)
            .then_with(|| cmp_keys(&self.name, &self.namespace, &other.name, &other.namespace))
    }
}

impl PartialOrd for ObjectRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares `NAME.NAMESPACE.1` of two objects. No name comes before every name.
fn cmp_keys(name: &str, namespace: &str, other_name: &str, other_namespace: &str) -> Ordering {
    fn key<'a>(name: &'a str, namespace: &'a str) -> impl Iterator<Item = u8> + 'a {
        let suffix = ".1".bytes();
        name.bytes()
            .chain(".".bytes())
            .chain(namespace.bytes())
            .chain(suffix)
    }
    let common = name.len().min(other_name.len());
    let (start, other_start) = (&name.as_bytes()[..common], &other_name.as_bytes()[..common]);
    let by_key = || {
        other_name
            .is_empty()
            .cmp(&name.is_empty())
            .then_with(|| key(name, namespace).cmp(key(other_name, other_namespace)))
            // `a.b` in `c` and `a` in `b.c` have the same key, though no cluster has such a namespace
            .then_with(|| name.cmp(other_name))
    };
    // different names are told apart without the rest, unless one begins with the other
    start.cmp(other_start).then_with(by_key)
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Document {
            return f.write_str(&self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Name {
    /// The name of this object.
    #[must_use]
    pub fn of(object: &ObjectRef) -> Self {
        Self {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_in_the_order_of_their_keys() {
        let expected = [
            ("", ""),
            ("a", "b"),
            ("a", "b-c"),
            ("api-canary", "default"),
            ("api-canary", "other"),
            ("api", "default"),
            ("api", "default-2"),
            ("api", "other"),
            ("api.x", "default"),
            ("api2", "default"),
            ("b", "a"),
        ];
        let object =
            |(name, namespace): (&str, &str)| ObjectRef::new(Kind::Mapping, namespace, name);
        for one in expected {
            for other in expected {
                let key = |(name, namespace): (&str, &str)| match name {
                    "" => String::new(),
                    _ => format!("{name}.{namespace}.1"),
                };
                assert_eq!(
                    object(one).cmp(&object(other)),
                    key(one).cmp(&key(other)),
                    "{one:?} {other:?}"
                );
            }
        }
    }
}
