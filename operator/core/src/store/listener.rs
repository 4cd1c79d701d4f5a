//! Level of Listeners: which Listener has each socket, its filter chains, and the route tables that they need.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    iter, mem,
    sync::Arc,
};

use nuncio_ir::{FilterSettings, HttpFilter, ListenerKey, TableKey, Transport, Unit};

use self::{
    chain::{Candidate, Inputs, Link, Table},
    claims::Claims,
};
use super::Store;
use crate::{
    object::ObjectRef,
    reconcile::{Listener, Namespaces, TcpMapping},
    report::{Problem, Report},
};

pub(super) mod chain;
mod claims;
mod conflict;

/// Listeners, and the sockets that they and TCPMappings claim.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: BTreeMap<ObjectRef, Arc<Listener>>,
    sockets: BTreeMap<ListenerKey, Socket>,
}

/// A socket that at least one Listener or TCPMapping claims.
#[derive(Debug, Default)]
pub(super) struct Socket {
    claims: Claims,
    /// TCPMappings, by server name.
    tcp_mappings: BTreeMap<Option<Arc<str>>, BTreeSet<ObjectRef>>,
    link: Link,
}

impl Socket {
    /// Its TCPMappings, by server name.
    pub(super) fn tcp_mappings(
        &self,
    ) -> impl Iterator<Item = (&Option<Arc<str>>, &BTreeSet<ObjectRef>)> {
        self.tcp_mappings.iter()
    }
}

impl Listeners {
    /// Every socket.
    pub(super) fn sockets(&self) -> impl Iterator<Item = ListenerKey> {
        self.sockets.keys().copied()
    }

    /// Sockets with TCPMappings.
    pub(super) fn with_tcp_mappings(&self) -> impl Iterator<Item = ListenerKey> {
        let sockets = self.sockets.iter();
        let sockets = sockets.filter(|(_, socket)| !socket.tcp_mappings.is_empty());
        sockets.map(|(key, _)| *key)
    }

    /// Sockets of Listeners that select namespaces by their labels.
    pub(super) fn selecting_namespaces(&self) -> impl Iterator<Item = ListenerKey> {
        let selects = |claim: &ObjectRef| {
            let listener = self.listeners.get(claim);
            listener.is_some_and(|listener| matches!(listener.namespaces, Namespaces::Selected(_)))
        };
        let sockets = self.sockets.iter();
        let sockets = sockets.filter(move |(_, socket)| socket.claims.iter().any(selects));
        sockets.map(|(key, _)| *key)
    }

    /// What a socket was linked to.
    pub(super) fn link(&self, key: ListenerKey) -> Option<&Link> {
        Some(&self.sockets.get(&key)?.link)
    }

    /// The virtual hosts of a route table.
    pub(super) fn table(&self, key: &TableKey) -> Option<&Table> {
        self.link(key.listener)?.tables.get(key)
    }

    /// Problems of a Host on any socket.
    pub(super) fn problems(&self, host: &ObjectRef) -> impl Iterator<Item = &Problem> {
        let sockets = self.sockets.values();
        sockets
            .filter_map(|socket| socket.link.problems.get(host))
            .flatten()
    }

    /// The objects whose content is in the listener of a socket.
    pub(super) fn owners(&self, key: ListenerKey) -> BTreeSet<ObjectRef> {
        let Some(socket) = self.sockets.get(&key) else {
            return BTreeSet::new();
        };
        let link = &socket.link;
        let owner = socket.claims.owner().into_iter();
        let others = link.hosts.iter().chain(&link.tcp_mappings);
        owner.chain(others).cloned().collect()
    }

    /// The route tables of a socket.
    pub(super) fn tables(&self, key: ListenerKey) -> impl Iterator<Item = &TableKey> {
        self.link(key)
            .into_iter()
            .flat_map(|link| link.tables.keys())
    }

    /// Adds the claim of a TCPMapping.
    pub(super) fn add_tcp_mapping(&mut self, object: &ObjectRef, mapping: &TcpMapping) {
        let socket = self.sockets.entry(mapping.key).or_default();
        let members = socket.tcp_mappings.entry(mapping.server_name.clone());
        members.or_default().insert(object.clone());
    }

