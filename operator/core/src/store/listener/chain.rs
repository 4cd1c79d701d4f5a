//! From the claims of a socket to its Listener, its filter chains and their tables. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use nuncio_ir::{
    self as ir, ChainAction, HttpFilter, Insecure, ListenerKey, ServerTls, TableKey, TlsVersion,
    Transport,
};

use crate::{
    glob,
    object::ObjectRef,
    reconcile::{Host, InsecureAction, Listener, Namespaces, SecurityModel},
    report::{Problem, Reason},
    selector::{LabelSet, Labels},
    store::{
        host::NoTls,
        namespace::Namespaces as KnownNamespaces,
        neighbour::{self, Neighbours},
        tcp_mapping::TcpGroup,
    },
};

/// Up to this many host names on a Listener, each table of a TLS chain names those of the other chains.
const MAX_NAMES_ELSEWHERE: usize = 50;

/// A Host that may be served on a socket.
#[derive(Clone)]
pub(in crate::store) struct Candidate<'a> {
    pub(in crate::store) object: &'a ObjectRef,
    pub(in crate::store) host: &'a Host,
    /// TLS termination, if it is set up; an error: it cannot be terminated.
    pub(in crate::store) tls: Option<Result<ServerTls, NoTls>>,
}

/// What a socket is linked to.
#[derive(Debug, Default, PartialEq)]
pub(in crate::store) struct Link {
    pub(in crate::store) listener: Option<ir::Listener>,
    /// Virtual hosts of each table, in order.
    pub(in crate::store) tables: BTreeMap<TableKey, Table>,
    /// Hosts that are served here.
    pub(in crate::store) hosts: BTreeSet<ObjectRef>,
    /// TCPMappings that are served here.
    pub(in crate::store) tcp_mappings: BTreeSet<ObjectRef>,
    /// Problems of Listeners, Hosts and TCPMappings on this socket.
    pub(in crate::store) problems: BTreeMap<ObjectRef, Vec<Problem>>,
}

/// Virtual hosts of a table.
#[derive(Debug, Default, PartialEq)]
pub(in crate::store) struct Table {
    /// By domain.
    pub(in crate::store) virtual_hosts: BTreeMap<Arc<str>, VirtualHost>,
    /// Domains that get 421.
    pub(in crate::store) misdirected: BTreeSet<Arc<str>>,
    /// Port at which clients find the same by HTTP/3.
    pub(in crate::store) http3: Option<u16>,
}

/// A virtual host, the routes of which are those attached to the Host.
#[derive(Debug, PartialEq)]
pub(in crate::store) struct VirtualHost {
    pub(in crate::store) host: ObjectRef,
    pub(in crate::store) insecure: Insecure,
}

/// The claims of a socket, and what may be served on it.
pub(in crate::store) struct Inputs<'a> {
    /// Listeners: the first has the socket.
    pub(in crate::store) claims: Vec<(&'a ObjectRef, &'a Listener)>,
    /// TCPMappings, by server name.
    pub(in crate::store) tcp: Vec<TcpGroup<'a>>,
    /// All Hosts, in order: the first with a hostname has it.
    pub(in crate::store) hosts: Vec<Candidate<'a>>,
    /// Bind address of sockets without an own one.
    pub(in crate::store) address: IpAddr,
    /// Whether a selector matches with one of its labels.
    pub(in crate::store) loose: bool,
    /// The Listener for HTTP/3 beside this socket, and the port at which clients reach it.
    pub(in crate::store) http3: Option<(&'a ObjectRef, &'a Listener, u16)>,
    /// Labels of namespaces.
    pub(in crate::store) namespaces: &'a KnownNamespaces,
    /// HTTP filters of every listener.
    pub(in crate::store) filters: BTreeSet<HttpFilter>,
}

