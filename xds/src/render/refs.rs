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
        Discovery::Static { .. } | Discovery::Dns { .. } | Discovery::Empty => None,
    };
    endpoints.into_iter().chain(secrets(cluster)).collect()
}

/// Whether Envoy needs time until it can use a cluster that has its endpoints.
pub(super) fn warms(cluster: &ir::Cluster) -> bool {
    matches!(cluster.discovery, Discovery::Dns { .. })
        || !cluster.health_checks.is_empty()
        || secrets(cluster).next().is_some()
}

fn secrets(cluster: &ir::Cluster) -> impl Iterator<Item = Ref> {
    let tls = cluster.tls.iter();
    let names = tls.flat_map(|tls| [&tls.certificate, &tls.trusted]);
    names
        .flatten()
        .map(|name| (ResourceType::Secret, name.clone()))
}

/// Route tables, secrets and clusters of a listener.
pub(super) fn of_listener(listener: &ir::Listener) -> Vec<Ref> {
    let mut refs = Vec::new();
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
            ChainAction::Tcp(proxy) => {
                let clusters = proxy.clusters.iter();
                refs.extend(clusters.map(|(name, _)| (ResourceType::Cluster, name.clone())));
            }
            ChainAction::Close => {}
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
