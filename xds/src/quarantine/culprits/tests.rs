//! The search with a model of Envoy.

use std::collections::BTreeSet;

use nuncio_ir::{
    Forward, Insecure, ListenerKey, Origin, PathMatch, TableScope, Transport, VirtualHost,
};
use proptest::{collection::btree_set, prelude::*};

use super::*;
use crate::pb::envoy::config::route::v3::route;

fn forward(name: &str, cluster: &str) -> Arc<Route> {
    let action = Action::Forward(Box::new(Forward {
        cluster: cluster.into(),
        ..Forward::default()
    }));
    let path = PathMatch::Prefix(format!("/{name}/"));
    Arc::new(Route::new(name.to_owned(), path, action))
}

/// A table with as many Hosts, which share the first route.
fn table(hosts: usize, routes: usize) -> RouteTable {
    let host = |host: usize| VirtualHost {
        domain: format!("{host:03}.example").into(),
        insecure: Insecure::Route,
        routes: (0..routes)
            .map(|n| match n {
                0 => forward("shared", "c"),
                _ => forward(&format!("{host:03}-{n}"), "c"),
            })
            .collect(),
        origin: Origin::default(),
    };
    RouteTable {
        key: TableKey {
            listener: ListenerKey {
                port: 8080,
                transport: Transport::Tcp,
                address: None,
            },
            scope: TableScope::Cleartext,
        },
        virtual_hosts: (0..hosts).map(host).collect(),
        is_selected: false,
        elsewhere: Vec::new(),
        misdirected: Vec::new(),
        http3: None,
    }
}

/// What Envoy rejects.
#[derive(Default)]
struct Envoy {
    /// Routes with an action that it does not support.
    actions: BTreeSet<String>,
    /// Routes with a match that it does not support.
    matches: BTreeSet<String>,
}

impl Envoy {
    /// Its error, without a name.
    fn check(&self, resource: &Resource) -> Result<RouteConfiguration, &'static str> {
        let table = RouteConfiguration::decode(&*resource.body).unwrap();
        for host in &table.virtual_hosts {
            for route in &host.routes {
                let forwards = matches!(route.action, Some(route::Action::Route(_)));
                if self.matches.contains(&route.name)
                    || forwards && self.actions.contains(&route.name)
                {
                    return Err("not supported");
                }
            }
            let domains: BTreeSet<&String> = host.domains.iter().collect();
            if domains.len() < host.domains.len() {
                return Err("duplicate entry of domain probe.nuncio.invalid");
            }
        }
        Ok(table)
    }

    /// Shows it a table, and what follows, until it accepts one or nothing follows; with the number of tables.
    fn show(
        &self,
        culprits: &mut Culprits,
        table: &RouteTable,
    ) -> (Option<RouteConfiguration>, usize) {
        let mut resource = culprits.resource(table);
        for shown in 1.. {
            match self.check(&resource) {
                Ok(accepted) => return (Some(accepted), shown),
                Err(error) => match culprits.rejected(table, resource.version, &error.into()) {
                    Some(next) => resource = next,
                    None => return (None, shown),
                },
            }
        }
        (None, 0)
    }
}

fn found(culprits: &Culprits) -> Vec<(&str, bool)> {
    let found = culprits.found();
    found
        .map(|culprit| (culprit.route.name.as_str(), culprit.is_answered))
        .collect()
}

fn names(table: &RouteConfiguration) -> BTreeSet<&str> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    routes.map(|route| route.name.as_str()).collect()
}

#[test]
fn one_bad_route_among_many_gets_503() {
    let table = table(100, 10);
    let envoy = Envoy {
        actions: ["077-5".to_owned()].into(),
        ..Envoy::default()
    };
    let mut culprits = Culprits::default();
    let (accepted, shown) = envoy.show(&mut culprits, &table);
    let accepted = accepted.unwrap();
    assert_eq!(found(&culprits), [("077-5", true)]);
    assert!(shown <= 14, "{shown} tables");
    assert_eq!(names(&accepted).len(), 901);
    assert!(culprits.searched(&table.key).is_none());
}

