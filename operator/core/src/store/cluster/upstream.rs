//! From an upstream and what it refers to, to its cluster and its endpoints. Pure.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use nuncio_ir::{ClientTls, Cluster, Discovery, Endpoints};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    family::Families,
    own::{is_own_address, leads_home},
    settings::Settings,
};
use crate::{
    defaults::Defaults,
    reconcile::{
        ClusterSettings, EndpointSlice, Name, Origination, Resolver, ResolverKind, Service,
        Upstream,
    },
    report::{Problem, Reason},
};

/// Identity of a set of endpoints: a Service and one of its ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct EndpointsKey {
    pub(in crate::store) service: Name,
    pub(in crate::store) port: u16,
    pub(in crate::store) families: Families,
}

impl EndpointsKey {
    /// The resource name.
    pub(in crate::store) fn resource(&self) -> Arc<str> {
        let suffix = match self.families {
            Families::Preferred => "",
            Families::V4 => "/ipv4",
            Families::V6 => "/ipv6",
            Families::Both => "/ipv4-ipv6",
            Families::None => "/none",
        };
        let Name { namespace, name } = &self.service;
        format!("k8s/{namespace}/{name}/{}{suffix}", self.port).into()
    }
}

/// What an upstream refers to.
pub(in crate::store) struct References<'a> {
    /// The Service that it names.
    pub(in crate::store) service: Option<&'a Service>,
    /// Whether the name can only mean a Service, so that a missing one is a problem.
    pub(in crate::store) must_be_service: bool,
    /// The resolver that it names; `None`: there is no such resolver, or it names none.
    pub(in crate::store) resolver: Option<ResolverKind>,
    /// TCP ports of the control plane on this host.
    pub(in crate::store) own_ports: &'a BTreeSet<u16>,
    /// TLS as the TLSContext that it names says, or why that cannot be used; `None`: there is no such TLSContext, or it
    /// names none.
    pub(in crate::store) tls_context: Option<Result<ClientTls, String>>,
}

/// The cluster of an upstream, with the endpoints that it needs and what is wrong with it.
pub(in crate::store) struct Linked {
    pub(in crate::store) cluster: Cluster,
    pub(in crate::store) endpoints: Option<EndpointsKey>,
    pub(in crate::store) problems: Vec<Problem>,
}

/// Links an upstream. Equal settings have equal results: clusters are shared.
pub(in crate::store) fn link(
    upstream: &Upstream,
    defaults: &Defaults,
    references: &References<'_>,
) -> Linked {
    let mut problems = Vec::new();
    let settings = Settings::new(&upstream.settings, defaults);
    let resolver = match &upstream.resolver {
        Resolver::Default => Some(defaults.resolver),
        Resolver::Named(_) => references.resolver,
    };
    let mut found = find(upstream, &settings, references, resolver, &mut problems);
    let tls = tls(upstream, references, &mut problems);
    let has_flaw = tls.is_err() || resolver.is_none();
    if let (Resolver::Named(name), None) = (&upstream.resolver, resolver) {
        problems.push(Problem::unresolved(Reason::RESOLVER_NOT_FOUND, "spec.resolver", format!("resolver {name:?} does not exist; requests get 503 (built in are kubernetes-service and endpoint)")));
    }
    let name: Arc<str> = cluster_name(
        upstream,
        &settings,
        &found.target,
        found.endpoints.is_some(),
    )
    .into();
    let leads_home = leads_home(&found.discovery, references.own_ports);
    if leads_home {
        problems.push(Problem::unresolved(
            Reason::OWN_ENDPOINT,
            "spec.service",
            format!(
                "port {} of this host belongs to the control plane; requests get 503",
                upstream.port
            ),
        ));
    }
    if has_flaw || leads_home {
        // anything else would lead somewhere that was not meant, or there without the TLS that was
        found.discovery = Discovery::Empty;
        found.endpoints = None;
    }
    let several = !matches!(found.discovery, Discovery::Static { .. });
    let by_endpoints = matches!(found.discovery, Discovery::Endpoints(_));
    if upstream.settings.balancer.is_some() && !several {
        problems.push(without_endpoints(
            "spec.load_balancer",
            "the Service is a single address",
        ));
    }
    if !settings.health_checks.is_empty() && !by_endpoints && !has_flaw {
        problems.push(without_endpoints(
            "spec.health_checks",
            "the address of a Service is not checked",
        ));
    }
    let stat_name = settings.stat_name.clone();
    let stat_name = stat_name.unwrap_or_else(|| format!("{}_{}", found.target, upstream.port));
    Linked {
        cluster: Cluster {
            name,
            stat_name: self::stat_name(&stat_name),
            discovery: found.discovery,
            tls: tls.ok().flatten(),
            http2: upstream.http2,
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            max_connection_lifetime: settings.max_connection_lifetime,
            balancer: settings.balancer.filter(|_| several).unwrap_or_default(),
            circuit_breakers: settings.circuit_breakers,
            keepalive: settings.keepalive,
            health_checks: if by_endpoints {
                settings.health_checks
            } else {
                Vec::new()
            },
            outlier_detection: settings.outlier_detection,
        },
        endpoints: found.endpoints,
        problems,
    }
}

