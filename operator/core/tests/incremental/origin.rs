//! What the gateway says about where its parts come from, and whether the Store agrees.

use std::collections::BTreeSet;

use nuncio_core::store::Store;
use nuncio_ir::{
    Action, ChainAction, FilterSettings, Ir, Listener, Origin, Route, RouteTable, Unit,
};

/// A part of a resource, and an object that it comes from.
pub(crate) type Fact = (Unit, String, String);

/// Where every part of the gateway comes from.
pub(crate) fn origins(ir: &Ir) -> BTreeSet<Fact> {
    let mut facts = BTreeSet::new();
    for table in ir.route_tables.values() {
        of_table(&mut facts, table);
    }
    for listener in ir.listeners.values() {
        of_listener(&mut facts, ir, listener);
    }
    for (filter, settings) in &ir.filters {
        let unit = Unit::Filter(filter.clone());
        let origins = match &**settings {
            FilterSettings::Authorization(service) => service.origins.as_slice(),
            FilterSettings::RateLimit(service) => std::slice::from_ref(&service.origin),
            _ => &[],
        };
        add(&mut facts, &unit, "", origins);
    }
    for (name, origins) in ir.cluster_origins() {
        add(&mut facts, &Unit::Cluster(name), "", &origins);
    }
    facts
}

/// Parts of which the Store does not say that they come from this object.
pub(crate) fn disputed(store: &Store, facts: &BTreeSet<Fact>) -> Vec<Fact> {
    let is_disputed = |(unit, _, object): &&Fact| {
        if matches!(unit, Unit::Cluster(_)) && object.starts_with("AuthService ") {
            // several AuthServices are one filter, and all its origins refer to the cluster of the first
            return false;
        }
        let owners = store.owners(unit);
        !owners.iter().any(|owner| owner.to_string() == *object)
    };
    facts.iter().filter(is_disputed).cloned().collect()
}

fn add<'a>(
    facts: &mut BTreeSet<Fact>,
    unit: &Unit,
    part: &str,
    origins: impl IntoIterator<Item = &'a Origin>,
) {
    let of = |origin: &Origin| (unit.clone(), part.to_owned(), origin.to_string());
    facts.extend(origins.into_iter().map(of));
}

fn of_table(facts: &mut BTreeSet<Fact>, table: &RouteTable) {
    let unit = Unit::RouteTable(table.key.clone());
    for host in &table.virtual_hosts {
        add(facts, &unit, &host.domain, [&host.origin]);
        for route in &host.routes {
            of_route(facts, &unit, route);
        }
    }
}

fn of_route(facts: &mut BTreeSet<Fact>, unit: &Unit, route: &Route) {
    if !matches!(route.action, Action::Healthy) {
        assert!(route.origin.is_some(), "{route:?}");
    }
    let own = route.origin.iter().filter(|origin| origin.kind != "Module");
    let own: Vec<&Origin> = own.collect();
    assert!(route.group.is_empty() || route.group.contains(own[0]));
    add(facts, unit, &route.name, own);
    add(facts, unit, &route.name, route.group.iter());
}

fn of_listener(facts: &mut BTreeSet<Fact>, ir: &Ir, listener: &Listener) {
    let unit = Unit::Listener(listener.key);
    add(facts, &unit, "", &listener.origin);
    for chain in &listener.chains {
        let origins = ir.chain_origins(listener, chain);
        assert!(!origins.is_empty(), "{chain:?}");
        if matches!(chain.action, ChainAction::Close(_)) {
            // nothing of its Hosts is served
            continue;
        }
        add(facts, &unit, &chain.name, origins);
    }
}
