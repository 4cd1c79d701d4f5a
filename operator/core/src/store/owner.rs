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
                let contexts = contexts.map(|object| self.tls_context_owner(object));
                hosts.chain(contexts).cloned().collect()
            }
            Unit::Filter(filter) => self.filter_owners(filter),
            Unit::Listener(key) => {
                let logs = self.log_services.iter().map(|(object, _)| object);
                let traces = self.tracing_services.first().map(|(object, _)| object);
                let services = logs.chain(traces).cloned();
                self.listeners
                    .owners(*key)
                    .into_iter()
                    .chain(services)
                    .collect()
            }
            Unit::Loading(key) | Unit::Selection(key) => {
                let selected = self.ir.selected(key);
                let table = selected.map_or(key, |selected| &selected.key);
                let table = self.listeners.table(table).into_iter();
                let hosts = table.flat_map(|table| table.virtual_hosts.values());
                hosts
                    .map(|virtual_host| virtual_host.host.clone())
                    .collect()
            }
            Unit::RouteTable(key) => {
                let hosts = self.listeners.table(key).into_iter();
                let hosts = hosts.flat_map(|table| table.virtual_hosts.values());
                hosts
                    .flat_map(|virtual_host| self.host_and_mappings(&virtual_host.host))
                    .collect()
            }
        }
    }

    /// The objects of a socket that are served on no socket but these: what does not work while these cannot be bound.
    #[must_use]
    pub fn served_only_on(
        &self,
        key: ListenerKey,
        unbound: &BTreeSet<ListenerKey>,
    ) -> BTreeSet<ObjectRef> {
        let is_lost = |host: &ObjectRef| {
            let mut tables = self.hosts.tables(host);
            tables.all(|table| unbound.contains(&table.listener))
        };
        let is_lost_mapping = |object: &ObjectRef| {
            let group = self.mappings.group(object);
            let group = group.and_then(|key| self.groups.get(key));
            group.is_some_and(|group| group.hosts_of(object).all(is_lost))
        };
        let tables = self.listeners.tables(key);
        let behind = tables.flat_map(|table| self.owners(&Unit::RouteTable(table.clone())));
        let all: BTreeSet<ObjectRef> = behind.chain(self.listeners.owners(key)).collect();
        all.into_iter()
            .filter(|object| match object.kind {
                Kind::Host => is_lost(object),
                Kind::Mapping => is_lost_mapping(object),
                _ => true,
            })
            .collect()
    }

    fn host_and_mappings(&self, host: &ObjectRef) -> BTreeSet<ObjectRef> {
        debug_assert_eq!(host.kind, Kind::Host, "virtual hosts are Hosts");
        let state = self.hosts.get(host).into_iter();
        let groups = state.flat_map(|state| state.routes.values());
        groups
            .filter_map(|attached| self.groups.get(&attached.key))
            .flat_map(|group| group.members().cloned())
            .chain([host.clone()])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use nuncio_ir::Transport;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        change::{Change, Source},
        reconcile::reconcile,
        settings::Settings,
    };

    fn key(port: u16) -> ListenerKey {
        ListenerKey {
            port,
            transport: Transport::Tcp,
            address: None,
        }
    }

    #[test]
    fn only_what_no_other_listener_serves_is_lost() {
        let mut store = Store::new(Settings::default());
        let mut apply = |kind: Kind, name: &str, spec: Value| {
            let value = json!({"metadata": {"name": name, "labels": {"on": name}}, "spec": spec});
            let reconciled = reconcile(kind, value, &Settings::default());
            store.apply(Change::Apply(Source::Api, Box::new(reconciled)));
        };
        let listener = |port: u16, on: Value| json!({"port": port, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}, "selector": {"matchLabels": on}}});
        apply(Kind::Listener, "all", listener(8080, json!({})));
        apply(
            Kind::Listener,
            "some",
            listener(8099, json!({"on": "both"})),
        );
        apply(
            Kind::Listener,
            "more",
            listener(8098, json!({"on": "both"})),
        );
        for host in ["both", "one"] {
            let hostname = format!("{host}.example");
            apply(
                Kind::Host,
                host,
                json!({"hostname": hostname, "requestPolicy": {"insecure": {"action": "Route"}}}),
            );
            apply(
                Kind::Mapping,
                host,
                json!({"hostname": hostname, "prefix": "/", "service": "10.0.0.1"}),
            );
        }
        store.link();
        let lost = |ports: &[u16], of: u16| {
            let unbound = ports.iter().copied().map(key).collect();
            let lost = store.served_only_on(key(of), &unbound);
            lost.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(lost(&[8099], 8099), ["Listener default/some"]);
        assert_eq!(
            lost(&[8080], 8080),
            [
                "Listener default/all",
                "Host default/one",
                "Mapping default/one"
            ]
        );
        assert_eq!(
            lost(&[8080, 8098, 8099], 8099),
            [
                "Listener default/some",
                "Host default/both",
                "Mapping default/both"
            ]
        );
    }
}