/// Links a socket. TCPMappings take precedence over Hosts, and need no Listener.
pub(in crate::store) fn link(key: ListenerKey, inputs: &Inputs<'_>) -> Link {
    let mut link = Link::default();
    let address = key.address.unwrap_or(inputs.address);
    let mut chains = link.tcp_chains(&inputs.tcp);
    let with_names = inputs.tcp.iter().any(|group| group.server_name.is_some());
    let Some(((owner, listener), losers)) = inputs.claims.split_first() else {
        link.listener = (!chains.is_empty()).then(|| ir::Listener {
            key,
            address,
            stat_prefix: if with_names {
                format!("ingress_tls_{}", key.port)
            } else {
                format!("ingress_tcp_{}", key.port)
            },
            proxy_protocol: false,
            tls: with_names,
            l7_depth: 0,
            max_concurrent_streams: None,
            filters: BTreeSet::new(),
            chains,
        });
        return link;
    };
    link.report_losers(key, owner, listener, losers);
    if listener.http {
        let bound: Vec<&Candidate<'_>> = inputs
            .hosts
            .iter()
            .filter(|host| takes(owner, listener, host, inputs))
            .collect();
        if listener.tls {
            chains.extend(link.tls_chains(key, listener, &bound, inputs));
        }
        if key.transport == Transport::Tcp {
            chains.extend(link.cleartext_chain(key, owner, listener, &bound, &inputs.tcp));
        }
    }
    if chains.is_empty() {
        let (reason, message) = if listener.http {
            (
                Reason::NO_HOSTS,
                "no Host is bound, so the port is not opened; check hostBinding against the namespaces and labels of Hosts, and their TLS",
            )
        } else {
            (
                Reason::NO_TCP_MAPPINGS,
                "no TCPMapping has this port, so it is not opened; add HTTP to protocolStack to serve Hosts",
            )
        };
        link.report(owner, Problem::ignored(reason, "spec", message.to_owned()));
        return link;
    }
    link.listener = Some(ir::Listener {
        key,
        address,
        stat_prefix: listener.stat_prefix.clone(),
        proxy_protocol: listener.proxy,
        tls: listener.tls || with_names,
        l7_depth: listener.l7_depth,
        max_concurrent_streams: listener.max_concurrent_streams,
        filters: inputs.filters.clone(),
        chains,
    });
    link
}

/// Whether a Listener takes a Host.
fn takes(
    owner: &ObjectRef,
    listener: &Listener,
    host: &Candidate<'_>,
    inputs: &Inputs<'_>,
) -> bool {
    let namespace = &host.object.namespace;
    let is_near = match &listener.namespaces {
        Namespaces::All => true,
        Namespaces::Own => owner.namespace == *namespace,
        Namespaces::Selected(selector) => {
            // every namespace has this label
            let name = Labels::from([(
                "kubernetes.io/metadata.name".to_owned(),
                namespace.to_string(),
            )]);
            let labels = inputs.namespaces.labels(namespace);
            selector.matches(
                &LabelSet::union(labels.into_iter().chain([&name])),
                inputs.loose,
            )
        }
    };
    let labels = LabelSet::union([&host.host.labels]);
    is_near && listener.host_selector.matches(&labels, inputs.loose)
}

impl Link {
    /// The Hosts of a table.
    pub(in crate::store) fn hosts_of(&self, table: &TableKey) -> impl Iterator<Item = &ObjectRef> {
        let table = self.tables.get(table).into_iter();
        let virtual_hosts = table.flat_map(|table| table.virtual_hosts.values());
        virtual_hosts.map(|virtual_host| &virtual_host.host)
    }

    pub(super) fn report(&mut self, object: &ObjectRef, problem: Problem) {
        self.problems
            .entry(object.clone())
            .or_default()
            .push(problem);
    }

