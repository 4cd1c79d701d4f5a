//! Linking of an upstream: the Service that a Mapping's host means, the cluster that follows, and its endpoints.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use nuncio_xds::ir::{Cluster, Discovery, DnsFamily, Endpoints};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    object::ObjectRef,
    reconcile::{EndpointSlice, Name, Service, Upstream},
    report::{ConditionType, Problem, Severity},
};

/// A connection to the outside that takes longer has failed; upstream's default.
const CONNECT_TIMEOUT_MS: u128 = 3000;

/// Identity of a set of endpoints: a Service and the port of it that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndpointsKey {
    pub(super) service: Name,
    pub(super) port: u16,
}

impl EndpointsKey {
    /// The resource name.
    pub(super) fn resource(&self) -> Arc<str> {
        format!(
            "k8s/{}/{}/{}",
            self.service.namespace, self.service.name, self.port
        )
        .into()
    }
}

/// What is known of Services.
pub(super) struct Known<'a> {
    pub(super) services: &'a BTreeMap<Name, Arc<Service>>,
    /// Whether a namespace has any Service at all: then `a.b` with `b` that namespace can only mean a Service.
    pub(super) has_services: &'a dyn Fn(&str) -> bool,
    /// Whether every Service there is is known.
    pub(super) complete: bool,
}

/// The cluster of an upstream, with the endpoints that it needs and what is wrong with it.
pub(super) struct Linked {
    pub(super) cluster: Cluster,
    pub(super) endpoints: Option<EndpointsKey>,
    pub(super) problems: Vec<Problem>,
}

/// Links an upstream. Equal results for equal settings, whoever asks: clusters are shared.
pub(super) fn link(upstream: &Upstream, known: &Known<'_>) -> Linked {
    let mut problems = Vec::new();
    let found = upstream
        .service
        .as_ref()
        .and_then(|name| known.services.get(name).map(|service| (name, service)));
    let dns = |host: &str| Discovery::Dns {
        host: host.to_owned(),
        port: upstream.port,
        family: upstream.dns_family,
        logical: upstream.logical_dns,
    };
    let mut endpoints = None;
    let mut target = upstream.host.clone();
    let discovery = if let Some(address) = upstream.address {
        Discovery::Static {
            address,
            port: upstream.port,
        }
    } else if let Some((name, service)) = found {
        target = format!("{}.{}", name.name, name.namespace);
        check_port(name, service, upstream.port, &mut problems);
        match (&service.external_name, service.cluster_ip) {
            (Some(external), _) => dns(external),
            (None, Some(address)) if !upstream.endpoints => Discovery::Static {
                address,
                port: upstream.port,
            },
            // a headless Service has no address but those of its pods
            (None, _) => {
                let key = EndpointsKey {
                    service: name.clone(),
                    port: upstream.port,
                };
                let discovery = Discovery::Endpoints(key.resource());
                endpoints = Some(key);
                discovery
            }
        }
    } else if let Some(name) = upstream.service.as_ref().filter(|_| upstream.endpoints) {
        target = format!("{}.{}", name.name, name.namespace);
        problems.push(not_found(
            name,
            "no endpoints are known, so requests are answered with 503",
        ));
        let key = EndpointsKey {
            service: name.clone(),
            port: upstream.port,
        };
        let discovery = Discovery::Endpoints(key.resource());
        endpoints = Some(key);
        discovery
    } else {
        if let Some(name) = &upstream.service
            && known.complete
            && (upstream.only_service || (known.has_services)(&name.namespace))
        {
            problems.push(not_found(
                name,
                "requests go to whatever DNS says, and are answered with 503 if it says nothing",
            ));
        }
        dns(&upstream.host)
    };
    let name: Arc<str> = cluster_name(upstream, &target, endpoints.is_some()).into();
    let stat_name = upstream
        .stat_name
        .clone()
        .unwrap_or_else(|| stat_name(&format!("{target}_{}", upstream.port)));
    Linked {
        cluster: Cluster {
            name,
            stat_name,
            discovery,
            tls: upstream.tls,
            http2: upstream.http2,
            connect_timeout: upstream.connect_timeout,
        },
        endpoints,
        problems,
    }
}

