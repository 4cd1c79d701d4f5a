//! From an upstream and what it refers to, to its cluster and its endpoints. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nuncio_ir::{ClientTls, Cluster, Discovery};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    family::Families,
    own::{is_own, leads_home},
    settings::Settings,
};
use crate::{
    consul::{ConsulService, ConsulState},
    defaults::Defaults,
    reconcile::{
        ClusterSettings, EndpointSlice, Name, Origination, ResolverKind, Service, Upstream,
    },
    report::{Problem, Reason},
    store::resolver::Meaning,
};

/// Resolvers that make no cluster differ from those of others.
const KUBERNETES: [&str; 3] = ["kubernetes-service", "endpoint", "kubernetes-endpoint"];

/// What version v2 could have in place of a TLSContext: TLS without any.
const ANY_SERVER: &str = "true";

/// Identity of a set of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum EndpointsKey {
    /// A Service and one of its ports.
    Service {
        service: Name,
        port: u16,
        families: Families,
    },
    /// A service of Consul, whose instances have ports of their own.
    Consul {
        service: ConsulService,
        families: Families,
    },
}

impl EndpointsKey {
    /// The resource name.
    pub(in crate::store) fn resource(&self) -> Arc<str> {
        let (name, families) = match self {
            Self::Service {
                service: Name { namespace, name },
                port,
                families,
            } => (format!("k8s/{namespace}/{name}/{port}"), families),
            Self::Consul { service, families } => (service.to_string(), families),
        };
        let suffix = match families {
            Families::Preferred => return name.into(),
            Families::V4 => "ipv4",
            Families::V6 => "ipv6",
            Families::Both => "ipv4-ipv6",
            Families::None => "none",
        };
        format!("{name}/{suffix}").into()
    }
}

/// The service of Consul that an upstream is.
pub(in crate::store) struct ConsulReference {
    pub(in crate::store) service: ConsulService,
    /// Why its agent is not queried.
    pub(in crate::store) problem: Option<String>,
}

