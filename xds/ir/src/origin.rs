//! Where parts of the gateway come from: for readers that explain it to people. It is never rendered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{
    AccessLog, Action, ChainAction, FilterChain, FilterSettings, Ir, Listener, Route, RouteForm,
    VirtualHost, route::split_port,
};

/// An object that a part of the gateway is made from. To the model it is a name and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Kind of the object, such as `Mapping`.
    pub kind: &'static str,
    /// Namespace; empty for an object that has none.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// The origins of what refers to a cluster, by the name of the cluster.
pub type ClusterOrigins = BTreeMap<Arc<str>, BTreeSet<Origin>>;

impl Ir {
    /// Where a filter chain comes from: a cleartext one from the object of its listener; one with TLS from the objects with its
    /// server names, not from all whose requests it takes.
    #[must_use]
    pub fn chain_origins<'a>(
        &'a self,
        listener: &'a Listener,
        chain: &'a FilterChain,
    ) -> BTreeSet<&'a Origin> {
        let tables = match &chain.action {
            ChainAction::Close(origins) => return origins.iter().collect(),
            ChainAction::Tcp(proxy) => {
                return proxy.targets.iter().map(|target| &target.origin).collect();
            }
            ChainAction::Http(_) | ChainAction::HttpByHost(_) if chain.tls.is_none() => {
                return listener.origin.iter().collect();
            }
            ChainAction::Http(table) | ChainAction::HttpByHost(table) => vec![table.clone()],
            ChainAction::HttpByServerName => {
                let names = chain.server_names.iter();
                names.map(|name| listener.table_of(name)).collect()
            }
        };
        let tables = tables.iter().filter_map(|key| self.route_tables.get(key));
        let hosts = tables.flat_map(|table| &table.virtual_hosts);
        let names: BTreeSet<&str> = chain.server_names.iter().map(String::as_str).collect();
        let has_its_name = |host: &&VirtualHost| {
            let (name, _) = split_port(&host.domain);
            names.contains(name) || names.is_empty() && name == "*"
        };
        let own = hosts.filter(has_its_name);
        own.map(|host| &host.origin).collect()
    }

    /// Where each cluster comes from: the origins of the routes, chains, filters, logs and traces that refer to it.
    ///
    /// A cluster does not carry them itself. Thousands of routes can share one, and would change it whenever one of them
    /// comes or goes. This goes through the whole model: keep the result for as long as the model is kept.
    #[must_use]
    pub fn cluster_origins(&self) -> ClusterOrigins {
        let mut found = ClusterOrigins::new();
        let tables = self.route_tables.values();
        let virtual_hosts = tables.flat_map(|table| &table.virtual_hosts);
        for host in virtual_hosts {
            // where requests are only redirected, actions are not kept up to date
            let forwards = |route: &&Arc<Route>| {
                let mut forms = route.forms(host.insecure).iter();
                forms.any(|form| *form != RouteForm::Redirect)
            };
            for route in host.routes.iter().filter(forwards) {
                add_route(&mut found, route);
            }
        }
        for listener in self.listeners.values() {
            add_listener(&mut found, listener);
        }
        for settings in self.filters.values() {
            match &**settings {
                FilterSettings::Authorization(service) => {
                    let cluster = found.entry(service.cluster.clone()).or_default();
                    cluster.extend(service.origins.iter().cloned());
                }
                FilterSettings::RateLimit(service) => {
                    add(&mut found, &service.cluster, &service.origin);
                }
                _ => {}
            }
        }
        found
    }
}

fn add(found: &mut ClusterOrigins, cluster: &Arc<str>, origin: &Origin) {
    let origins = found.entry(cluster.clone()).or_default();
    origins.insert(origin.clone());
}

fn add_route(found: &mut ClusterOrigins, route: &Route) {
    let Action::Forward(forward) = &route.action else {
        return;
    };
    if let Some(own) = &route.origin {
        add(found, &forward.cluster, own);
    }
    for mirror in &forward.mirrors {
        add(found, &mirror.cluster, &mirror.origin);
    }
}

fn add_listener(found: &mut ClusterOrigins, listener: &Listener) {
    for chain in &listener.chains {
        if let ChainAction::Tcp(proxy) = &chain.action {
            for target in &proxy.targets {
                add(found, &target.cluster, &target.origin);
            }
        }
    }
    let logs = listener.http.access_logs.iter();
    for log in logs.chain(&listener.tcp_access_logs) {
        if let AccessLog::Service(service) = log {
            add(found, &service.cluster, &service.origin);
        }
    }
    if let Some(tracing) = &listener.http.tracing {
        add(found, &tracing.cluster, &tracing.origin);
    }
}
