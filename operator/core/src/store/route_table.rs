//! Level of tables: the virtual hosts that the sockets ask for, with the routes that the Hosts have.

use std::{mem, sync::Arc};

use nuncio_ir::{self as ir, Unit};

use super::{Difference, HostState, Store};
use crate::object::ObjectRef;

impl Store {
    pub(super) fn link_tables(&mut self) {
        for (host, difference) in mem::take(&mut self.dirty.routes) {
            let tables = self.tables_of_host.get(&host).into_iter().flatten();
            let shown = tables
                .filter(|key| difference == Difference::Match || self.shows_forwards(key, &host));
            let shown: Vec<_> = shown.cloned().collect();
            self.dirty.tables.extend(shown);
        }
        for key in mem::take(&mut self.dirty.tables) {
            let table = self
                .sockets
                .get(&key.listener)
                .and_then(|socket| socket.link.tables.get(&key));
            match table {
                None => {
                    self.ir.route_tables.remove(&key);
                }
                Some(table) => {
                    let virtual_hosts = table
                        .virtual_hosts
                        .iter()
                        .map(|virtual_host| ir::VirtualHost {
                            domain: virtual_host.domain.clone(),
                            insecure: virtual_host.insecure,
                            routes: self
                                .hosts
                                .get(&virtual_host.host)
                                .map(HostState::routes)
                                .unwrap_or_default(),
                        })
                        .collect();
                    let table = ir::RouteTable {
                        key: key.clone(),
                        virtual_hosts,
                        misdirected: table.misdirected.clone(),
                        http3: table.http3,
                    };
                    self.ir.route_tables.insert(key.clone(), Arc::new(table));
                }
            }
            self.dirty.units.insert(Unit::RouteTable(key));
        }
    }
}

impl Store {
    /// Whether anything of where a Host's routes lead can be seen in a table.
    fn shows_forwards(&self, key: &ir::TableKey, host: &ObjectRef) -> bool {
        let table = self
            .sockets
            .get(&key.listener)
            .and_then(|socket| socket.link.tables.get(key));
        let mut virtual_hosts = table.into_iter().flat_map(|table| &table.virtual_hosts);
        virtual_hosts.any(|virtual_host| {
            let hidden = matches!(
                virtual_host.insecure,
                ir::Insecure::Redirect | ir::Insecure::Reject
            );
            virtual_host.host == *host && !hidden
        })
    }
}

impl HostState {
    /// The routes of all groups, in the order in which they are tried.
    fn routes(&self) -> Vec<Arc<ir::Route>> {
        self.routes
            .values()
            .flat_map(|attached| attached.routes.iter().cloned())
            .collect()
    }
}
