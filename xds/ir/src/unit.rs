//! Units: xDS resources by their key in the gateway model. A change marks units dirty, and dirty units are rendered.

use std::{fmt, sync::Arc};

use crate::{HttpFilter, ListenerKey, ResourceType, TableKey};

/// What the names of [`Unit::Loading`] begin with.
const LOADING: &str = "loading/";

/// The key in [`crate::Ir`] that one resource is rendered from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// [`crate::Ir::clusters`]
    Cluster(Arc<str>),
    /// [`crate::Ir::endpoints`]
    Endpoints(Arc<str>),
    /// [`crate::Ir::secrets`]
    Secret(Arc<str>),
    /// [`crate::Ir::filters`]
    Filter(HttpFilter),
    /// [`crate::Ir::listeners`]
    Listener(ListenerKey),
    /// [`crate::Ir::route_tables`]: what makes Envoy load a table that requests select
    Loading(TableKey),
    /// [`crate::Ir::route_tables`]: which requests select a table
    Selection(TableKey),
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
            Self::Filter(_) => ResourceType::Filter,
            Self::Listener(_) => ResourceType::Listener,
            Self::Loading(_) | Self::Selection(_) => ResourceType::Scope,
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
            ResourceType::Filter => Self::Filter(HttpFilter::parse(name)?),
            ResourceType::Listener => Self::Listener(ListenerKey::parse(name)?),
            ResourceType::Scope => match name.strip_prefix(LOADING) {
                Some(table) => Self::Loading(TableKey::parse(table)?),
                None => Self::Selection(TableKey::parse(name)?),
            },
            ResourceType::RouteTable => Self::RouteTable(TableKey::parse(name)?),
        })
    }

    /// Resource name.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Cluster(name) | Self::Endpoints(name) | Self::Secret(name) => name.clone(),
            Self::Filter(filter) => filter.name(),
            Self::Listener(key) => key.to_string().into(),
            Self::Loading(key) => format!("{LOADING}{key}").into(),
            Self::Selection(key) | Self::RouteTable(key) => key.to_string().into(),
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
    use crate::{TableScope, Transport};

    #[test]
    fn names_are_parsed_back() {
        for address in [None, Some("10.0.0.1"), Some("2001:db8::1")] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let listener = ListenerKey {
                    port: 8443,
                    transport,
                    address: address.map(|address| address.parse().unwrap()),
                };
                let tls = |name: &str| TableScope::Tls(name.into());
                let host = TableScope::Host("a.example".into());
                let scopes = [
                    TableScope::Cleartext,
                    TableScope::OtherHosts,
                    TableScope::Redirects(7),
                    tls("*"),
                    tls("a/b.example"),
                    host,
                ];
                let tables = scopes.map(|scope| TableKey { listener, scope });
                let scoped = tables.clone().into_iter().flat_map(|table| {
                    [
                        Unit::RouteTable(table.clone()),
                        Unit::Loading(table.clone()),
                        Unit::Selection(table),
                    ]
                });
                let units = [
                    Unit::Listener(listener),
                    Unit::Cluster("a/b".into()),
                    Unit::Endpoints("e".into()),
                    Unit::Secret("s".into()),
                    Unit::Filter(HttpFilter::Lua),
                ];
                for unit in scoped.chain(units) {
                    let parsed = Unit::parse(unit.kind(), &unit.name());
                    assert_eq!(parsed.as_ref(), Some(&unit));
                }
            }
        }
        for name in ["", "tcp", "tcp-x", "sctp-80", "tcp-x-80", "tcp-99999"] {
            assert_eq!(Unit::parse(ResourceType::Listener, name), None, "{name}");
        }
        for name in [
            "tcp-80",
            "tcp-80/",
            "tcp-80/other",
            "x/cleartext",
            "tcp-80/cleartext/redirects/256",
        ] {
            assert_eq!(Unit::parse(ResourceType::RouteTable, name), None, "{name}");
        }
    }
}
