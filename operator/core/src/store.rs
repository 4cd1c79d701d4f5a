//! The Store: every object's fragment, the links between them, and what a change of one makes of the rest.
//!
//! Applying a change only files it and marks what has to be looked at again. [`Store::link`] then goes through these
//! marks level by level, each level deriving its results from the ones before and stopping where nothing differs:
//!
//! ```text
//! Services, Secrets, resolvers ─► TLSContexts ─► Hosts ─► Mappings, TCPMappings ─► groups ─► sockets
//!     ─► tables, clusters, endpoints ─► reports
//! ```
//!
//! What a level derives depends on the present objects only, never on the order in which they came: a property test
//! holds that any sequence of changes ends where one build from the final objects does, byte for byte. The cost of a
//! change is that of what it touches: a Mapping touches its group, and the tables of the Hosts that take it.
//!
//! The result is an [`Ir`] with the set of [`Unit`]s that may differ, and the reports that do.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{Ir, ListenerKey, Route, ServerTls, TableKey, Unit};

use self::{
    by_name::ByName,
    cluster::upstream::{EndpointsKey, Users},
    group::{Group, GroupKey, RouteOrder},
    resolver::NameUsers,
    secret::waiting::Told,
    shadowed::Paths,
    tcp_mapping::TcpState,
    tls_context::ContextState,
};
use crate::{
    change::{Change, Reconciled},
    object::{Kind, ObjectRef},
    reconcile::{
        EndpointSlice, Fragment, Host, Listener, Mapping, Name, ResolverKind, Secret, Service,
    },
    report::{Problem, Report},
    selector::{Labels, Selector},
    settings::Settings,
};

mod by_name;
mod cluster;
mod endpoint_slice;
mod group;
mod host;
mod listener;
mod mapping;
mod namespace;
mod owner;
mod report;
mod resolver;
mod route_table;
mod secret;
mod service;
mod shadowed;
mod tcp_mapping;
mod tls_context;

/// The shared state of the gateway. One task owns it.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    ir: Ir,
    objects: BTreeMap<ObjectRef, Object>,
    reports: BTreeMap<ObjectRef, Arc<Report>>,
    /// Objects that do not come from the sources of their kind.
    pinned: BTreeSet<ObjectRef>,

    listeners: BTreeMap<ObjectRef, Arc<Listener>>,
    sockets: BTreeMap<ListenerKey, Socket>,
    namespace_labels: BTreeMap<Arc<str>, Arc<Labels>>,

    hosts: BTreeMap<ObjectRef, HostState>,
    hosts_by_name: ByName<ObjectRef>,
    /// Hosts as they will be when their Secrets have been read.
    waiting_hosts: BTreeMap<ObjectRef, Arc<Host>>,
    /// Selectors of Hosts, and how many Hosts have each.
    selectors: BTreeMap<Selector, usize>,
    /// The tables that have a virtual host of a Host.
    tables_of_host: BTreeMap<ObjectRef, BTreeSet<TableKey>>,

    mappings: BTreeMap<ObjectRef, MappingState>,
    /// Mappings that name no host.
    hostless: BTreeSet<ObjectRef>,
    /// Mappings that replace the bodies of errors.
    replacing_errors: BTreeSet<ObjectRef>,
    groups: BTreeMap<Arc<GroupKey>, Group>,
    groups_by_name: ByName<Arc<GroupKey>>,
    /// Groups whose host is a regex or not said.
    nameless_groups: BTreeSet<Arc<GroupKey>>,
    paths: Paths,

    tcp_mappings: BTreeMap<ObjectRef, TcpState>,

    contexts: BTreeMap<ObjectRef, ContextState>,
    context_users: NameUsers,

    resolvers: BTreeMap<Arc<str>, BTreeMap<ObjectRef, ResolverKind>>,
    resolver_users: NameUsers,

    clusters: BTreeMap<Arc<str>, ClusterState>,
    /// Clusters that use a set of endpoints.
    endpoint_users: BTreeMap<EndpointsKey, BTreeSet<Arc<str>>>,
    services: BTreeMap<Name, Arc<Service>>,
    /// How many Services a namespace has.
    namespaces: BTreeMap<Arc<str>, usize>,
    slices: BTreeMap<Name, BTreeMap<ObjectRef, Arc<EndpointSlice>>>,
    slice_services: BTreeMap<ObjectRef, Name>,
    service_users: Users,

    secrets: BTreeMap<Name, Arc<Secret>>,
    secret_users: Users,
    /// Secrets that something refers to, and that are known not to be there.
    missing_secrets: BTreeSet<Name>,

    dirty: Dirty,
}

