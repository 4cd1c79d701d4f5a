//! From the claims of a socket to its Listener, its filter chains and their tables. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    net::IpAddr,
    sync::Arc,
};

use nuncio_ir::{
    self as ir, ChainAction, HttpFilter, Insecure, ListenerKey, ServerTls, TableKey, TableScope,
    TlsVersion, Transport, route::split_port,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    glob,
    object::ObjectRef,
    reconcile::{Host, InsecureAction, Listener, Namespaces, SecurityModel},
    report::{Problem, Reason},
    selector::{LabelSet, Labels},
    store::{
        host::NoTls,
        http_options::SharedOptions,
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
    pub(in crate::store) tls: Option<Result<Arc<ServerTls>, NoTls>>,
}

/// A Host that terminates TLS, on these terms.
type WithTls<'a> = (&'a Candidate<'a>, &'a Arc<ServerTls>);

/// What a socket is linked to.
#[derive(Debug, Default, PartialEq)]
pub(in crate::store) struct Link {
    pub(in crate::store) listener: Option<Arc<ir::Listener>>,
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
    /// Whether the host name of a request selects it among others.
    pub(in crate::store) is_selected: bool,
    /// Names with tables of their own, if it has wildcards.
    pub(in crate::store) elsewhere: BTreeSet<Arc<str>>,
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
    /// From how many host names on they have route tables of their own on cleartext connections; `None`: never.
    pub(in crate::store) tables_by_host: Option<usize>,
    /// Up to how many host names of a chain have route tables of their own even if all requests are redirected or rejected.
    pub(in crate::store) most_redirecting: usize,
    /// From how many server names on they share a chain.
    pub(in crate::store) least_names: usize,
    /// HTTP filters of every listener.
    pub(in crate::store) filters: BTreeSet<HttpFilter>,
    /// Settings that all listeners have in common.
    pub(in crate::store) options: &'a SharedOptions,
}

