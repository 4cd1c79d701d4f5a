//! The product's gateway model, in the words of this one.

use std::sync::Arc;

use nuncio_ir::{
    Action, ChainAction, Cluster, Discovery, Insecure, Ir, ListenerKey, PathMatch, Route,
    StringMatch, TableScope, VirtualHost,
};

use super::table::{Answer, Entry, Table, Text, To};

/// The routes of port 8080.
pub(crate) fn tables(ir: &Ir) -> Vec<Table> {
    ir.route_tables
        .values()
        .filter(|table| {
            table.key.listener.port == 8080 && !matches!(table.key.scope, TableScope::Tls(_))
        })
        .flat_map(|table| &table.virtual_hosts)
        .map(|host| table(ir, host))
        .collect()
}

fn table(ir: &Ir, host: &VirtualHost) -> Table {
    let mut entries = Vec::new();
    // requests of this model are for other paths than those of probes
    let is_probe = |route: &&Arc<Route>| matches!(route.action, Action::Healthy);
    for route in host.routes.iter().filter(|route| !is_probe(route)) {
        entries.push(entry(ir, route));
    }
    Table {
        domain: host.domain.to_string(),
        // no client sends x-forwarded-proto, and no proxy is trusted
        insecure: match host.insecure {
            Insecure::Route => Answer::Route,
            Insecure::Redirect | Insecure::RedirectByHeader => Answer::Redirect,
            Insecure::Reject | Insecure::RejectByHeader => Answer::Reject,
        },
        entries,
    }
}

fn entry(ir: &Ir, route: &Route) -> Entry {
    let path = match &route.path {
        PathMatch::Exact(path) => Text::Exact(path.clone()),
        PathMatch::Prefix(path) => Text::Prefix(path.clone()),
        PathMatch::Regex(path) => Text::Regex(path.clone()),
    };
    let headers = route.headers.iter();
    let mut headers: Vec<_> = headers
        .map(|header| (header.name.clone(), text(&header.value)))
        .collect();
    headers.sort();
    let query = route.query.iter();
    let mut query: Vec<_> = query
        .map(|parameter| (parameter.name.clone(), text(&parameter.value)))
        .collect();
    query.sort();
    Entry {
        case_sensitive: route.case_sensitive || matches!(path, Text::Regex(_)),
        path,
        authority: route.authority.as_ref().map(text),
        headers,
        query,
        below: route.percentage.unwrap_or(100),
        to: to(ir, route),
    }
}

fn text(value: &StringMatch) -> Text {
    match value {
        StringMatch::Exact(text) => Text::Exact(text.clone()),
        StringMatch::Prefix(text) => Text::Prefix(text.clone()),
        StringMatch::Suffix(text) => Text::Suffix(text.clone()),
        StringMatch::Regex(text) => Text::Regex(text.clone()),
    }
}

fn to(ir: &Ir, route: &Route) -> To {
    if let Action::Redirect(redirect) = &route.action {
        let number = redirect.host.trim_start_matches("redirect-");
        let number = number.trim_end_matches(".example").parse();
        return To::Redirect(number.expect("redirects name their Mapping"));
    }
    let Some(forward) = route.action.forward() else {
        return To::Unavailable;
    };
    match mapping(&ir.clusters[&forward.cluster]) {
        Some(number) => {
            let mirror = forward.mirrors.first();
            let shadow = mirror.and_then(|mirror| mapping(&ir.clusters[&mirror.cluster]));
            To::Service(number, shadow)
        }
        None => To::Unavailable,
    }
}

/// The Mapping whose service this is; `None`: its requests get 503.
fn mapping(cluster: &Cluster) -> Option<usize> {
    match &cluster.discovery {
        Discovery::Static { address, .. } => {
            let address = address.to_string();
            let number = address
                .rsplit('.')
                .next()
                .and_then(|last| last.parse().ok());
            Some(number.expect("every Mapping has an address of its own"))
        }
        Discovery::Empty => None,
        Discovery::Dns { .. } | Discovery::Several { .. } | Discovery::Endpoints(_) => {
            unreachable!("{cluster:?}")
        }
    }
}

/// Where connections without TLS go, with weights, by socket.
pub(crate) fn connections(ir: &Ir) -> Vec<(ListenerKey, Vec<(usize, u32)>)> {
    let mut all = Vec::new();
    for listener in ir.listeners.values() {
        for chain in &listener.chains {
            let ChainAction::Tcp(proxy) = &chain.action else {
                continue;
            };
            let targets = proxy.targets.iter();
            let targets = targets.map(|target| {
                let mapping = mapping(&ir.clusters[&target.cluster]);
                (mapping.expect("no TCPMapping is invalid"), target.weight)
            });
            all.push((listener.key, targets.collect()));
        }
    }
    all
}
