//! Routes that Envoy rejects, in a table of which no good version is known: after a restart, for example. In: a table, and
//! what Envoy says about it. Out: the table without these routes.
//!
//! Envoy's error is a text that seldom names a route, so the route is searched for: by halves, with [`Probe`]s. A probe has
//! the first routes of the table, and at its end a virtual host that Envoy always rejects. Envoy looks at one virtual host
//! after the other, so its error says whether the fault is among these routes. Because Envoy rejects each probe, no traffic
//! depends on what is in it: an Envoy that has an older version of the table serves that until the search ends.
//!
//! Requests of the route that is found get 503. If its match is what Envoy rejects, the route is left out.
//!
//! All of this follows from the content of the table and from Envoy's answers. So all replicas end with the same table, in
//! whatever order they get there. A route that was found is not tried again until it changes, whatever else does.

use std::{collections::BTreeMap, sync::Arc};

use bytes::BytesMut;
use prost::Message as _;
use tracing::warn;

use crate::{
    Resource, Version,
    ir::{Action, Route, RouteTable, TableKey},
    pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost},
    render,
};

/// Routes of a table that are searched for at most. With more, something else is wrong.
const LIMIT: usize = 32;

/// A domain that nobody has (RFC 6761, 6.4), in Envoy's error about the end of a probe.
const MARK: &str = "probe.nuncio.invalid";

/// How [`Culprit::effect`] begins if requests get 503.
pub const ANSWERED: &str = "requests get 503 until it is fixed: ";
/// How it begins if there is no route.
pub const LEFT_OUT: &str = "not served until it is fixed: ";

/// Routes that Envoys reject, by table.
#[derive(Debug, Default)]
pub struct Culprits {
    tables: BTreeMap<TableKey, Search>,
}

/// A route that Envoys reject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// The route.
    pub route: Arc<Route>,
    /// Whether its requests get 503; if not, there is no route for them.
    pub is_answered: bool,
    /// Envoy's error.
    pub message: Arc<str>,
}

impl Culprit {
    /// What becomes of requests, and Envoy's error.
    #[must_use]
    pub fn effect(&self) -> String {
        let outcome = if self.is_answered { ANSWERED } else { LEFT_OUT };
        format!("{outcome}{}", self.message)
    }
}

#[derive(Debug, Default)]
struct Search {
    found: Vec<Culprit>,
    /// The probe that is served.
    probe: Option<Probe>,
    /// The version in which nothing was found.
    hopeless: Option<Version>,
}

/// A table with the first `at` routes.
#[derive(Debug)]
struct Probe {
    at: usize,
    /// As many routes are in order; `None`: not known of any.
    good: Option<usize>,
    /// Among as many routes is one that is not.
    bad: Option<usize>,
    /// Envoy's error about that one.
    message: Arc<str>,
}

impl Culprits {
    /// The resource of a table, without the routes that were found in it. A search is given up: what it searched is gone.
    pub fn resource(&mut self, table: &RouteTable) -> Resource {
        let Some(search) = self.tables.get_mut(&table.key) else {
            return render::route_table(table);
        };
        search.probe = None;
        search.hopeless = None;
        let hosts = || table.virtual_hosts.iter();
        search.found.retain(|culprit| {
            let mut routes = hosts().flat_map(|host| &host.routes);
            routes.any(|route| *route == culprit.route)
        });
        if search.found.is_empty() {
            self.tables.remove(&table.key);
            return render::route_table(table);
        }
        render::route_table(&search.rest(table))
    }

    /// The table is gone.
    pub fn forget(&mut self, key: &TableKey) {
        self.tables.remove(key);
    }

    /// Envoy has rejected this version of a table, the last that [`Culprits`] made of it. Returns what to serve next, if
    /// anything can be done.
    pub fn rejected(
        &mut self,
        table: &RouteTable,
        version: Version,
        message: &Arc<str>,
    ) -> Option<Resource> {
        let search = self.tables.entry(table.key.clone()).or_default();
        if search.hopeless == Some(version) {
            return None;
        }
        let resource = search.next(table, message);
        if resource.is_none() {
            search.probe = None;
            search.hopeless = Some(version);
        }
        resource
    }