/// What is known of every object.
#[derive(Debug, PartialEq)]
struct Object {
    generation: i64,
    fragment: Option<Fragment>,
    problems: Vec<Problem>,
}

/// A socket that at least one Listener or TCPMapping asks for.
#[derive(Debug, Default)]
struct Socket {
    claims: BTreeSet<ObjectRef>,
    /// TCPMappings, by server name.
    tcp: BTreeMap<Option<Arc<str>>, BTreeSet<ObjectRef>>,
    link: listener::chain::Link,
}

#[derive(Debug)]
struct HostState {
    host: Arc<Host>,
    /// `None`: TLS is not set up; an error: it is, and cannot be served.
    tls: Option<Result<ServerTls, NoTls>>,
    /// Routes of the groups that are attached, in their order.
    routes: BTreeMap<RouteOrder, AttachedGroup>,
    problems: Vec<Problem>,
}

/// TLS cannot be served; the Host's problems say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoTls;

#[derive(Clone, Debug)]
struct AttachedGroup {
    key: Arc<GroupKey>,
    routes: Arc<[Arc<Route>]>,
}

#[derive(Debug, Default)]
struct MappingState {
    /// `None`: gone, but not yet unlinked.
    mapping: Option<Arc<Mapping>>,
    group: Option<Arc<GroupKey>>,
    cluster: Option<Arc<str>>,
    problems: Vec<Problem>,
}

#[derive(Debug, Default)]
struct ClusterState {
    users: BTreeSet<ObjectRef>,
    endpoints: Option<EndpointsKey>,
}

/// What has to be looked at again, by level.
#[derive(Debug, Default)]
struct Dirty {
    default_host: bool,
    services: BTreeSet<Name>,
    slices: BTreeSet<Name>,
    secrets: BTreeSet<Name>,
    resolvers: BTreeSet<Arc<str>>,
    contexts: BTreeSet<ObjectRef>,
    hosts: BTreeSet<ObjectRef>,
    mappings: BTreeSet<ObjectRef>,
    tcp_mappings: BTreeSet<ObjectRef>,
    groups: BTreeSet<Arc<GroupKey>>,
    sockets: BTreeSet<ListenerKey>,
    /// Hosts whose routes differ, and whether in what they match, or only in where they lead.
    routes: BTreeMap<ObjectRef, Difference>,
    tables: BTreeSet<TableKey>,
    endpoints: BTreeSet<EndpointsKey>,
    units: BTreeSet<Unit>,
    reports: BTreeSet<ObjectRef>,
    /// Objects that were applied: their report is told even if it says the same as before.
    applied: BTreeSet<ObjectRef>,
}

/// In what the routes of a Host differ; the greater includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// In where they lead, which a virtual host that redirects everything does not show.
    Forward,
    /// In what they match.
    Match,
}

impl Dirty {
    fn route(&mut self, host: &ObjectRef, difference: Difference) {
        let known = self.routes.entry(host.clone()).or_insert(difference);
        *known = difference.max(*known);
    }
}

/// Secrets that something refers to; `None` until everything else is known.
pub type WantedSecrets = Option<Arc<BTreeSet<ObjectRef>>>;

/// What a round of changes has made of the gateway.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Resources that may differ.
    pub units: BTreeSet<Unit>,
    /// Objects with something new to say; `None`: the object is gone.
    pub reports: Vec<(ObjectRef, Option<Arc<Report>>)>,
}

