//! Level of sockets: which Listener owns each, its chains, and the tables they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{ListenerKey, Transport, Unit};

use self::chain::{Candidate, Demand, Link};
use super::Store;
use crate::{
    object::ObjectRef,
    reconcile::{Listener, Name},
};

pub(super) mod chain;

impl Store {
    pub(super) fn set_listener(&mut self, object: &ObjectRef, listener: Option<Arc<Listener>>) {
        if let Some(old) = self.listeners.remove(object) {
            if let Some(socket) = self.sockets.get_mut(&old.key) {
                socket.claims.remove(object);
            }
            self.dirty.sockets.extend(with_partner(old.key));
        }
        if let Some(listener) = listener {
            let key = listener.key;
            self.sockets
                .entry(key)
                .or_default()
                .claims
                .insert(object.clone());
            self.dirty.sockets.extend(with_partner(key));
            self.listeners.insert(object.clone(), listener);
        }
        self.dirty.reports.insert(object.clone());
    }

    /// The Listener for HTTP/3 on the same port, and the port at which clients reach it: that of a Service in front, or
    /// else 443 for 8443, as Emissary's chart has it.
    fn http3_beside(&self, key: ListenerKey) -> Option<(&ObjectRef, &Listener, u16)> {
        let udp = ListenerKey {
            transport: Transport::Udp,
            ..key
        };
        let socket = self
            .sockets
            .get(&udp)
            .filter(|_| key.transport == Transport::Tcp)?;
        let owner = socket.claims.first()?;
        let listener = self.listeners.get(owner).filter(|listener| listener.tls)?;
        let own = Name {
            namespace: self.settings.ambassador_namespace.as_str().into(),
            name: "".into(),
        };
        let mut services = self
            .services
            .range(own.clone()..)
            .take_while(|(name, _)| name.namespace == own.namespace);
        let port = services.find_map(|(_, service)| service.udp.get(&key.port).copied());
        let usual = if key.port == 8443 { 443 } else { key.port };
        Some((owner, listener, port.unwrap_or(usual)))
    }

    pub(super) fn link_sockets(&mut self) {
        for key in mem::take(&mut self.dirty.sockets) {
            let Some(socket) = self.sockets.get(&key) else {
                continue;
            };
            let claims: Vec<(&ObjectRef, &Listener)> = socket
                .claims
                .iter()
                .filter_map(|object| Some((object, self.listeners.get(object)?.as_ref())))
                .collect();
            let hosts: Vec<Candidate<'_>> = self
                .hosts
                .iter()
                .map(|(object, state)| Candidate {
                    object,
                    host: &state.host,
                    tls: state.tls.clone(),
                })
                .collect();
            let demand = Demand {
                claims,
                tcp: self.tcp_groups(socket),
                hosts,
                address: self.settings.bind_address,
                http3: self.http3_beside(key),
                loose: self.settings.loose_label_selectors,
                namespace_labels: &self.namespace_labels,
                replaces_errors: !self.replacing_errors.is_empty(),
            };
            let link = chain::link(key, &demand);
            let tcp_mappings: Vec<ObjectRef> = socket.tcp.values().flatten().cloned().collect();
            self.dirty.reports.extend(tcp_mappings);
            self.dirty.reports.extend(socket.claims.iter().cloned());
            self.replace_link(key, link);
        }
    }

    /// Takes over what was linked, and marks what differs from before.
    fn replace_link(&mut self, key: ListenerKey, link: Link) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        let old = mem::replace(&mut socket.link, link);
        if socket.claims.is_empty() && socket.tcp.is_empty() {
            self.sockets.remove(&key);
        }
        let none = Link::default();
        let new = self.sockets.get(&key).map_or(&none, |socket| &socket.link);
        if old.listener != new.listener {
            match &new.listener {
                Some(listener) => {
                    self.ir.listeners.insert(key, Arc::new(listener.clone()));
                }
                None => {
                    self.ir.listeners.remove(&key);
                }
            }
            self.dirty.units.insert(Unit::Listener(key));
        }
        let tables: BTreeSet<_> = old.tables.keys().chain(new.tables.keys()).collect();
        let changed: Vec<_> = tables
            .into_iter()
            .filter(|table| old.tables.get(table) != new.tables.get(table))
            .cloned()
            .collect();
        let objects: BTreeSet<_> = old.problems.keys().chain(new.problems.keys()).collect();
        self.dirty.reports.extend(
            objects
                .into_iter()
                .filter(|object| old.problems.get(object) != new.problems.get(object))
                .cloned(),
        );
        let hosts = |link: &Link, table| -> Vec<ObjectRef> {
            let table: Option<&chain::Table> = link.tables.get(table);
            let virtual_hosts = table.into_iter().flat_map(|table| &table.virtual_hosts);
            virtual_hosts
                .map(|virtual_host| virtual_host.host.clone())
                .collect()
        };
        // Hosts concerned, and whether they were served before
        let mut moved: BTreeMap<ObjectRef, bool> = BTreeMap::new();
        for table in &changed {
            for host in hosts(&old, table) {
                moved.entry(host.clone()).or_insert(true);
                if let Some(tables) = self.tables_of_host.get_mut(&host) {
                    tables.remove(table);
                    if tables.is_empty() {
                        self.tables_of_host.remove(&host);
                    }
                }
            }
        }
        for table in &changed {
            for host in hosts(new, table) {
                let tables = self.tables_of_host.entry(host.clone()).or_default();
                moved.entry(host).or_insert(!tables.is_empty());
                tables.insert(table.clone());
            }
        }
        self.dirty.tables.extend(changed);
        self.report_hosts_and_routes(moved);
    }

    /// Whether a Host is served decides what there is to say about it and about its Mappings.
    fn report_hosts_and_routes(&mut self, moved: BTreeMap<ObjectRef, bool>) {
        for (host, was_served) in moved {
            let Some(state) = self.hosts.get(&host) else {
                continue;
            };
            if was_served != self.tables_of_host.contains_key(&host) {
                for attached in state.routes.values() {
                    if let Some(group) = self.groups.get(&attached.key) {
                        self.dirty.reports.extend(group.members.iter().cloned());
                    }
                }
            }
            self.dirty.reports.insert(host);
        }
    }
}

/// A socket, and the one of the other transport on its port: HTTP/3 is told of where HTTPS is served.
fn with_partner(key: ListenerKey) -> [ListenerKey; 2] {
    let transport = match key.transport {
        Transport::Tcp => Transport::Udp,
        Transport::Udp => Transport::Tcp,
    };
    [key, ListenerKey { transport, ..key }]
}