/// What an upstream refers to.
pub(in crate::store) struct References<'a> {
    /// The Service that it names.
    pub(in crate::store) service: Option<&'a Service>,
    /// Whether the name can only mean a Service, so that a missing one is a problem.
    pub(in crate::store) must_be_service: bool,
    /// The resolver that it names, or the default.
    pub(in crate::store) resolver_name: &'a str,
    /// That resolver; `None`: there is none of this name.
    pub(in crate::store) resolver: Option<&'a Meaning>,
    /// The service that it is, if the resolver is one for Consul.
    pub(in crate::store) consul: Option<&'a ConsulReference>,
    /// What is known of that.
    pub(in crate::store) consul_state: Option<&'a ConsulState>,
    /// TCP ports of the control plane on this host.
    pub(in crate::store) own_ports: &'a BTreeSet<u16>,
    /// Name in statistics, if it has none of its own.
    pub(in crate::store) stat_name: Option<&'a String>,
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
    let mut settings = Settings::new(&upstream.settings, defaults);
    settings.stat_name = settings.stat_name.or_else(|| references.stat_name.cloned());
    let is_resolved = check_resolver(references, &mut problems)
        && check_consul(upstream, references, &mut problems);
    let mut found = match references.consul {
        _ if !is_resolved => Location::nowhere(upstream),
        Some(consul) => Location::in_consul(consul.service.clone(), settings.families),
        None => find(upstream, &settings, references, &mut problems),
    };
    let tls = tls(upstream, references, &mut problems);
    if is_resolved && tls.is_ok() {
        check_instances(references, settings.families, &mut problems);
    }
    let has_flaw = tls.is_err() || !is_resolved;
    let resolver = references.resolver_name;
    let mut name = cluster_name(upstream, &settings, &found, resolver, is_resolved);
    // before a flaw takes the endpoints away: it follows from what the cluster is named after
    let stat_name = settings.stat_name.clone();
    let stat_name = stat_name.unwrap_or_else(|| found.stat_name(upstream.port));
    let is_own = leads_home(&found.discovery, references.own_ports);
    if is_own && upstream.may_be_own {
        // others that name this port must not share it
        name.push_str("/own");
    }
    let leads_home = is_own && !upstream.may_be_own;
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
    let by_zone = matches!(found.endpoints, Some(EndpointsKey::Service { .. }))
        && references.service.is_some_and(|service| service.by_zone);
    Linked {
        cluster: Cluster {
            name: name.into(),
            stat_name: self::stat_name(&stat_name),
            discovery: found.discovery,
            tls: tls.ok().flatten(),
            http2: upstream.http2,
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            max_connection_lifetime: settings.max_connection_lifetime,
            balancer: settings.balancer.filter(|_| several).unwrap_or_default(),
            by_zone,
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

impl Location {
    fn nowhere(upstream: &Upstream) -> Self {
        let named = |Name { namespace, name }: &Name| format!("{name}.{namespace}");
        Self {
            discovery: Discovery::Empty,
            endpoints: None,
            target: match &upstream.service {
                Some(name) => named(name),
                None => upstream.host.clone(),
            },
        }
    }

    fn in_consul(service: ConsulService, families: Families) -> Self {
        let target = service.name.to_string();
        Self::of(EndpointsKey::Consul { service, families }, target)
    }

    /// Its name in statistics, unless it has been given one.
    fn stat_name(&self, port: u16) -> String {
        match &self.endpoints {
            Some(EndpointsKey::Consul { .. }) => self.target.clone(),
            _ => format!("{}_{port}", self.target),
        }
    }

    fn of(key: EndpointsKey, target: String) -> Self {
        Self {
            discovery: Discovery::Endpoints(key.resource()),
            endpoints: Some(key),
            target,
        }
    }
}

/// Whether the resolver can be used.
fn check_resolver(references: &References<'_>, problems: &mut Vec<Problem>) -> bool {
    let (reason, message) = match references.resolver {
        None => (
            Reason::RESOLVER_NOT_FOUND,
            format!(
                "resolver {:?} does not exist; requests get 503 (built in are kubernetes-service, endpoint and consul)",
                references.resolver_name
            ),
        ),
        Some(Meaning {
            kind: ResolverKind::Invalid,
            object,
        }) => {
            let object = object.as_ref().map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "{object} is invalid (see its conditions); requests get 503 until it is fixed"
            );
            (Reason::INVALID_RESOLVER, message)
        }
        Some(_) => return true,
    };
    problems.push(Problem::unresolved(reason, "spec.resolver", message));
    false
}

/// Whether the upstream can be a service of Consul, if its resolver is one for Consul.
fn check_consul(
    upstream: &Upstream,
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> bool {
    let Some(consul) = references.consul else {
        return true;
    };
    let name = &consul.service.name;
    if !can_be_in_consul(&consul.service) {
        problems.push(Problem::unresolved(
            Reason::SERVICE_NOT_FOUND,
            "spec.service",
            format!(
                "{name:?} has a dot, which names of Consul services cannot have; requests get 503"
            ),
        ));
        return false;
    }
    if upstream.has_port {
        problems.push(Problem::notice(
            Reason::WITHOUT_EFFECT,
            "spec.service",
            format!(
                "port {} is ignored: each instance in Consul has its own",
                upstream.port
            ),
        ));
    }
    true
}

/// Whether a service of Consul can have this name.
pub(in crate::store) fn can_be_in_consul(service: &ConsulService) -> bool {
    !service.name.contains('.')
}

/// Reports that a service of Consul has no address.
fn check_instances(references: &References<'_>, families: Families, problems: &mut Vec<Problem>) {
    let Some(consul) = references.consul else {
        return;
    };
    let name = &consul.service.name;
    let known = references.consul_state;
    let addresses = known.map(|state| state.addresses.as_slice());
    let addresses = addresses.unwrap_or_default().to_vec();
    if !families.select(addresses, SocketAddr::is_ipv4).is_empty() {
        return;
    }
    let problem = consul.problem.as_ref();
    let problem = problem.or_else(|| known?.problem.as_ref());
    if let Some(problem) = problem {
        problems.push(Problem::unresolved(
            Reason::CONSUL_UNAVAILABLE,
            "spec.resolver",
            format!("{problem}; requests get 503"),
        ));
    } else if let Some(state) = known {
        let which = match state.addresses.is_empty() {
            true => String::new(),
            false => format!(" with an {} address", families.name()),
        };
        problems.push(Problem::unresolved(
            Reason::NO_ADDRESS,
            "spec.service",
            format!(
                "Consul service {name:?} has no passing instance{which} in datacenter {}; requests get 503",
                consul.service.datacenter
            ),
        ));
    }
}

fn find(
    upstream: &Upstream,
    settings: &Settings,
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> Location {
    let resolver = references.resolver.map(|resolver| &resolver.kind);
    let by_endpoints = resolver == Some(&ResolverKind::Endpoints);
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
        let key = EndpointsKey::Service {
            service: name.clone(),
            port: upstream.port,
            families: settings.families,
        };
        Location::of(key, format!("{}.{}", name.name, name.namespace))
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

/// Whether TLS can be originated as configured, if this is the TLSContext.
pub(in crate::store) fn can_originate(
    upstream: &Upstream,
    context: Option<&Result<ClientTls, String>>,
) -> bool {
    match (&upstream.tls, context) {
        (Origination::Context(name), None) => &*name.name == ANY_SERVER,
        (Origination::Context(_), Some(context)) => context.is_ok(),
        (Origination::None | Origination::Plain, _) => true,
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
        None if &*name.name == ANY_SERVER => {
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

/// `TARGET:PORT` or a service of Consul, then what differs from the ordinary: readable, and different for different settings.
fn cluster_name(
    upstream: &Upstream,
    settings: &Settings,
    found: &Location,
    resolver: &str,
    is_resolved: bool,
) -> String {
    let (target, port) = (&found.target, upstream.port);
    let mut name = match &found.endpoints {
        Some(EndpointsKey::Consul { service, .. }) => service.to_string(),
        Some(EndpointsKey::Service { .. }) => format!("{target}:{port}/endpoints"),
        None if target.contains(':') => format!("[{target}]:{port}"),
        None => format!("{target}:{port}"),
    };
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
    let is_consul = matches!(found.endpoints, Some(EndpointsKey::Consul { .. }));
    if !is_resolved || (!is_consul && !KUBERNETES.contains(&resolver)) {
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
    (port, families): (u16, Families),
    service: Option<&Service>,
    slices: &(impl Iterator<Item = &'a EndpointSlice> + Clone),
    own_ports: &BTreeSet<u16>,
) -> Vec<SocketAddr> {
    // an EndpointSlice names its ports as the Service does
    let name = service.and_then(|service| service.ports.get(&port));
    let is_headless = service.is_some_and(Service::is_headless);
    let port = |slice: &EndpointSlice| match name {
        Some(name) => slice.ports.get(name).copied(),
        // as with DNS, any number is that of the pods
        None if is_headless => Some(port),
        None => slice.ports.values().copied().find(|found| *found == port),
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
        let all = all.filter(|address| !is_own(address, own_ports));
        let mut addresses = families.select(all.collect(), SocketAddr::is_ipv4);
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    };
    let ready = addresses(true);
    if ready.is_empty() {
        addresses(false)
    } else {
        ready
    }
}

/// The zones that addresses are meant for, if the Service asks for it. As in kube-proxy, hints count only if every ready
/// endpoint has one.
pub(in crate::store) fn zones<'a>(
    addresses: &[SocketAddr],
    service: Option<&Service>,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> BTreeMap<SocketAddr, Arc<str>> {
    if !service.is_some_and(|service| service.by_zone) {
        return BTreeMap::new();
    }
    let hints: BTreeMap<IpAddr, &Arc<str>> = slices
        .flat_map(|slice| &slice.zones)
        .map(|(address, zone)| (*address, zone))
        .collect();
    let zone = |address: &SocketAddr| {
        let zone = hints.get(&address.ip())?;
        Some((*address, Arc::clone(zone)))
    };
    let zones: Option<BTreeMap<_, _>> = addresses.iter().map(zone).collect();
    zones.unwrap_or_default()
}
