//! Units: xDS resources by their key in the gateway model. A change marks units dirty, and dirty units are rendered.

use std::{fmt, sync::Arc};

use crate::{ListenerKey, ResourceType, TableKey};

/// The key in [`crate::Ir`] that one resource is rendered from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// [`crate::Ir::clusters`]
    Cluster(Arc<str>),
    /// [`crate::Ir::endpoints`]
    Endpoints(Arc<str>),
    /// [`crate::Ir::secrets`]
    Secret(Arc<str>),
    /// [`crate::Ir::listeners`]
    Listener(ListenerKey),
    /// [`crate::Ir::route_tables`]
    RouteTable(TableKey),
}

impl Unit {
    /// Resource type.
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

    /// Resource name.
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