    /// Removes the claim of a TCPMapping. The socket stays until it is linked.
    pub(super) fn remove_tcp_mapping(&mut self, object: &ObjectRef, mapping: &TcpMapping) {
        if let Some(socket) = self.sockets.get_mut(&mapping.key)
            && let Some(members) = socket.tcp_mappings.get_mut(&mapping.server_name)
        {
            members.remove(object);
            if members.is_empty() {
                socket.tcp_mappings.remove(&mapping.server_name);
            }
        }
    }

    /// The Listener for HTTP/3 on the same port as this TCP socket.
    fn http3(&self, key: ListenerKey) -> Option<(&ObjectRef, &Listener)> {
        let udp = ListenerKey {
            transport: Transport::Udp,
            ..key
        };
        let socket = self
            .sockets
            .get(&udp)
            .filter(|_| key.transport == Transport::Tcp)?;
        let owner = socket.claims.owner()?;
        let listener = self.listeners.get(owner).filter(|listener| listener.tls)?;
        Some((owner, listener))
    }
}

impl Store {
    pub(super) fn set_listener(&mut self, object: &ObjectRef, listener: Option<Arc<Listener>>) {
        if let Some(old) = self.listeners.listeners.remove(object) {
            if let Some(socket) = self.listeners.sockets.get_mut(&old.key) {
                socket.claims.remove(object);
            }
            self.dirty.sockets.extend(with_partner(old.key));
        }
        if let Some(listener) = listener {
            let socket = self.listeners.sockets.entry(listener.key).or_default();
            socket.claims.insert(object, listener.created);
            self.dirty.sockets.extend(with_partner(listener.key));
            self.listeners.listeners.insert(object.clone(), listener);
        }
        self.dirty.reports.insert(object.clone());
    }

    /// The Listener for HTTP/3 on the same port, and the port at which clients reach it: that of a Service in the
    /// gateway's namespace, or else 443 for 8443, as Emissary's Service maps it.
    fn http3_beside(&self, key: ListenerKey) -> Option<(&ObjectRef, &Listener, u16)> {
        let (owner, listener) = self.listeners.http3(key)?;
        let namespace = &self.settings.ambassador_namespace;
        let port = self.services.udp_port(namespace, key.port);
        let usual = if key.port == 8443 { 443 } else { key.port };
        Some((owner, listener, port.unwrap_or(usual)))
    }

    pub(super) fn link_sockets(&mut self) {
        for key in mem::take(&mut self.dirty.sockets) {
            let Some(socket) = self.listeners.sockets.get(&key) else {
                continue;
            };
            let link = self.linked_socket(key, socket);
            let tcp_mappings = socket.tcp_mappings.values().flatten();
            self.dirty.reports.extend(tcp_mappings.cloned());
            self.dirty.reports.extend(socket.claims.iter().cloned());
            self.replace_link(key, link);
        }
    }

    fn linked_socket(&self, key: ListenerKey, socket: &Socket) -> Link {
        let listeners = &self.listeners.listeners;
        let claims = socket.claims.owner_first().into_iter();
        let hosts = self.hosts.iter();
        chain::link(
            key,
            &Inputs {
                claims: claims
                    .filter_map(|object| Some((object, listeners.get(object)?.as_ref())))
                    .collect(),
                tcp: self.tcp_groups(socket),
                hosts: hosts
                    .map(|(object, state)| Candidate {
                        object,
                        host: &state.host,
                        tls: state.tls.clone(),
                    })
                    .collect(),
                address: self.settings.bind_address,
                http3: self.http3_beside(key),
                loose: self.settings.loose_label_selectors,
                namespaces: &self.namespaces,
                tables_by_host: self.tables_by_host(),
                most_redirecting: self.settings.most_tables_of_redirects,
                least_names: self.settings.least_tables_by_host,
                filters: self.filters.used().clone(),
                options: &self.shared_options,
            },
        )
    }