impl Store {
    /// An empty Store.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ir: Ir::default(),
            objects: BTreeMap::new(),
            reports: BTreeMap::new(),
            pinned: BTreeSet::new(),
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            namespace_labels: BTreeMap::new(),
            hosts: BTreeMap::new(),
            hosts_by_name: ByName::default(),
            waiting_hosts: BTreeMap::new(),
            selectors: BTreeMap::new(),
            tables_of_host: BTreeMap::new(),
            mappings: BTreeMap::new(),
            hostless: BTreeSet::new(),
            replacing_errors: BTreeSet::new(),
            groups: BTreeMap::new(),
            groups_by_name: ByName::default(),
            nameless_groups: BTreeSet::new(),
            paths: Paths::default(),
            tcp_mappings: BTreeMap::new(),
            contexts: BTreeMap::new(),
            context_users: NameUsers::default(),
            resolvers: BTreeMap::new(),
            resolver_users: NameUsers::default(),
            clusters: BTreeMap::new(),
            endpoint_users: BTreeMap::new(),
            services: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            slices: BTreeMap::new(),
            slice_services: BTreeMap::new(),
            service_users: Users::default(),
            secrets: BTreeMap::new(),
            secret_users: Users::default(),
            missing_secrets: BTreeSet::new(),
            dirty: Dirty {
                default_host: true,
                ..Dirty::default()
            },
        }
    }

    /// Files a change. Nothing else happens until [`Store::link`].
    pub fn apply(&mut self, change: Change) {
        let told = Told::from(&change);
        match change {
            Change::Apply(reconciled) => self.file_unless_pinned(*reconciled),
            Change::Delete(object) => {
                if !self.pinned.contains(&object) {
                    self.remove(&object);
                }
            }
            Change::Pin(reconciled) => {
                self.pinned.insert(reconciled.object.clone());
                self.file(*reconciled);
            }
            Change::Unpin(object) => {
                self.pinned.remove(&object);
                self.remove(&object);
            }
            Change::Replace(kind, all) => {
                let mut gone: BTreeSet<ObjectRef> = self
                    .objects
                    .keys()
                    .filter(|object| object.kind == kind && !self.pinned.contains(object))
                    .cloned()
                    .collect();
                for reconciled in all {
                    gone.remove(&reconciled.object);
                    self.file_unless_pinned(reconciled);
                }
                for object in gone {
                    self.remove(&object);
                }
            }
        }
        self.note_secrets(&told);
    }

    /// Follows all changes to their ends, and says what differs since the last time.
    pub fn link(&mut self) -> Outcome {
        self.link_default_host();
        self.link_services();
        self.link_secrets();
        self.link_resolvers();
        self.link_contexts();
        self.link_hosts();
        self.link_mappings();
        self.link_tcp_mappings();
        self.link_groups();
        self.link_sockets();
        self.link_tables();
        self.link_endpoints();
        let reports = self.link_reports();
        Outcome {
            units: mem::take(&mut self.dirty.units),
            reports,
        }
    }

    /// Takes back an outcome that was not used: the next one will hold it too.
    pub fn keep(&mut self, outcome: Outcome) {
        self.dirty.units.extend(outcome.units);
        self.dirty
            .applied
            .extend(outcome.reports.into_iter().map(|(object, _)| object));
    }

    /// The gateway as it is after the last [`Store::link`].
    #[must_use]
    pub fn ir(&self) -> &Ir {
        &self.ir
    }

    /// What there is to say about every object.
    #[must_use]
    pub fn reports(&self) -> &BTreeMap<ObjectRef, Arc<Report>> {
        &self.reports
    }

    /// The same as before if [`Store::wanted_secrets`] is.
    #[must_use]
    pub fn wanted_generation(&self) -> (u64, bool) {
        let has_default = self.hosts.contains_key(&self.default_host_ref());
        (self.secret_users.generation(), has_default)
    }

    /// Secrets that are referred to; no others need to be read.
    #[must_use]
    pub fn wanted_secrets(&self) -> BTreeSet<ObjectRef> {
        let default = self
            .hosts
            .contains_key(&self.default_host_ref())
            .then(|| self.fallback_secret());
        self.secret_users
            .names()
            .cloned()
            .chain(default)
            .map(|name| ObjectRef {
                kind: Kind::Secret,
                name: name.name,
                namespace: name.namespace,
            })
            .collect()
    }

    fn file_unless_pinned(&mut self, reconciled: Reconciled) {
        if !self.pinned.contains(&reconciled.object) {
            self.file(reconciled);
        }
    }

    fn file(&mut self, reconciled: Reconciled) {
        let Reconciled {
            object,
            generation,
            fragment,
            problems,
        } = reconciled;
        if fragment.is_none() && problems.is_empty() {
            // nothing to serve and nothing to say: an object of another instance
            self.remove(&object);
            return;
        }
        let entry = Object {
            generation,
            fragment,
            problems,
        };
        if self.objects.get(&object) == Some(&entry) {
            return;
        }
        self.dirty.applied.insert(object.clone());
        let fragment = entry.fragment.clone();
        let old = self.objects.insert(object.clone(), entry);
        if old.is_none() && object.kind == Kind::Host {
            self.dirty.default_host = true;
        }
        if old.is_some_and(|old| old.fragment == fragment) {
            return;
        }
        self.set(&object, fragment);
    }

    fn remove(&mut self, object: &ObjectRef) {
        if self.objects.remove(object).is_none() {
            return;
        }
        self.dirty.applied.insert(object.clone());
        if object.kind == Kind::Host {
            self.dirty.default_host = true;
        }
        self.set(object, None);
    }

    /// Puts a fragment where the levels look for it.
    fn set(&mut self, object: &ObjectRef, fragment: Option<Fragment>) {
        match (object.kind, fragment) {
            (Kind::Listener, Some(Fragment::Listener(listener))) => {
                self.set_listener(object, Some(listener));
            }
            (Kind::Listener, _) => self.set_listener(object, None),
            (Kind::Host, Some(Fragment::Host(host))) => self.set_host(object, Some(host)),
            (Kind::Host, _) => self.set_host(object, None),
            (Kind::Mapping, Some(Fragment::Mapping(mapping))) => {
                self.set_mapping(object, Some(mapping));
            }
            (Kind::Mapping, _) => self.set_mapping(object, None),
            (Kind::TcpMapping, Some(Fragment::TcpMapping(mapping))) => {
                self.set_tcp_mapping(object, Some(mapping));
            }
            (Kind::TcpMapping, _) => self.set_tcp_mapping(object, None),
            (Kind::TlsContext, Some(Fragment::TlsContext(context))) => {
                self.set_context(object, Some(context));
            }
            (Kind::TlsContext, _) => self.set_context(object, None),
            (
                Kind::KubernetesServiceResolver | Kind::KubernetesEndpointResolver,
                Some(Fragment::Resolver(kind)),
            ) => self.set_resolver(object, Some(kind)),
            (Kind::KubernetesServiceResolver | Kind::KubernetesEndpointResolver, _) => {
                self.set_resolver(object, None);
            }
            (Kind::Service, Some(Fragment::Service(service))) => {
                self.set_service(object, Some(service));
            }
            (Kind::Service, _) => self.set_service(object, None),
            (Kind::EndpointSlice, Some(Fragment::EndpointSlice(slice))) => {
                self.set_endpoint_slice(object, Some(slice));
            }
            (Kind::EndpointSlice, _) => self.set_endpoint_slice(object, None),
            (Kind::Secret, Some(Fragment::Secret(secret))) => self.set_secret(object, Some(secret)),
            (Kind::Secret, _) => self.set_secret(object, None),
            (Kind::Namespace, Some(Fragment::Namespace(labels))) => {
                self.set_namespace(object, Some(labels));
            }
            (Kind::Namespace, _) => self.set_namespace(object, None),
            (Kind::Document, _) => {}
        }
    }
}

/// The identity within a kind.
fn name_of(object: &ObjectRef) -> Name {
    Name {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    }
}
