//! Level of tables: the virtual hosts that the sockets ask for, with the routes that the Hosts have.

use std::{mem, sync::Arc};

use nuncio_xds::{Unit, ir};

use super::{HostState, Store};

impl Store {
    pub(super) fn link_tables(&mut self) {
        for host in mem::take(&mut self.dirty.routes) {
            if let Some(tables) = self.tables_of_host.get(&host) {
                self.dirty.tables.extend(tables.iter().cloned());
            }
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
                        misdirected: table.misdirected,
                    };
                    self.ir.route_tables.insert(key.clone(), Arc::new(table));
                }
            }
            self.dirty.units.insert(Unit::RouteTable(key));
        }
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