    /// What Envoy said when it rejected a table that is being searched.
    #[must_use]
    pub fn searched(&self, key: &TableKey) -> Option<&Arc<str>> {
        let probe = self.tables.get(key)?.probe.as_ref()?;
        Some(&probe.message)
    }

    /// The routes that were found.
    pub fn found(&self) -> impl Iterator<Item = &Culprit> {
        self.tables.values().flat_map(|search| &search.found)
    }
}

impl Search {
    /// The table with what was found replaced.
    fn rest(&self, table: &RouteTable) -> RouteTable {
        let mut rest = table.clone();
        for host in &mut rest.virtual_hosts {
            let routes = host.routes.iter();
            host.routes = routes.filter_map(|route| self.replaced(route)).collect();
        }
        rest
    }

    fn replaced(&self, route: &Arc<Route>) -> Option<Arc<Route>> {
        let Some(culprit) = self.found.iter().find(|culprit| culprit.route == *route) else {
            return Some(route.clone());
        };
        culprit.is_answered.then(|| {
            let path = route.path.clone();
            let mut answer = Route::new(route.name.clone(), path, Action::Unavailable);
            answer.case_sensitive = route.case_sensitive;
            answer.headers.clone_from(&route.headers);
            answer.authority.clone_from(&route.authority);
            answer.query.clone_from(&route.query);
            answer.percentage = route.percentage;
            Arc::new(answer)
        })
    }

    /// What to serve after Envoy has rejected what was served.
    fn next(&mut self, table: &RouteTable, message: &Arc<str>) -> Option<Resource> {
        // with repetitions: Hosts share routes
        let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
        let served = |route: &&Arc<Route>| self.replaced(route).is_some();
        let routes: Vec<&Arc<Route>> = routes.filter(served).collect();
        let probe = match self.probe.take() {
            // all of them
            None => Probe {
                at: routes.len(),
                good: None,
                bad: None,
                message: message.clone(),
            },
            Some(mut probe) => {
                if message.contains(MARK) {
                    probe.good = Some(probe.at);
                } else {
                    probe.bad = Some(probe.at);
                    probe.message = message.clone();
                }
                let (Some(good), Some(bad)) = (probe.good, probe.bad) else {
                    // none of the routes is bad, or none has to be there
                    if probe.good.is_some() || probe.at == 0 {
                        return None;
                    }
                    probe.at = 0;
                    return Some(self.serve(table, probe));
                };
                if bad - good == 1 {
                    let culprit = routes.get(good)?;
                    return self.add(table, culprit, probe.message);
                }
                probe.at = usize::midpoint(good, bad);
                probe
            }
        };
        Some(self.serve(table, probe))
    }

    fn serve(&mut self, table: &RouteTable, probe: Probe) -> Resource {
        let mut first = self.rest(table);
        let mut left = probe.at;
        for host in &mut first.virtual_hosts {
            host.routes.truncate(left);
            left -= host.routes.len();
        }
        self.probe = Some(probe);
        marked(render::route_table(&first))
    }

    /// This route is one.
    fn add(
        &mut self,
        table: &RouteTable,
        route: &Arc<Route>,
        message: Arc<str>,
    ) -> Option<Resource> {
        let known = self
            .found
            .iter_mut()
            .find(|culprit| culprit.route == *route);
        if let Some(culprit) = known {
            culprit.is_answered = false;
        } else if self.found.len() < LIMIT {
            warn!(table = %table.key, route = route.name, error = %message, "route that Envoy rejects left out");
            self.found.push(Culprit {
                route: route.clone(),
                is_answered: true,
                message,
            });
        } else {
            return None;
        }
        Some(render::route_table(&self.rest(table)))
    }
}

/// The same table with a last virtual host that Envoy rejects.
fn marked(table: Resource) -> Resource {
    let end = RouteConfiguration {
        virtual_hosts: vec![VirtualHost {
            name: MARK.to_owned(),
            domains: vec![MARK.to_owned(), MARK.to_owned()],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    let mut body = BytesMut::from(table.body);
    body.extend_from_slice(&end.encode_to_vec());
    Resource::new(table.kind, table.name, body.freeze()).with_refs(table.refs.iter().cloned())
}

#[cfg(test)]
mod tests;
