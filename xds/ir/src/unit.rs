//! A unit is one xDS resource as the gateway model names it: what a change makes dirty and what is rendered.

use std::{fmt, sync::Arc};

use crate::{ListenerKey, ResourceType, TableKey};

/// One resource, by the key of the part of the [`crate::Ir`] that it is rendered from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// An upstream.
    Cluster(Arc<str>),
    /// The addresses of an upstream.
    Endpoints(Arc<str>),
    /// A certificate.
    Secret(Arc<str>),
    /// A listening socket.
    Listener(ListenerKey),
    /// The routes of a chain.
    RouteTable(TableKey),
}

impl Unit {
    /// Type of the resource.
    #[must_use]
    pub const fn kind(&self) -> ResourceType {
        match self {
            Self::Cluster(_) => ResourceType::Cluster,
            Self::Endpoints(_) => ResourceType::Endpoints,
            Self::Secret(_) => ResourceType::Secret,
            Self::Listener(_) => ResourceType::Listener,
            Self::RouteTable(_) => ResourceType::RouteTable,
        }
    }

    /// Name of the resource.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Cluster(name) | Self::Endpoints(name) | Self::Secret(name) => name.clone(),
            Self::Listener(key) => key.to_string().into(),
            Self::RouteTable(key) => key.to_string().into(),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}
