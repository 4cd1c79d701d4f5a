//! Which objects a resource is made of: whom to tell when an Envoy refuses it.

use std::collections::BTreeSet;

use nuncio_ir::{ServerTls, Unit};

use super::Store;
use crate::object::{Kind, ObjectRef};

impl Store {
    /// The objects whose content is in this resource.
    #[must_use]
    pub fn owners(&self, unit: &Unit) -> BTreeSet<ObjectRef> {
        match unit {
            Unit::Cluster(name) => self.users_of_cluster(name),
            Unit::Endpoints(name) => self
                .endpoint_users
                .iter()
                .filter(|(key, _)| key.resource() == *name)
                .flat_map(|(_, clusters)| clusters)
                .flat_map(|cluster| self.users_of_cluster(cluster))
                .collect(),
            Unit::Secret(name) => self.users_of_secret(name),
            Unit::Listener(key) => self.sockets.get(key).map_or_else(BTreeSet::new, |socket| {
                let hosts = socket.link.hosts.iter().cloned();
                let tcp_mappings = socket.link.tcp_mappings.iter().cloned();
                socket
                    .claims
                    .first()
                    .cloned()
                    .into_iter()
                    .chain(hosts)
                    .chain(tcp_mappings)
                    .collect()
            }),
            Unit::RouteTable(key) => self
                .sockets
                .get(&key.listener)
                .and_then(|socket| socket.link.tables.get(key))
                .into_iter()
                .flat_map(|table| &table.virtual_hosts)
                .flat_map(|virtual_host| self.host_and_mappings(&virtual_host.host))
                .collect(),
        }
    }

    fn users_of_cluster(&self, name: &str) -> BTreeSet<ObjectRef> {
        self.clusters
            .get(name)
            .map(|state| state.users.clone())
            .unwrap_or_default()
    }

    fn users_of_secret(&self, name: &str) -> BTreeSet<ObjectRef> {
        let is_used =
            |tls: &ServerTls| *tls.secret == *name || tls.trusted.as_deref() == Some(name);
        let hosts = self
            .hosts
            .iter()
            .filter(|(_, state)| matches!(&state.tls, Some(Ok(tls)) if is_used(tls)))
            .map(|(object, _)| object);
        let contexts = self
            .contexts
            .iter()
            .filter(|(_, state)| state.has_secret(name));
        hosts
            .chain(contexts.map(|(object, _)| object))
            .cloned()
            .collect()
    }

    fn host_and_mappings(&self, host: &ObjectRef) -> BTreeSet<ObjectRef> {
        debug_assert_eq!(host.kind, Kind::Host, "virtual hosts are Hosts");
        let groups = self
            .hosts
            .get(host)
            .into_iter()
            .flat_map(|state| state.routes.values());
        groups
            .filter_map(|attached| self.groups.get(&attached.key))
            .flat_map(|group| group.members.iter().cloned())
            .chain([host.clone()])
            .collect()
    }
}