#[test]
fn route_with_a_bad_match_is_left_out() {
    let table = table(3, 4);
    let envoy = Envoy {
        matches: ["shared".to_owned(), "002-3".to_owned()].into(),
        ..Envoy::default()
    };
    let mut culprits = Culprits::default();
    let (accepted, _) = envoy.show(&mut culprits, &table);
    assert_eq!(names(&accepted.unwrap()).len(), 8);
    assert_eq!(found(&culprits), [("shared", false), ("002-3", false)]);
}

#[test]
fn what_was_found_stays_until_it_changes() {
    let mut table = table(2, 4);
    let envoy = Envoy {
        actions: ["001-2".to_owned()].into(),
        ..Envoy::default()
    };
    let mut culprits = Culprits::default();
    envoy.show(&mut culprits, &table);
    table.virtual_hosts[0].routes.push(forward("new", "c"));
    let (accepted, shown) = envoy.show(&mut culprits, &table);
    assert_eq!(shown, 1, "without a search");
    assert!(names(&accepted.unwrap()).contains("new"));
    // an edit is tried, and found again
    table.virtual_hosts[1].routes[2] = forward("001-2", "other");
    let (_, shown) = envoy.show(&mut culprits, &table);
    assert!(shown > 1);
    assert_eq!(found(&culprits), [("001-2", true)]);
    table.virtual_hosts[1].routes[2] = forward("001-2", "repaired");
    let (_, shown) = Envoy::default().show(&mut culprits, &table);
    assert_eq!((shown, found(&culprits).len()), (1, 0));
    assert!(culprits.tables.is_empty());
}

#[test]
fn without_a_bad_route_nothing_is_left_out() {
    let table = table(2, 4);
    let mut culprits = Culprits::default();
    let mut resource = culprits.resource(&table);
    let mut shown = 0;
    // the fault is before all routes, or behind them
    for error in ["no", "duplicate entry of domain probe.nuncio.invalid"] {
        while let Some(next) = culprits.rejected(&table, resource.version, &error.into()) {
            resource = next;
            shown += 1;
        }
        assert!(found(&culprits).is_empty());
        assert_eq!(culprits.searched(&table.key), None);
        let again = culprits.rejected(&table, resource.version, &error.into());
        assert!(again.is_none(), "it ends");
        resource = culprits.resource(&table);
    }
    assert!(shown <= 4, "{shown} tables");
}

#[test]
fn the_number_of_routes_that_are_searched_is_limited() {
    let table = table(1, 2 * LIMIT);
    let routes = table.virtual_hosts[0].routes.iter();
    let envoy = Envoy {
        actions: routes.map(|route| route.name.clone()).collect(),
        ..Envoy::default()
    };
    let mut culprits = Culprits::default();
    let (accepted, _) = envoy.show(&mut culprits, &table);
    assert!(accepted.is_none());
    assert_eq!(found(&culprits).len(), LIMIT);
}

proptest! {
    /// Exactly the bad routes are found, whichever they are, and Envoy accepts the rest.
    #[test]
    fn bad_routes_are_found(
        hosts in 1..4_usize,
        routes in 1..30_usize,
        actions in btree_set((0..4_usize, 1..30_usize), 0..5),
        matches in btree_set((0..4_usize, 1..30_usize), 0..3),
    ) {
        let table = table(hosts, routes);
        let named = |of: BTreeSet<(usize, usize)>| -> BTreeSet<String> {
            let present = of.into_iter().filter(|(host, n)| *host < hosts && *n < routes);
            present.map(|(host, n)| format!("{host:03}-{n}")).collect()
        };
        let envoy = Envoy { actions: named(actions), matches: named(matches) };
        let mut culprits = Culprits::default();
        let (accepted, _) = envoy.show(&mut culprits, &table);
        prop_assert!(accepted.is_some());
        for (name, is_answered) in found(&culprits) {
            prop_assert_eq!(envoy.matches.contains(name), !is_answered);
        }
        let all: BTreeSet<&str> = found(&culprits).into_iter().map(|(name, _)| name).collect();
        let bad = envoy.actions.union(&envoy.matches);
        prop_assert_eq!(all, bad.map(String::as_str).collect::<BTreeSet<_>>());
    }
}
