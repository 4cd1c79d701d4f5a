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

    /// The unit of the resource with this name; `None` if it is not a name that [`Unit::name`] returns.
    #[must_use]
    pub fn parse(kind: ResourceType, name: &str) -> Option<Self> {
        Some(match kind {
            ResourceType::Cluster => Self::Cluster(name.into()),
            ResourceType::Endpoints => Self::Endpoints(name.into()),
            ResourceType::Secret => Self::Secret(name.into()),
            ResourceType::Listener => Self::Listener(ListenerKey::parse(name)?),
            ResourceType::RouteTable => Self::RouteTable(TableKey::parse(name)?),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;

    #[test]
    fn names_are_parsed_back() {
        for address in [None, Some("10.0.0.1"), Some("2001:db8::1")] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let listener = ListenerKey {
                    port: 8443,
                    transport,
                    address: address.map(|address| address.parse().unwrap()),
                };
                let table = |server_name: Option<&str>| {
                    let server_name = server_name.map(Arc::from);
                    Unit::RouteTable(TableKey {
                        listener,
                        server_name,
                    })
                };
                let units = [
                    Unit::Listener(listener),
                    table(None),
                    table(Some("*")),
                    table(Some("a/b.example")),
                    Unit::Cluster("a/b".into()),
                    Unit::Endpoints("e".into()),
                    Unit::Secret("s".into()),
                ];
                for unit in units {
                    let parsed = Unit::parse(unit.kind(), &unit.name());
                    assert_eq!(parsed.as_ref(), Some(&unit));
                }
            }
        }
        for name in ["", "tcp", "tcp-x", "sctp-80", "tcp-x-80", "tcp-99999"] {
            assert_eq!(Unit::parse(ResourceType::Listener, name), None, "{name}");
        }
        for name in ["tcp-80", "tcp-80/", "tcp-80/other", "x/cleartext"] {
            assert_eq!(Unit::parse(ResourceType::RouteTable, name), None, "{name}");
        }
    }
}