/// `TARGET:PORT`, then what differs from the ordinary: readable, and different for different settings.
fn cluster_name(upstream: &Upstream, target: &str, endpoints: bool) -> String {
    let mut name = if target.contains(':') {
        format!("[{target}]:{}", upstream.port)
    } else {
        format!("{target}:{}", upstream.port)
    };
    for (set, suffix) in [
        (endpoints, "/endpoints"),
        (upstream.tls, "/tls"),
        (upstream.http2, "/h2"),
    ] {
        if set {
            name.push_str(suffix);
        }
    }
    let mut other = String::new();
    if upstream.connect_timeout.as_millis() != CONNECT_TIMEOUT_MS {
        other.push_str(&format!("connect={:?};", upstream.connect_timeout));
    }
    if upstream.dns_family != DnsFamily::V4 || upstream.logical_dns {
        other.push_str(&format!(
            "dns={:?},{};",
            upstream.dns_family, upstream.logical_dns
        ));
    }
    if let Some(stat_name) = &upstream.stat_name {
        other.push_str(&format!("stat={stat_name};"));
    }
    if let Some(tag) = &upstream.tag {
        other.push_str(&format!("tag={tag};"));
    }
    if !other.is_empty() {
        name.push_str(&format!("/{:08x}", xxh3_64(other.as_bytes()) >> 32));
    }
    name
}

/// Dots and colons separate the parts of a statistic's name, so they cannot be part of one.
fn stat_name(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn check_port(name: &Name, service: &Service, port: u16, problems: &mut Vec<Problem>) {
    if service.external_name.is_some()
        || service.ports.is_empty()
        || service.ports.contains_key(&port)
    {
        return;
    }
    let ports: Vec<String> = service.ports.keys().map(ToString::to_string).collect();
    problems.push(Problem {
        severity: Severity::Warning,
        condition: ConditionType::ResolvedRefs,
        reason: "PortNotFound",
        path: "spec.service".to_owned(),
        message: format!(
            "Service {name} has no TCP port {port}, only {}; requests go to {port} all the same and will probably fail",
            ports.join(", ")
        ),
    });
}

fn not_found(name: &Name, instead: &str) -> Problem {
    Problem {
        severity: Severity::Warning,
        condition: ConditionType::ResolvedRefs,
        reason: "ServiceNotFound",
        path: "spec.service".to_owned(),
        message: format!(
            "there is no Service {:?} in namespace {:?}; {instead}",
            name.name, name.namespace
        ),
    }
}

/// The addresses behind a port of a Service: those that are ready, or else those that still serve while they end,
/// as kube-proxy does it (KEP-1669).
pub(super) fn endpoints<'a>(
    key: &EndpointsKey,
    service: Option<&Service>,
    slices: &(impl Iterator<Item = &'a EndpointSlice> + Clone),
) -> Endpoints {
    let port_name = service.and_then(|service| service.ports.get(&key.port));
    let addresses = |ready: bool| {
        let mut addresses: Vec<SocketAddr> = slices
            .clone()
            .filter_map(|slice| {
                // an EndpointSlice names its ports as the Service does; without such a port the number is the pod's
                let port = match port_name {
                    Some(name) => slice.ports.get(name).copied(),
                    None => slice.ports.values().copied().find(|port| *port == key.port),
                }?;
                let addresses = if ready {
                    &slice.ready
                } else {
                    &slice.terminating
                };
                Some(
                    addresses
                        .iter()
                        .map(move |address| SocketAddr::new(*address, port)),
                )
            })
            .flatten()
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    };
    let ready = addresses(true);
    Endpoints {
        name: key.resource(),
        addresses: if ready.is_empty() {
            addresses(false)
        } else {
            ready
        },
    }
}

/// Objects by what they refer to.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<Name, std::collections::BTreeSet<ObjectRef>>);

impl Users {
    pub(super) fn add(&mut self, name: &Name, user: &ObjectRef) {
        self.0.entry(name.clone()).or_default().insert(user.clone());
    }

    pub(super) fn remove(&mut self, name: &Name, user: &ObjectRef) {
        if let Some(users) = self.0.get_mut(name) {
            users.remove(user);
            if users.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// Who refers to this.
    pub(super) fn of(&self, name: &Name) -> impl Iterator<Item = &ObjectRef> {
        self.0.get(name).into_iter().flatten()
    }

    /// Who refers to anything in this namespace.
    pub(super) fn of_namespace<'a>(
        &'a self,
        namespace: &'a Arc<str>,
    ) -> impl Iterator<Item = &'a ObjectRef> {
        let first = Name {
            namespace: namespace.clone(),
            name: "".into(),
        };
        self.0
            .range(first..)
            .take_while(move |(name, _)| name.namespace == *namespace)
            .flat_map(|(_, users)| users)
    }

    /// Everything that anybody refers to.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }
}
