//! Which objects there are: their kinds and their identity.

use std::{fmt, sync::Arc};

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

/// Identity of one object. Cheap to clone, ordered by kind, name, namespace: the order in which conflicts
/// between objects of a kind are decided ("first one wins").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