    /// From how many host names on they have route tables of their own on cleartext connections; `None`: never.
    ///
    /// Envoy decides which filters a request passes through when it arrives. Where no name of a table is that of the request,
    /// the table is found later, by a script: too late for a route that switches the filter of an AuthService on or off. And a
    /// script of a Module can change the host name of a request, and thereby its table.
    pub(super) fn tables_by_host(&self) -> Option<usize> {
        let decides_late = |(filter, settings): (&HttpFilter, &Arc<FilterSettings>)| match filter {
            HttpFilter::Authorization(_) | HttpFilter::Lua => **settings != FilterSettings::Off,
            _ => false,
        };
        let is_excluded = self.ir.filters.iter().any(decides_late);
        (!is_excluded).then_some(self.settings.least_tables_by_host)
    }

    /// Takes over a new link, and marks what differs from before.
    fn replace_link(&mut self, key: ListenerKey, link: Link) {
        let Some(socket) = self.listeners.sockets.get_mut(&key) else {
            return;
        };
        let old = mem::replace(&mut socket.link, link);
        if socket.claims.is_empty() && socket.tcp_mappings.is_empty() {
            self.listeners.sockets.remove(&key);
        }
        let none = Link::default();
        let new = self.listeners.link(key).unwrap_or(&none);
        if old.listener != new.listener {
            match new.listener.clone() {
                Some(listener) => self.ir.listeners.insert(key, listener),
                None => self.ir.listeners.remove(&key),
            };
            self.dirty.units.insert(Unit::Listener(key));
        }
        let reports = differing(&old.problems, &new.problems).cloned();
        self.dirty.reports.extend(reports);
        let changed: Vec<TableKey> = differing(&old.tables, &new.tables).cloned().collect();
        // Hosts concerned, and whether they were served before
        let mut moved: BTreeMap<ObjectRef, bool> = BTreeMap::new();
        for table in &changed {
            for host in old.hosts_of(table) {
                moved.entry(host.clone()).or_insert(true);
                self.hosts.leave_table(host, table);
            }
        }
        for table in &changed {
            for host in new.hosts_of(table) {
                let was_served = self.hosts.is_served(host);
                moved.entry(host.clone()).or_insert(was_served);
                self.hosts.enter_table(host, table);
            }
        }
        self.dirty.tables.extend(changed);
        self.report_hosts_and_mappings(moved);
    }

    /// Whether a Host is served is in its report and in those of its Mappings.
    fn report_hosts_and_mappings(&mut self, moved: BTreeMap<ObjectRef, bool>) {
        for (host, was_served) in moved {
            let Some(state) = self.hosts.get(&host) else {
                continue;
            };
            if was_served != self.hosts.is_served(&host) {
                for attached in state.routes.values() {
                    if let Some(group) = self.groups.get(&attached.key) {
                        self.dirty.reports.extend(group.members().cloned());
                    }
                }
            }
            self.dirty.reports.insert(host);
        }
    }

    pub(super) fn report_listener(&self, object: &ObjectRef, report: &mut Report) {
        let listeners = &self.listeners;
        let listener = listeners.listeners.get(object);
        let Some(socket) = listener.and_then(|listener| listeners.sockets.get(&listener.key))
        else {
            return;
        };
        let problems = socket.link.problems.get(object).into_iter().flatten();
        report.problems.extend(problems.cloned());
        report.in_service = socket.claims.owner() == Some(object) && socket.link.listener.is_some();
        if report.in_service {
            let number = socket.link.hosts.len();
            let plural = if number == 1 { "" } else { "s" };
            report.summary = format!("{number} Host{plural}");
        }
    }
}

/// The keys of which two maps have different values, or one has none, in order.
fn differing<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    iter::from_fn(move || {
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((one, _)), Some((other, _))) => one.cmp(other),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => return old.next().map(|(key, _)| key),
                Ordering::Greater => return new.next().map(|(key, _)| key),
                Ordering::Equal => {
                    let ((key, before), (_, after)) = old.next().zip(new.next())?;
                    if before != after {
                        return Some(key);
                    }
                }
            }
        }
    })
}

/// A socket, and the one of the other transport on its port: HTTP/3 is advertised where HTTPS is served.
fn with_partner(key: ListenerKey) -> [ListenerKey; 2] {
    let transport = match key.transport {
        Transport::Tcp => Transport::Udp,
        Transport::Udp => Transport::Tcp,
    };
    [key, ListenerKey { transport, ..key }]
}