/// Links a socket. TCPMappings take precedence over Hosts, and need no Listener.
pub(in crate::store) fn link(key: ListenerKey, inputs: &Inputs<'_>) -> Link {
    let mut link = Link::default();
    let address = key.address.unwrap_or(inputs.address);
    let mut chains = link.tcp_chains(&inputs.tcp);
    let with_names = inputs.tcp.iter().any(|group| group.server_name.is_some());
    let Some(((owner, listener), losers)) = inputs.claims.split_first() else {
        let listener = (!chains.is_empty()).then(|| ir::Listener {
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
            http: inputs.options.http.clone(),
            tcp_access_logs: inputs.options.tcp_access_logs.clone(),
            buffer_limit_bytes: inputs.options.buffer_limit_bytes,
            chains,
            origin: None,
        });
        link.listener = listener.map(Arc::new);
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
            let (closed, own) = link.tls_chains(key, listener, &bound, inputs);
            chains.extend(closed);
            chains.extend(link.share_chains(own, inputs.least_names));
        }
        if key.transport == Transport::Tcp {
            chains.extend(link.cleartext_chain(key, owner, listener, &bound, inputs));
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
    let listener = ir::Listener {
        key,
        address,
        stat_prefix: listener.stat_prefix.clone(),
        proxy_protocol: listener.proxy,
        tls: listener.tls || with_names,
        l7_depth: listener.l7_depth,
        max_concurrent_streams: listener.max_concurrent_streams,
        filters: inputs.filters.clone(),
        http: inputs.options.http.clone(),
        tcp_access_logs: inputs.options.tcp_access_logs.clone(),
        buffer_limit_bytes: inputs.options.buffer_limit_bytes,
        chains,
        origin: Some(owner.origin()),
    };
    link.listener = Some(listener.into());
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
                    .targets
                    .iter()
                    .any(|target| target.cluster == member.cluster)
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

    /// Chains that are closed, and one chain per other server name. Hosts that differ only in the port share the chain of their
    /// name, if they also share their certificate: a chain has one.
    fn tls_chains(
        &mut self,
        key: ListenerKey,
        listener: &Listener,
        bound: &[&Candidate<'_>],
        inputs: &Inputs<'_>,
    ) -> (Vec<ir::FilterChain>, Vec<OwnChain>) {
        let tcp = inputs.tcp.as_slice();
        let mut by_name: BTreeMap<&Arc<str>, Vec<WithTls<'_>>> = BTreeMap::new();
        let mut closed: BTreeMap<&Arc<str>, Vec<&ObjectRef>> = BTreeMap::new();
        for host in bound {
            let tls = match &host.tls {
                None => continue,
                Some(Ok(tls)) => tls,
                Some(Err(NoTls)) => {
                    let hosts = closed.entry(&host.host.server_name).or_default();
                    hosts.push(host.object);
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
        let closed = closed.into_iter().filter(|(name, _)| {
            let is_served = by_name.contains_key(*name) || taken(tcp, Some(*name)).is_some();
            // over UDP no chain is needed: a name without one is rejected
            glob::is_server_name(name) && !is_served && key.transport == Transport::Tcp
        });
        let closed = closed
            .map(|(name, hosts)| closed_chain(name, &hosts))
            .collect();
        let mut chains = Vec::new();
        let others = Names::new(bound, by_name.keys().any(|name| name.starts_with('*')));
        let elsewhere = Elsewhere::new(bound.iter().map(|host| &host.host.server_name));
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
                scope: TableScope::Tls(server_name.clone()),
            };
            let mut entry = Table {
                http3: http3_port(first, tls, inputs),
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
                elsewhere.misdirect(&mut entry, is_covered);
            }
            chains.push(OwnChain {
                server_name: server_name.clone(),
                tls: tls.clone(),
                table: table.clone(),
            });
            self.tables.insert(table, entry);
        }
        (closed, chains)
    }

    /// Replaces chains that differ only in their server name by one, if there are that many of them. A name costs Envoy
    /// little beside a chain, and coming or going it concerns no other.
    ///
    /// Which clients a name accepts must not depend on when they connected, so names with client certificates have chains of
    /// their own. Where chains are shared, every other exact name can be selected as well: connections can be from a time when
    /// it shared a chain.
    fn share_chains(&mut self, chains: Vec<OwnChain>, least: usize) -> Vec<ir::FilterChain> {
        let mut by_terms: BTreeMap<Arc<ServerTls>, usize> = BTreeMap::new();
        for chain in chains.iter().filter(|chain| chain.can_be_shared()) {
            *by_terms.entry(chain.tls.clone()).or_default() += 1;
        }
        by_terms.retain(|_, number| *number >= least.max(1));
        if by_terms.is_empty() {
            return chains.into_iter().map(OwnChain::alone).collect();
        }
        let mut shared: BTreeMap<Arc<ServerTls>, Vec<String>> = BTreeMap::new();
        let mut own = Vec::new();
        for chain in chains {
            if !chain.can_be_shared() {
                own.push(chain.alone());
                continue;
            }
            if let Some(table) = self.tables.get_mut(&chain.table) {
                table.is_selected = true;
            }
            if by_terms.contains_key(&chain.tls) {
                let names = shared.entry(chain.tls).or_default();
                names.push(chain.server_name.to_string());
            } else {
                own.push(chain.alone());
            }
        }
        let shared = shared
            .into_iter()
            .map(|(terms, server_names)| ir::FilterChain {
                name: shared_name(&terms),
                server_names,
                tls: Some(terms),
                action: ChainAction::HttpByServerName,
            });
        own.extend(shared);
        own
    }

    /// The chain of cleartext connections. There is none with securityModel SECURE where TLS is terminated: a cleartext
    /// request would pass for a secure one.
    fn cleartext_chain(
        &mut self,
        key: ListenerKey,
        owner: &ObjectRef,
        listener: &Listener,
        bound: &[&Candidate<'_>],
        inputs: &Inputs<'_>,
    ) -> Option<ir::FilterChain> {
        if let Some(taken) = taken(&inputs.tcp, None) {
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
        let of = |scope: TableScope| TableKey {
            listener: key,
            scope,
        };
        let tables = inputs
            .tables_by_host
            .and_then(|least| by_host(key, &mut entry, least, inputs.most_redirecting));
        let action = match tables {
            None => {
                let table = of(TableScope::Cleartext);
                self.tables.insert(table.clone(), entry);
                ChainAction::Http(table)
            }
            Some(tables) => {
                self.tables.extend(tables);
                let others = of(TableScope::OtherHosts);
                self.tables.insert(others.clone(), entry);
                ChainAction::HttpByHost(others)
            }
        };
        Some(ir::FilterChain {
            name: "cleartext".to_owned(),
            server_names: Vec::new(),
            tls: None,
            action,
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

/// Takes the virtual hosts out of a table whose names can have tables of their own: exact names without a port. `None`: there
/// are fewer than `least`, and the table stays as it is.
///
/// A table takes 50 KB of Envoy. Where there are many, those that redirect or reject everything share some: they change when
/// Mappings come and go, but not with what those say.
fn by_host(
    listener: ListenerKey,
    table: &mut Table,
    least: usize,
    most_redirecting: usize,
) -> Option<BTreeMap<TableKey, Table>> {
    let domains = table.virtual_hosts.keys();
    let with_port: BTreeSet<&str> = domains
        .filter_map(|domain| match split_port(domain) {
            (name, Some(_)) => Some(name),
            (_, None) => None,
        })
        .collect();
    let can_have_own = |domain: &Arc<str>| {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        domain.bytes().all(is_plain) && !with_port.contains(&**domain)
    };
    let domains = table.virtual_hosts.keys();
    let names: BTreeSet<Arc<str>> = domains
        .filter(|domain| can_have_own(domain))
        .cloned()
        .collect();
    if names.len() < least.max(1) {
        return None;
    }
    let is_small = table.virtual_hosts.len() <= most_redirecting;
    let mut tables: BTreeMap<TableKey, Table> = BTreeMap::new();
    for (domain, virtual_host) in mem::take(&mut table.virtual_hosts) {
        if !names.contains(&domain) {
            table.virtual_hosts.insert(domain, virtual_host);
            continue;
        }
        let redirects = matches!(virtual_host.insecure, Insecure::Redirect | Insecure::Reject);
        let key = if redirects && !is_small {
            TableKey::redirects(listener, &domain)
        } else {
            TableKey {
                listener,
                scope: TableScope::Host(domain.clone()),
            }
        };
        let own = tables.entry(key).or_default();
        own.is_selected = true;
        own.virtual_hosts.insert(domain, virtual_host);
    }
    table.is_selected = true;
    let mut others = table.virtual_hosts.keys();
    if others.any(|domain| domain.contains('*')) {
        table.elsewhere = names;
    }
    Some(tables)
}

/// A chain of one server name, which can come to share one with others.
#[derive(Clone)]
struct OwnChain {
    server_name: Arc<str>,
    tls: Arc<ServerTls>,
    table: TableKey,
}

impl OwnChain {
    /// Whether it is one for an exact name, without client certificates.
    fn can_be_shared(&self) -> bool {
        self.tls.ignores_clients() && !self.server_name.contains('*')
    }

    fn alone(self) -> ir::FilterChain {
        ir::FilterChain {
            name: format!("tls-{}", self.server_name),
            server_names: server_names(Some(&self.server_name)),
            tls: Some(self.tls),
            action: ChainAction::Http(self.table),
        }
    }
}

/// Name of the chain of all names with these terms: of the certificate and, since several chains can have it, of the other
/// terms.
fn shared_name(terms: &ServerTls) -> String {
    let others = ServerTls {
        secret: Arc::default(),
        ..terms.clone()
    };
    let hash = xxh3_64(format!("{others:?}").as_bytes()) >> 32;
    format!("shared-{}-{hash:08x}", terms.secret)
}

/// Whether HTTP/3 supports these TLS settings: QUIC starts with TLS 1.3 (RFC 9001, 4.2), and Envoy ignores curves there.
fn is_supported_by_quic(tls: &ServerTls) -> bool {
    let parameters = &tls.parameters;
    parameters.max.is_none_or(|max| max >= TlsVersion::V1_3) && parameters.curves.is_empty()
}

/// The port at which clients reach a Host with these terms over HTTP/3.
fn http3_port(host: &Candidate<'_>, tls: &ServerTls, inputs: &Inputs<'_>) -> Option<u16> {
    let (owner, listener, port) = inputs.http3.filter(|_| is_supported_by_quic(tls))?;
    takes(owner, listener, host, inputs).then_some(port)
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

/// The names of a Listener's Hosts, for connections that do not serve them, so that clients open another connection; a name
/// that no Host has gets 404. Each table would need all names of the Listener, which is quadratic, so with many Hosts unknown
/// names are not told apart.
enum Elsewhere<'a> {
    Any(Arc<str>),
    Names(BTreeSet<&'a Arc<str>>),
}

impl<'a> Elsewhere<'a> {
    fn new(all: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let mut names = BTreeSet::new();
        for name in all {
            names.insert(name);
            // every name is one of Host *
            if names.len() > MAX_NAMES_ELSEWHERE || **name == *"*" {
                return Self::Any("*".into());
            }
        }
        Self::Names(names)
    }

    /// Adds the names that the connections of a chain do not serve.
    fn misdirect(&self, table: &mut Table, is_covered: impl Fn(&Arc<str>) -> bool) {
        match self {
            Self::Any(any) => {
                table.misdirected.insert(any.clone());
            }
            Self::Names(names) => {
                let elsewhere = names.iter().filter(|name| !is_covered(name));
                table.misdirected.extend(elsewhere.copied().cloned());
            }
        }
    }
}

/// The chain of a name whose TLS cannot be terminated: neither another Host's certificate nor cleartext is served for it.
fn closed_chain(server_name: &str, hosts: &[&ObjectRef]) -> ir::FilterChain {
    ir::FilterChain {
        name: format!("closed-{server_name}"),
        server_names: server_names(Some(server_name)),
        tls: None,
        action: ChainAction::Close(hosts.iter().map(|host| host.origin()).collect()),
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

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*, sample::select};

    use super::*;
    use crate::object::Kind;

    fn table(number: usize, insecure: Insecure, others: &[&str]) -> Table {
        let names = (0..number).map(|number| format!("h{number}.example"));
        let names = names.chain(others.iter().map(ToString::to_string));
        let virtual_host = |name: String| {
            let host = ObjectRef::new(Kind::Host, "default", &name);
            (Arc::from(name), VirtualHost { host, insecure })
        };
        Table {
            virtual_hosts: names.map(virtual_host).collect(),
            ..Table::default()
        }
    }

    /// The names of the tables that are taken out of one.
    fn names(tables: &BTreeMap<TableKey, Table>) -> Vec<String> {
        tables.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn exact_names_have_tables_of_their_own() {
        let others = ["*", "*.wild.example", "h0.example:8080", "[::1]"];
        let mut found = table(4, Insecure::Route, &others);
        let taken = by_host(LISTENER, &mut found, 4, 0);
        assert_eq!(taken, None, "h0 has a port, too");
        assert!(!found.is_selected && found.virtual_hosts.len() == 8);
        let own = by_host(LISTENER, &mut found, 3, 0).unwrap();
        let expected = [1, 2, 3].map(|number| format!("tcp-8443/cleartext/h{number}.example"));
        assert_eq!(names(&own), expected);
        assert!(own.values().all(|table| table.is_selected));
        assert_eq!(found.virtual_hosts.len(), 5);
        assert_eq!(found.elsewhere.len(), 3);
    }

    #[test]
    fn many_names_that_are_only_redirected_share_tables() {
        let tables = |insecure: Insecure, most: usize| {
            let mut all = table(600, insecure, &["*"]);
            let tables = by_host(LISTENER, &mut all, 8, most).unwrap();
            let hosts = tables.values().map(|table| table.virtual_hosts.len());
            assert_eq!((hosts.sum::<usize>(), all.elsewhere.len()), (600, 600));
            for (key, table) in &tables {
                for name in table.virtual_hosts.keys() {
                    let own = TableScope::Host(name.clone());
                    let shared = TableKey::redirects(LISTENER, name);
                    assert!(key.scope == own || *key == shared, "{key} has {name}");
                }
            }
            tables.len()
        };
        assert_eq!(tables(Insecure::Redirect, 601), 600);
        assert!((200..=256).contains(&tables(Insecure::Redirect, 600)));
        assert!((200..=256).contains(&tables(Insecure::Reject, 600)));
        assert_eq!(tables(Insecure::RedirectByHeader, 600), 600);
        assert_eq!(tables(Insecure::Route, 600), 600);
    }

    const LISTENER: ListenerKey = ListenerKey {
        port: 8443,
        transport: Transport::Tcp,
        address: None,
    };

    fn listener(chains: Vec<ir::FilterChain>) -> ir::Listener {
        ir::Listener {
            key: LISTENER,
            address: IpAddr::from([0, 0, 0, 0]),
            stat_prefix: String::new(),
            proxy_protocol: false,
            tls: true,
            l7_depth: 0,
            max_concurrent_streams: None,
            filters: BTreeSet::new(),
            http: Arc::default(),
            tcp_access_logs: Vec::new(),
            buffer_limit_bytes: None,
            chains,
            origin: None,
        }
    }

    /// A link with a chain and a table for each name.
    fn link_of(names: &BTreeMap<&str, Arc<ServerTls>>) -> (Link, Vec<OwnChain>) {
        let mut link = Link::default();
        let table = |name: &str| TableKey {
            listener: LISTENER,
            scope: TableScope::Tls(name.into()),
        };
        let chains = names.iter().map(|(name, tls)| OwnChain {
            server_name: (*name).into(),
            tls: tls.clone(),
            table: table(name),
        });
        let chains = chains.collect();
        let tables = names.keys().map(|name| (table(name), Table::default()));
        link.tables.extend(tables);
        (link, chains)
    }

    /// Terms and table for connections with this server name.
    fn selected(listener: &ir::Listener, name: &str) -> Option<(Arc<ServerTls>, TableKey)> {
        let ends = (1..name.len()).map(|at| format!("*{}", &name[at..]));
        let patterns = [name.to_owned()].into_iter().chain(ends);
        let has = |pattern: &String| {
            let mut chains = listener.chains.iter();
            chains.find(|chain| chain.server_names.contains(pattern))
        };
        let mut found = patterns.filter_map(|pattern| has(&pattern));
        let any = listener.chains.iter();
        let mut any = any.filter(|chain| chain.server_names.is_empty());
        let chain = found.next().or_else(|| any.next())?;
        let table = match &chain.action {
            ChainAction::Http(table) => table.clone(),
            ChainAction::HttpByServerName => listener.table_of(name),
            other => panic!("{other:?}"),
        };
        Some((chain.tls.clone()?, table))
    }

    fn terms() -> impl Strategy<Value = Arc<ServerTls>> {
        let secret = select(&["one", "other"][..]);
        let trusted = prop_oneof![3 => Just(None), 1 => Just(Some("ca".into()))];
        let alpn = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec!["h2".to_owned()])];
        (secret, trusted, alpn).prop_map(|(secret, trusted, alpn)| {
            let terms = ServerTls {
                secret: secret.into(),
                trusted,
                alpn,
                ..ServerTls::default()
            };
            terms.into()
        })
    }

    const NAMES: [&str; 8] = [
        "a.example",
        "b.example",
        "c.b.example",
        "d",
        "e.other",
        "*.b.example",
        "*.example",
        "*",
    ];

    proptest! {
        #[test]
        fn shared_chains_serve_what_chains_of_each_name_do(
            names in btree_map(select(&NAMES[..]), terms(), 0..8),
            least in 0..4_usize,
        ) {
            let (mut link, chains) = link_of(&names);
            let own = listener(chains.iter().cloned().map(OwnChain::alone).collect());
            let shared = listener(link.share_chains(chains, least));
            for name in NAMES.map(|name| name.replace('*', "x")) {
                let found = selected(&shared, &name);
                prop_assert_eq!(&found, &selected(&own, &name));
                // a table that was selected before is selected as long as its name shares a chain with others, or could
                if let Some((terms, table)) = found {
                    let is_exact = table.scope == TableScope::Tls(name.as_str().into());
                    let expected = shared.shares_chains() && is_exact && terms.ignores_clients();
                    prop_assert_eq!(link.tables[&table].is_selected, expected);
                }
            }
            let chain_names: BTreeSet<&String> = shared.chains.iter().map(|chain| &chain.name).collect();
            prop_assert_eq!(chain_names.len(), shared.chains.len());
            for chain in &shared.chains {
                let is_shared = chain.action == ChainAction::HttpByServerName;
                prop_assert!(!is_shared || chain.server_names.len() >= least);
            }
        }
    }
}