    /// One chain for each server name of TCPMappings, and one for those without.
    fn tcp_chains(&mut self, groups: &[TcpGroup<'_>]) -> Vec<ir::FilterChain> {
        let mut chains = Vec::new();
        for group in groups {
            let Some(proxy) = group.proxy() else { continue };
            let tls = match &group.tls {
                None => None,
                Some(Ok(tls)) => Some(tls.clone()),
                Some(Err(reason)) => {
                    for member in &group.members {
                        self.report(
                            member.object,
                            Problem::ignored(
                                Reason::NO_CERTIFICATE,
                                "spec.host",
                                format!("{reason}; this TCPMapping is not served"),
                            ),
                        );
                    }
                    continue;
                }
            };
            let objects = || group.members.iter().map(|member| member.object);
            let neighbours = Neighbours::of(objects());
            for object in objects() {
                if let Some(other) = neighbours.of_another_namespace(object) {
                    let fact = "has the same port and host and shares the connections, by weight";
                    self.report(object, neighbour::notice("spec.port", other, fact));
                }
            }
            for member in &group.members {
                if proxy
                    .clusters
                    .iter()
                    .any(|(cluster, _)| *cluster == member.cluster)
                {
                    self.tcp_mappings.insert(member.object.clone());
                }
                let own = member.mapping.idle_timeout;
                if own.is_some() && own != proxy.idle_timeout {
                    self.report(member.object, Problem::ignored(Reason::GROUP_CONFLICT, "spec.idle_timeout_ms", "TCPMappings with the same port and host have different values; using the last by name"));
                }
            }
            let server_name = group.server_name.as_deref();
            chains.push(ir::FilterChain {
                name: server_name.map_or_else(|| "tcp".to_owned(), |name| format!("tcp-{name}")),
                server_names: server_names(server_name),
                tls,
                action: ChainAction::Tcp(proxy),
            });
        }
        chains
    }

    /// One chain per server name. Hosts that differ only in the port share the chain of their name, if they also
    /// share their certificate: a chain has one.
    fn tls_chains(
        &mut self,
        key: ListenerKey,
        listener: &Listener,
        bound: &[&Candidate<'_>],
        inputs: &Inputs<'_>,
    ) -> Vec<ir::FilterChain> {
        let tcp = inputs.tcp.as_slice();
        let mut by_name: BTreeMap<&Arc<str>, Vec<(&Candidate<'_>, &ServerTls)>> = BTreeMap::new();
        let mut closed: BTreeSet<&Arc<str>> = BTreeSet::new();
        for host in bound {
            let tls = match &host.tls {
                None => continue,
                Some(Ok(tls)) => tls,
                Some(Err(NoTls)) => {
                    closed.insert(&host.host.server_name);
                    continue;
                }
            };
            if glob::is_server_name(&host.host.server_name) {
                by_name
                    .entry(&host.host.server_name)
                    .or_default()
                    .push((host, tls));
            } else {
                self.report(host.object, Problem::ignored(Reason::WILDCARD_NOT_FOR_TLS, "spec.hostname", format!("TLS cannot match {:?}: a server name must be exact or *.SUFFIX; its certificate is not used", host.host.hostname)));
            }
        }
        let closed = closed.into_iter().filter(|name| {
            let is_served = by_name.contains_key(*name) || taken(tcp, Some(name)).is_some();
            // over UDP no chain is needed: a name without one is rejected
            glob::is_server_name(name) && !is_served && key.transport == Transport::Tcp
        });
        let mut chains: Vec<ir::FilterChain> = closed.map(|name| closed_chain(name)).collect();
        let others = Names::new(bound, by_name.keys().any(|name| name.starts_with('*')));
        let names: BTreeSet<&Arc<str>> = bound.iter().map(|host| &host.host.server_name).collect();
        for (server_name, hosts) in by_name {
            if let Some(taken) = taken(tcp, Some(server_name)) {
                for (host, _) in hosts {
                    self.report_taken(taken, host.object);
                    self.report(host.object, Problem::ignored(Reason::PORT_CONFLICT, "spec.hostname", format!("TLS for {server_name:?} on port {} belongs to {taken}: TCPMappings take precedence", key.port)));
                }
                continue;
            }
            let (first, tls) = hosts[0];
            if key.transport == Transport::Udp && !is_supported_by_quic(tls) {
                for (host, _) in hosts {
                    self.report(host.object, Problem::notice(Reason::NOT_FOR_HTTP3, "spec.tls", "not served over HTTP/3, which requires TLS 1.3 and does not support ecdh_curves"));
                }
                continue;
            }
            let table = TableKey {
                listener: key,
                server_name: Some(server_name.clone()),
            };
            let mut entry = Table {
                http3: inputs
                    .http3
                    .filter(|_| is_supported_by_quic(tls))
                    .filter(|(owner, listener, _)| takes(owner, listener, first, inputs))
                    .map(|(_, _, port)| port),
                ..Table::default()
            };
            for (host, own) in &hosts {
                if *own == tls {
                    let insecure = insecure(listener, host.host.insecure, true);
                    self.add(&mut entry, host, insecure);
                } else {
                    self.report_server_name(server_name, host.object, first.object);
                }
            }
            let below = others.below(server_name);
            self.add_others(&mut entry, &below, tls, listener);
            if &**server_name != "*" {
                let is_covered = |name: &Arc<str>| {
                    name == server_name || below.iter().any(|host| host.host.server_name == *name)
                };
                add_misdirected(&mut entry, &names, is_covered);
            }
            chains.push(ir::FilterChain {
                name: format!("tls-{server_name}"),
                server_names: server_names(Some(server_name)),
                tls: Some(tls.clone()),
                action: ChainAction::Http(table.clone()),
            });
            self.tables.insert(table, entry);
        }
        chains
    }

    /// The chain of cleartext connections. There is none with securityModel SECURE where TLS is terminated: a cleartext
    /// request would pass for a secure one.
    fn cleartext_chain(
        &mut self,
        key: ListenerKey,
        owner: &ObjectRef,
        listener: &Listener,
        bound: &[&Candidate<'_>],
        tcp: &[TcpGroup<'_>],
    ) -> Option<ir::FilterChain> {
        if let Some(taken) = taken(tcp, None) {
            self.report(owner, Problem::ignored(Reason::PORT_CONFLICT, "spec.port", format!("cleartext connections belong to {taken}, which has no host; no Host is served on them")));
            self.report_taken(taken, owner);
            return None;
        }
        if listener.tls && listener.security_model == SecurityModel::Secure {
            return None;
        }
        let is_reached = |host: &Candidate<'_>| {
            listener.security_model == SecurityModel::Xfp
                || insecure(listener, host.host.insecure, false) != Insecure::Reject
        };
        // of several Hosts with one hostname the first is served
        let mut served: BTreeMap<&Arc<str>, &Candidate<'_>> = BTreeMap::new();
        for host in bound {
            served.entry(&host.host.hostname).or_insert(host);
        }
        if !served.into_values().any(is_reached) {
            return None;
        }
        let mut entry = Table::default();
        for host in bound {
            // a Host that rejects has a virtual host, too: its requests must not reach a wildcard Host, and ACME challenges
            // are routed
            let insecure = insecure(listener, host.host.insecure, false);
            if insecure == Insecure::Reject && host.tls.is_none() {
                self.report(host.object, Problem::ignored(Reason::ALL_REJECTED, "spec.requestPolicy.insecure.action", format!("every request on port {} is insecure and rejected; set tlsSecret for TLS", key.port)));
            }
            self.add(&mut entry, host, insecure);
        }
        let table = TableKey {
            listener: key,
            server_name: None,
        };
        self.tables.insert(table.clone(), entry);
        Some(ir::FilterChain {
            name: "cleartext".to_owned(),
            server_names: Vec::new(),
            tls: None,
            action: ChainAction::Http(table),
        })
    }

    /// Adds a virtual host, unless its name is taken.
    fn add(&mut self, table: &mut Table, host: &Candidate<'_>, insecure: Insecure) {
        let domain = &host.host.hostname;
        match table.virtual_hosts.entry(domain.clone()) {
            Entry::Occupied(taken) => {
                let first = &taken.get().host;
                self.report(host.object, Problem::ignored(Reason::HOSTNAME_CONFLICT, "spec.hostname", format!("duplicate hostname {domain:?}: {first} comes first by name and is served")));
                if first.namespace != host.object.namespace {
                    let fact = format!(
                        "has the same hostname {domain:?}; this Host comes first by name and is served"
                    );
                    self.report(
                        first,
                        neighbour::notice("spec.hostname", host.object, &fact),
                    );
                }
            }
            Entry::Vacant(free) => {
                self.hosts.insert(host.object.clone());
                free.insert(VirtualHost {
                    host: host.object.clone(),
                    insecure,
                });
            }
        }
    }

    /// Adds the Hosts below a chain's wildcard, which its connections serve, too. Of Hosts with one hostname the one is
    /// meant that a connection of its own would reach: with TLS, then with TLS that is closed, then without.
    fn add_others(
        &mut self,
        table: &mut Table,
        below: &[&Candidate<'_>],
        tls: &ServerTls,
        listener: &Listener,
    ) {
        let kind = |host: &Candidate<'_>| match &host.tls {
            Some(Ok(_)) => 0,
            Some(Err(NoTls)) => 1,
            None => 2,
        };
        let mut below = below.to_vec();
        below.sort_by_key(|host| kind(host)); // stable: the first by name stays the first
        for host in below {
            let domain = &host.host.hostname;
            if table.virtual_hosts.contains_key(domain) || table.misdirected.contains(domain) {
                continue;
            }
            let is_served = match &host.tls {
                Some(Ok(own)) => own.accepts_same_clients(tls),
                Some(Err(NoTls)) => false,
                // without terms of its own it cannot differ
                None => true,
            };
            if is_served {
                let insecure = insecure(listener, host.host.insecure, true);
                self.add(table, host, insecure);
            } else {
                table.misdirected.insert(domain.clone());
            }
        }
    }
}

/// Whether HTTP/3 supports these TLS settings: QUIC starts with TLS 1.3 (RFC 9001, 4.2), and Envoy ignores curves there.
fn is_supported_by_quic(tls: &ServerTls) -> bool {
    let parameters = &tls.parameters;
    parameters.max.is_none_or(|max| max >= TlsVersion::V1_3) && parameters.curves.is_empty()
}

/// Hosts by the ends of their names, to find those below a wildcard without a look at all for each.
struct Names<'a> {
    /// Reversed server names, sorted; Hosts with one name in order.
    reversed: Vec<(Vec<u8>, &'a Candidate<'a>)>,
}

impl<'a> Names<'a> {
    /// Only wildcards have names below them.
    fn new(bound: &[&'a Candidate<'a>], has_wildcards: bool) -> Self {
        let bound = bound.iter().filter(|_| has_wildcards);
        let reversed = |host: &&'a Candidate<'a>| (reversed(&host.host.server_name), *host);
        let mut reversed: Vec<_> = bound.map(reversed).collect();
        reversed.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { reversed }
    }

    /// Hosts whose names a wildcard includes, apart from those with the same wildcard, in order.
    fn below(&self, server_name: &str) -> Vec<&'a Candidate<'a>> {
        let Some(suffix) = server_name.strip_prefix('*') else {
            return Vec::new();
        };
        let end = reversed(suffix);
        let first = self.reversed.partition_point(|(name, _)| *name < end);
        let below = self.reversed[first..].iter();
        let below = below.take_while(|(name, _)| name.starts_with(&end));
        let mut below: Vec<_> = below
            .map(|(_, host)| *host)
            .filter(|host| &*host.host.server_name != server_name)
            .collect();
        below.sort_by_key(|host| host.object);
        below
    }
}

fn reversed(name: &str) -> Vec<u8> {
    name.bytes().rev().collect()
}

/// Adds the names of a Listener's Hosts that the connections of a chain do not serve, so that clients open another connection;
/// a name that no Host has gets 404. Each table would need all names of the Listener, which is quadratic, so with many Hosts
/// unknown names are not told apart.
fn add_misdirected(
    table: &mut Table,
    names: &BTreeSet<&Arc<str>>,
    is_covered: impl Fn(&Arc<str>) -> bool,
) {
    // every name is one of Host *
    if names.len() > MAX_NAMES_ELSEWHERE || names.contains(&Arc::from("*")) {
        table.misdirected.insert("*".into());
        return;
    }
    let elsewhere = names.iter().filter(|name| !is_covered(name));
    table.misdirected.extend(elsewhere.copied().cloned());
}

/// The chain of a name whose TLS cannot be terminated: neither another Host's certificate nor cleartext is served for it.
fn closed_chain(server_name: &str) -> ir::FilterChain {
    ir::FilterChain {
        name: format!("closed-{server_name}"),
        server_names: server_names(Some(server_name)),
        tls: None,
        action: ChainAction::Close,
    }
}

/// The TCPMapping that serves the connections of this server name.
fn taken<'a>(tcp: &'a [TcpGroup<'_>], server_name: Option<&Arc<str>>) -> Option<&'a ObjectRef> {
    let group = tcp
        .iter()
        .find(|group| group.server_name.as_ref() == server_name)?;
    let is_served = !matches!(group.tls, Some(Err(_))) && group.proxy().is_some();
    group
        .members
        .first()
        .filter(|_| is_served)
        .map(|member| member.object)
}

/// Server names of a filter chain: none for any.
fn server_names(server_name: Option<&str>) -> Vec<String> {
    let name = server_name.filter(|name| *name != "*");
    name.map(str::to_owned).into_iter().collect()
}

/// How insecure requests on a chain are handled. With no proxy in front, Envoy overwrites `x-forwarded-proto` with the
/// scheme of the connection, so that the chain alone decides; behind a trusted proxy the header decides.
fn insecure(listener: &Listener, action: InsecureAction, tls: bool) -> Insecure {
    match listener.security_model {
        SecurityModel::Secure => Insecure::Route,
        SecurityModel::Insecure => match action {
            InsecureAction::Route => Insecure::Route,
            InsecureAction::Redirect => Insecure::Redirect,
            InsecureAction::Reject => Insecure::Reject,
        },
        SecurityModel::Xfp => match (action, listener.l7_depth, tls) {
            (InsecureAction::Route, _, _) | (_, 0, true) => Insecure::Route,
            (InsecureAction::Redirect, 0, false) => Insecure::Redirect,
            (InsecureAction::Reject, 0, false) => Insecure::Reject,
            (InsecureAction::Redirect, _, _) => Insecure::RedirectByHeader,
            (InsecureAction::Reject, _, _) => Insecure::RejectByHeader,
        },
    }
}
