//! What a resource refers to.

use std::sync::Arc;

use crate::{
    ir::{self, ChainAction, Discovery, ResourceType, RouteForm},
    resource::Ref,
};

/// What Envoy waits for before it uses a cluster.
pub(super) fn of_cluster(cluster: &ir::Cluster) -> Vec<Ref> {
    let endpoints = match &cluster.discovery {
        Discovery::Endpoints(name) => Some((ResourceType::Endpoints, name.clone())),
        Discovery::Static { .. }
        | Discovery::Dns { .. }
        | Discovery::Several { .. }
        | Discovery::Empty => None,
    };
    endpoints.into_iter().chain(secrets(cluster)).collect()
}

/// Whether Envoy needs time until it can use a cluster that has its endpoints.
pub(super) fn warms(cluster: &ir::Cluster) -> bool {
    let needs_dns = match &cluster.discovery {
        Discovery::Dns { .. } => true,
        Discovery::Several { targets, .. } => super::cluster::needs_dns(targets),
        Discovery::Static { .. } | Discovery::Endpoints(_) | Discovery::Empty => false,
    };
    needs_dns || !cluster.health_checks.is_empty() || secrets(cluster).next().is_some()
}

fn secrets(cluster: &ir::Cluster) -> impl Iterator<Item = Ref> {
    let tls = cluster.tls.iter();
    let names = tls.flat_map(|tls| [&tls.certificate, &tls.trusted]);
    names
        .flatten()
        .map(|name| (ResourceType::Secret, name.clone()))
}

/// The cluster that a filter calls.
pub(super) fn of_filter(settings: &ir::FilterSettings) -> Vec<Ref> {
    let cluster = super::filter::cluster(settings).into_iter();
    cluster
        .map(|name| (ResourceType::Cluster, name.clone()))
        .collect()
}

/// Route tables, filters, secrets and clusters of a listener.
pub(super) fn of_listener(listener: &ir::Listener) -> Vec<Ref> {
    let filters = listener.filters.iter();
    let filters = filters.filter(|filter| filter.is_resource());
    let mut refs: Vec<Ref> = filters
        .map(|filter| (ResourceType::Filter, filter.name()))
        .collect();
    let logs = listener.http.access_logs.iter();
    let logs = logs.chain(&listener.tcp_access_logs);
    let logs = logs.filter_map(super::access_log::cluster);
    let tracing = listener.http.tracing.iter().map(|tracing| &tracing.cluster);
    refs.extend(
        logs.chain(tracing)
            .map(|name| (ResourceType::Cluster, name.clone())),
    );
    for chain in &listener.chains {
        if let Some(tls) = &chain.tls {
            let names = [Some(&tls.secret), tls.trusted.as_ref()];
            let names = names.into_iter().flatten();
            refs.extend(names.map(|name| (ResourceType::Secret, name.clone())));
        }
        match &chain.action {
            ChainAction::Http(table) => {
                refs.push((ResourceType::RouteTable, table.to_string().into()));
            }
            ChainAction::HttpByHost(table) => {
                refs.push((ResourceType::Scope, table.to_string().into()));
            }
            ChainAction::HttpByServerName => {
                let tables = chain.server_names.iter();
                let tables = tables.map(|name| listener.table_of(name).to_string().into());
                refs.extend(tables.map(|table| (ResourceType::Scope, table)));
            }
            ChainAction::Tcp(proxy) => {
                let targets = proxy.targets.iter();
                let cluster = |target: &ir::TcpTarget| target.cluster.clone();
                refs.extend(targets.map(|target| (ResourceType::Cluster, cluster(target))));
            }
            ChainAction::Close(_) => {}
        }
    }
    refs
}

/// Clusters of a route table. Neighbours with the same cluster are listed once.
pub(super) fn of_route_table(table: &ir::RouteTable) -> Vec<Ref> {
    let mut refs: Vec<Ref> = Vec::new();
    let mut add = |name: &Arc<str>| {
        if refs.last().is_none_or(|(_, last)| last != name) {
            refs.push((ResourceType::Cluster, name.clone()));
        }
    };
    for host in &table.virtual_hosts {
        for route in &host.routes {
            let forms = route.forms(host.insecure);
            let forwards = forms
                .iter()
                .any(|form| !matches!(form, RouteForm::Redirect));
            if let Some(forward) = route.action.forward().filter(|_| forwards) {
                add(&forward.cluster);
                forward
                    .mirrors
                    .iter()
                    .for_each(|mirror| add(&mirror.cluster));
            }
        }
    }
    refs
}
