//! Level of route tables: the virtual hosts that the sockets need, with the routes that the Hosts have.

use std::{collections::BTreeSet, mem, sync::Arc};

use nuncio_ir::{self as ir, Unit};

use super::{Store, dirty::Difference, host::HostState, listener::Listeners};
use crate::object::ObjectRef;

impl Store {
    pub(super) fn link_route_tables(&mut self) {
        for (host, difference) in mem::take(&mut self.dirty.routes) {
            for key in self.hosts.tables(&host) {
                if difference == Difference::Match || self.listeners.shows_actions(key, &host) {
                    self.dirty.tables.insert(key.clone());
                }
            }
        }
        for key in mem::take(&mut self.dirty.tables) {
            let old = match self.route_table(&key) {
                None => self.ir.route_tables.remove(&key),
                Some(table) => self.ir.route_tables.insert(key.clone(), table.into()),
            };
            let new = self.ir.route_tables.get(&key);
            let scopes = |table: Option<&Arc<ir::RouteTable>>| -> BTreeSet<Unit> {
                let units = table.into_iter().flat_map(|table| table.units());
                units.collect()
            };
            let (before, after) = (scopes(old.as_ref()), scopes(new));
            self.dirty
                .units
                .extend(before.symmetric_difference(&after).cloned());
            self.dirty.units.insert(Unit::RouteTable(key));
        }
    }

    fn route_table(&self, key: &ir::TableKey) -> Option<ir::RouteTable> {
        let table = self.listeners.table(key)?;
        let virtual_hosts =
            table
                .virtual_hosts
                .iter()
                .map(|(domain, virtual_host)| ir::VirtualHost {
                    domain: domain.clone(),
                    insecure: virtual_host.insecure,
                    routes: self.routes_of(&virtual_host.host),
                    origin: virtual_host.host.origin(),
                });
        Some(ir::RouteTable {
            key: key.clone(),
            is_selected: table.is_selected,
            elsewhere: table.elsewhere.iter().cloned().collect(),
            virtual_hosts: virtual_hosts.collect(),
            misdirected: table.misdirected.iter().cloned().collect(),
            http3: table.http3,
        })
    }

    /// The routes of a Host, behind those of the gateway itself.
    fn routes_of(&self, host: &ObjectRef) -> Vec<Arc<ir::Route>> {
        let mut routes = self.probes.routes().to_vec();
        routes.extend(self.hosts.get(host).into_iter().flat_map(HostState::routes));
        routes
    }
}

impl Listeners {
    /// Whether the actions of a Host's routes are visible in a table.
    fn shows_actions(&self, key: &ir::TableKey, host: &ObjectRef) -> bool {
        let table = self.table(key).into_iter();
        let mut virtual_hosts = table.flat_map(|table| table.virtual_hosts.values());
        virtual_hosts.any(|virtual_host| {
            let hidden = matches!(
                virtual_host.insecure,
                ir::Insecure::Redirect | ir::Insecure::Reject
            );
            virtual_host.host == *host && !hidden
        })
    }
}
