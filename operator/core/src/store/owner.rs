//! The objects that a resource is made of: whose status shows that an Envoy rejected it.

use std::collections::BTreeSet;

use nuncio_ir::{ListenerKey, Unit};

use super::Store;
use crate::object::{Kind, ObjectRef};

impl Store {
    /// The objects whose content is in this resource.
    #[must_use]
    pub fn owners(&self, unit: &Unit) -> BTreeSet<ObjectRef> {
        match unit {
            Unit::Cluster(name) => self.clusters.users(name).cloned().collect(),
            Unit::Endpoints(name) => self.clusters.users_of_endpoints(name),
            Unit::Secret(name) => {
                let hosts = self.hosts.with_secret(name);
                let contexts = self.tls_contexts.with_secret(name);
                hosts.chain(contexts).cloned().collect()
            }
            Unit::Listener(key) => self.listeners.owners(*key),
            Unit::RouteTable(key) => {
                let hosts = self.listeners.table(key).into_iter();
                let hosts = hosts.flat_map(|table| &table.virtual_hosts);
                hosts
                    .flat_map(|virtual_host| self.host_and_mappings(&virtual_host.host))
                    .collect()
            }
        }
    }

    /// The objects that are served on a socket.
    #[must_use]
    pub fn served_on(&self, key: ListenerKey) -> BTreeSet<ObjectRef> {
        let tables = self.listeners.tables(key);
        let behind = tables.flat_map(|table| self.owners(&Unit::RouteTable(table.clone())));
        behind.chain(self.listeners.owners(key)).collect()
    }

    fn host_and_mappings(&self, host: &ObjectRef) -> BTreeSet<ObjectRef> {
        debug_assert_eq!(host.kind, Kind::Host, "virtual hosts are Hosts");
        let state = self.hosts.get(host).into_iter();
        let groups = state.flat_map(|state| state.routes.values());
        groups
            .filter_map(|attached| self.groups.get(&attached.key))
            .flat_map(|group| group.members.iter().cloned())
            .chain([host.clone()])
            .collect()
    }
}