/// Where an upstream is found.
struct Location {
    discovery: Discovery,
    endpoints: Option<EndpointsKey>,
    /// What it is called.
    target: String,
}

fn find(
    upstream: &Upstream,
    settings: &Settings,
    references: &References<'_>,
    resolver: Option<ResolverKind>,
    problems: &mut Vec<Problem>,
) -> Location {
    let by_endpoints = resolver == Some(ResolverKind::Endpoints);
    let at = |target: String, discovery| Location {
        discovery,
        endpoints: None,
        target,
    };
    let dns = |host: &str| match settings.families.dns() {
        None => Discovery::Empty,
        Some(family) => Discovery::Dns {
            host: host.to_owned(),
            port: upstream.port,
            family,
            logical: settings.logical_dns,
            respect_ttl: settings.respect_dns_ttl,
        },
    };
    let endpoints = |name: &Name| {
        let key = EndpointsKey {
            service: name.clone(),
            port: upstream.port,
            families: settings.families,
        };
        Location {
            discovery: Discovery::Endpoints(key.resource()),
            endpoints: Some(key),
            target: format!("{}.{}", name.name, name.namespace),
        }
    };
    if let Some(address) = upstream.address {
        let discovery = Discovery::Static {
            address,
            port: upstream.port,
        };
        return at(upstream.host.clone(), discovery);
    }
    if let Some(name) = &upstream.service
        && let Some(service) = references.service
    {
        let target = format!("{}.{}", name.name, name.namespace);
        let uses_endpoints = by_endpoints || service.is_headless();
        check_port(name, service, upstream.port, uses_endpoints, problems);
        if let Some(external) = &service.external_name {
            check_families(settings.families, problems);
            return at(target, dns(external));
        }
        if !service.has_families(|v4| settings.families.select(vec![v4], |v4| *v4).len() == 1) {
            problems.push(Problem::unresolved(
                Reason::NO_ADDRESS,
                "spec.service",
                format!(
                    "Service {name} has no {} address; requests get 503",
                    settings.families.name()
                ),
            ));
            return at(target, Discovery::Empty);
        }
        return match settings.families.first(&service.cluster_ips) {
            Some(address) if !uses_endpoints => {
                let port = upstream.port;
                at(target, Discovery::Static { address, port })
            }
            _ => endpoints(name),
        };
    }
    if let Some(name) = upstream.service.as_ref().filter(|_| by_endpoints) {
        problems.push(not_found(name, "requests get 503 until it is created"));
        return endpoints(name);
    }
    if let Some(name) = &upstream.service
        && references.must_be_service
    {
        problems.push(not_found(
            name,
            "using DNS; requests get 503 if the name does not resolve",
        ));
    }
    check_families(settings.families, problems);
    at(upstream.host.clone(), dns(&upstream.host))
}

/// Reports that DNS cannot be queried.
fn check_families(families: Families, problems: &mut Vec<Problem>) {
    if families.dns().is_none() {
        problems.push(Problem::unresolved(
            Reason::NO_ADDRESS,
            "spec.enable_ipv4",
            "enable_ipv4 and enable_ipv6 are both false; requests get 503",
        ));
    }
}

/// How TLS is originated; an error if it cannot be as configured.
fn tls(
    upstream: &Upstream,
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<ClientTls>, ()> {
    let name = match &upstream.tls {
        Origination::None => return Ok(None),
        Origination::Plain => return Ok(Some(ClientTls::default())),
        Origination::Context(name) => name,
    };
    match &references.tls_context {
        Some(Ok(tls)) => {
            if tls.trusted.is_none() {
                problems.push(not_verified(&format!(
                    "set ca_secret in TLSContext {:?}",
                    name.name
                )));
            }
            Ok(Some(tls.clone()))
        }
        // as version v2 could have it
        None if &*name.name == "true" => {
            problems.push(not_verified("set tls to a TLSContext with ca_secret"));
            Ok(Some(ClientTls::default()))
        }
        None => {
            problems.push(Problem::unresolved(
                Reason::TLS_CONTEXT_NOT_FOUND,
                "spec.tls",
                format!(
                    "TLSContext {:?} does not exist; requests get 503 until it is created",
                    name.name
                ),
            ));
            Err(())
        }
        Some(Err(reason)) => {
            problems.push(Problem::unresolved(
                Reason::INVALID_TLS_CONTEXT,
                "spec.tls",
                format!(
                    "TLSContext {:?} cannot be used: {reason}; requests get 503 until it is fixed",
                    name.name
                ),
            ));
            Err(())
        }
    }
}

fn not_verified(advice: &str) -> Problem {
    Problem::notice(
        Reason::UNVERIFIED_UPSTREAM,
        "spec.tls",
        format!("the certificate of the service is not verified; {advice}"),
    )
}

/// `TARGET:PORT`, then what differs from the ordinary: readable, and different for different settings.
fn cluster_name(upstream: &Upstream, settings: &Settings, target: &str, endpoints: bool) -> String {
    let mut name = if target.contains(':') {
        format!("[{target}]:{}", upstream.port)
    } else {
        format!("{target}:{}", upstream.port)
    };
    if endpoints {
        name.push_str("/endpoints");
    }
    match &upstream.tls {
        Origination::None => {}
        Origination::Plain => name.push_str("/tls"),
        Origination::Context(context) => {
            name.push_str(&format!("/tls/{}/{}", context.namespace, context.name));
        }
    }
    if upstream.http2 {
        name.push_str("/h2");
    }
    let mut other = described(settings);
    if let Resolver::Named(resolver) = &upstream.resolver
        && !["kubernetes-service", "endpoint", "kubernetes-endpoint"].contains(&&**resolver)
    {
        other.push_str(&format!("resolver={resolver};"));
    }
    if !other.is_empty() {
        name.push_str(&format!("/{:08x}", xxh3_64(other.as_bytes()) >> 32));
    }
    name
}

/// What differs from the built-in defaults, as text that is the same for the same settings in every release.
fn described(settings: &Settings) -> String {
    let default = Settings::new(&ClusterSettings::default(), &Defaults::default());
    let mut text = String::new();
    let mut add = |name: &str, value: &dyn std::fmt::Debug, differs: bool| {
        if differs {
            text.push_str(&format!("{name}={value:?};"));
        }
    };
    let s = settings;
    add(
        "connect",
        &s.connect_timeout,
        s.connect_timeout != default.connect_timeout,
    );
    add("dns", &s.logical_dns, s.logical_dns);
    add("families", &s.families, s.families != default.families);
    add("ttl", &s.respect_dns_ttl, s.respect_dns_ttl);
    add("idle", &s.idle_timeout, s.idle_timeout.is_some());
    add(
        "lifetime",
        &s.max_connection_lifetime,
        s.max_connection_lifetime.is_some(),
    );
    add("lb", &s.balancer, s.balancer.is_some());
    add(
        "breakers",
        &s.circuit_breakers,
        !s.circuit_breakers.is_empty(),
    );
    add("keepalive", &s.keepalive, s.keepalive.is_some());
    add("health", &s.health_checks, !s.health_checks.is_empty());
    add(
        "outlier",
        &s.outlier_detection,
        s.outlier_detection.is_some(),
    );
    add("stat", &s.stat_name, s.stat_name.is_some());
    add("tag", &s.tag, s.tag.is_some());
    text
}

fn without_endpoints(path: &str, why: &str) -> Problem {
    Problem::ignored(
        Reason::NEEDS_ENDPOINTS,
        path,
        format!("ignored: {why}; set resolver: endpoint"),
    )
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

fn check_port(
    name: &Name,
    service: &Service,
    port: u16,
    uses_endpoints: bool,
    problems: &mut Vec<Problem>,
) {
    if service.external_name.is_some()
        || service.ports.is_empty()
        || service.ports.contains_key(&port)
    {
        return;
    }
    let is_target = service.is_headless() || service.targets.contains(&port);
    let ports: Vec<String> = service.ports.keys().map(ToString::to_string).collect();
    let fact = format!(
        "Service {name} has no TCP port {port} (its ports: {})",
        ports.join(", ")
    );
    problems.push(if uses_endpoints && is_target {
        Problem::notice(
            Reason::PORT_NOT_FOUND,
            "spec.service",
            format!("{fact}; using port {port} of each pod"),
        )
    } else {
        Problem::unresolved(
            Reason::PORT_NOT_FOUND,
            "spec.service",
            format!("{fact}; requests are still sent to {port}"),
        )
    });
}

fn not_found(name: &Name, instead: &str) -> Problem {
    Problem::unresolved(
        Reason::SERVICE_NOT_FOUND,
        "spec.service",
        format!("Service {name} does not exist; {instead}"),
    )
}

/// The addresses behind a port of a Service: those that are ready, or else those that still serve while they terminate,
/// as in kube-proxy (KEP-1669).
pub(in crate::store) fn endpoints<'a>(
    key: &EndpointsKey,
    service: Option<&Service>,
    slices: &(impl Iterator<Item = &'a EndpointSlice> + Clone),
    own_ports: &BTreeSet<u16>,
) -> Endpoints {
    // an EndpointSlice names its ports as the Service does
    let name = service.and_then(|service| service.ports.get(&key.port));
    let is_headless = service.is_some_and(Service::is_headless);
    let port = |slice: &EndpointSlice| match name {
        Some(name) => slice.ports.get(name).copied(),
        // as with DNS, any number is that of the pods
        None if is_headless => Some(key.port),
        None => slice.ports.values().copied().find(|port| *port == key.port),
    };
    let addresses = |ready: bool| {
        let all = slices.clone().flat_map(|slice| {
            let addresses = if ready {
                &slice.ready
            } else {
                &slice.terminating
            };
            let port = port(slice);
            let addresses = addresses
                .iter()
                .filter_map(move |address| Some((*address, port?)));
            addresses.map(SocketAddr::from)
        });
        let is_own = |address: &SocketAddr| {
            own_ports.contains(&address.port()) && is_own_address(address.ip())
        };
        let all = all.filter(|address| !is_own(address));
        let mut addresses = key.families.select(all.collect(), SocketAddr::is_ipv4);
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
