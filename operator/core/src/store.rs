//! The Store: every object's fragment, the links between them, and what a change of one means for the others.
//!
//! Applying a change only files it and marks what has to be linked again. [`Store::link`] then goes through these marks
//! level by level; each level derives its results from the ones before it and stops where nothing differs:
//!
//! ```text
//! objects ─► Ingresses ─► Module ─► Services, Secrets, resolvers ─► TLSContexts ─► edge services ─► Hosts ─► Mappings, TCPMappings (clusters) ─► groups
//!     ─► sockets ─► route tables, endpoints ─► reports
//! ```
//!
//! The results depend on the present objects only, never on the order in which they arrived: a property test checks that
//! any sequence of changes ends in the same bytes as one build from the final objects. A change costs what it touches: a
//! Mapping touches its group, and the tables of the Hosts that take it.
//!
//! The result is an [`Ir`] with the set of [`Unit`]s that may differ, and the reports that do.

use std::{collections::BTreeSet, mem, sync::Arc, vec::Drain};

use nuncio_ir::{Ir, Unit};

use self::{
    auth_service::Authorizations,
    cluster::Clusters,
    consul::Consul,
    dirty::Dirty,
    edge_service::EdgeServices,
    endpoint_slice::EndpointSlices,
    filter::Filters,
    group::Groups,
    host::Hosts,
    http_options::SharedOptions,
    ingress::Ingresses,
    listener::Listeners,
    mapping::Mappings,
    module::Modules,
    namespace::Namespaces,
    objects::{Filed, Objects},
    older::OlderForms,
    overlap::Overlaps,
    probe::Probes,
    rate_limit_service::RateLimits,
    regex::Regexes,
    report::Reports,
    resolver::Resolvers,
    secret::{Secrets, waiting::Settled},
    service::Services,
    shadowed::Shadowed,
    tcp_mapping::TcpMappings,
    tls_context::TlsContexts,
    tls_source::TlsSource,
};
pub use self::{
    loss::Loss,
    report::{AllReports, ReportChanges},
    secret::{
        WantedSecrets,
        expiry::{ServedCertificate, Validity},
    },
};
use crate::{
    change::{Change, Origin, Owned, Reconciled, ResourceVersion, Source, Subject, Touched},
    defaults::Defaults,
    object::{Kind, ObjectRef},
    reconcile::{
        AuthService, Fragment, LogService, RateLimitService, TracingService,
        module::{AUTHENTICATION, tls},
    },
    settings::Settings,
};

mod dirty;
mod users;

mod ingress;
mod objects;
mod older;

mod namespace;
mod resolver;
mod secret;
mod service;

mod module;
mod probe;
mod tls_context;
mod tls_source;

mod auth_service;
mod edge_service;
mod log_service;
mod rate_limit_service;
mod tracing_service;

mod filter;
mod http_options;

mod by_name;
mod host;
mod neighbour;

mod mapping;
mod regex;
mod tcp_mapping;

mod group;
mod overlap;
mod shadowed;

mod listener;

mod cluster;
mod consul;
mod endpoint_slice;
mod route_table;

mod loss;
mod owner;
mod report;

/// The shared state of the gateway. One task owns it. Each level has its state in a struct of its own, which only that
/// level's module can change.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    defaults: Defaults,
    ir: Ir,
    dirty: Dirty,
    /// An outcome that was not used.
    kept: Outcome,
    /// What changed since it was asked for, or linked.
    touched: Vec<Touched>,
    objects: Objects,
    older_forms: OlderForms,
    ingresses: Ingresses,
    namespaces: Namespaces,
    services: Services,
    endpoint_slices: EndpointSlices,
    secrets: Secrets,
    resolvers: Resolvers,
    modules: Modules,
    probes: Probes,
    auth_services: EdgeServices<AuthService>,
    authorizations: Authorizations,
    rate_limit_services: EdgeServices<RateLimitService>,
    log_services: EdgeServices<LogService>,
    tracing_services: EdgeServices<TracingService>,
    rate_limits: RateLimits,
    filters: Filters,
    shared_options: SharedOptions,
    consul: Consul,
    tls_source: TlsSource,
    tls_contexts: TlsContexts,
    hosts: Hosts,
    mappings: Mappings,
    regexes: Regexes,
    tcp_mappings: TcpMappings,
    groups: Groups,
    overlaps: Overlaps,
    shadowed: Shadowed,
    listeners: Listeners,
    clusters: Clusters,
    reports: Reports,
}

/// What changed since the last [`Store::link`].
#[derive(Debug, Default)]
pub struct Outcome {
    /// Resources that may differ.
    pub units: BTreeSet<Unit>,
    /// Reports that are new or differ.
    pub reports: ReportChanges,
    /// Names of Secrets of which [`Store::served_certificate`] may differ.
    pub certificates: BTreeSet<Arc<str>>,
}

impl Store {
    /// An empty Store.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let ir = Ir::default();
        Self {
            settings,
            defaults: Defaults::default(),
            dirty: Dirty {
                default_host: true,
                probes: true,
                shared_options: true,
                units: ir.units().collect(),
                ..Dirty::default()
            },
            ir,
            kept: Outcome::default(),
            touched: Vec::new(),
            objects: Objects::default(),
            older_forms: OlderForms::default(),
            ingresses: Ingresses::default(),
            namespaces: Namespaces::default(),
            services: Services::default(),
            endpoint_slices: EndpointSlices::default(),
            secrets: Secrets::default(),
            resolvers: Resolvers::default(),
            modules: Modules::default(),
            probes: Probes::default(),
            auth_services: EdgeServices::default(),
            authorizations: Authorizations::default(),
            rate_limit_services: EdgeServices::default(),
            log_services: EdgeServices::default(),
            tracing_services: EdgeServices::default(),
            rate_limits: RateLimits::default(),
            filters: Filters::default(),
            shared_options: SharedOptions::default(),
            consul: Consul::default(),
            tls_source: TlsSource::default(),
            tls_contexts: TlsContexts::default(),
            hosts: Hosts::default(),
            mappings: Mappings::default(),
            regexes: Regexes::default(),
            tcp_mappings: TcpMappings::default(),
            groups: Groups::default(),
            overlaps: Overlaps::default(),
            shadowed: Shadowed::default(),
            listeners: Listeners::default(),
            clusters: Clusters::default(),
            reports: Reports::default(),
        }
    }

    /// Files a change. Nothing else happens until [`Store::link`].
    pub fn apply(&mut self, change: Change) {
        let settled = Settled::from(&change);
        match change {
            Change::Apply(source, reconciled) => self.file(&Origin::of(source), *reconciled),
            Change::Delete(source, object) => self.remove(&Origin::of(source), &object),
            Change::Replace(source, kind, all) => {
                let old = self.objects.of_source(source, kind);
                self.replace(&Origin::of(source), old, all);
            }
            Change::ReplaceOwned(source, owned) => self.replace_owned(source, owned),
            Change::OldestEnvoy(version) => self.set_oldest_envoy(version),
            Change::Consul(service, state) => self.set_consul(&service, state),
        }
        self.settle_secrets(&settled);
    }

    /// What the changes have changed since the last call, or since the last [`Store::link`].
    pub fn touched(&mut self) -> Drain<'_, Touched> {
        self.touched.drain(..)
    }

    /// Links everything that the changes since the last time can touch, and returns what differs.
    pub fn link(&mut self) -> Outcome {
        self.link_ingresses();
        self.link_modules();
        self.link_default_host();
        self.link_services();
        self.link_endpoint_slices();
        self.link_secrets();
        self.link_resolvers();
        self.link_tls_contexts();
        self.link_edge_services();
        self.link_probes();
        self.link_http_options();
        self.link_hosts();
        self.link_mappings();
        self.link_tcp_mappings();
        self.link_groups();
        self.link_overlaps();
        self.link_sockets();
        self.link_route_tables();
        self.link_endpoints();
        self.link_shadowed();
        let mut outcome = mem::take(&mut self.kept);
        outcome.units.append(&mut self.dirty.units);
        outcome.certificates.append(&mut self.dirty.certificates);
        outcome.reports.extend(self.link_reports());
        outcome
    }

    /// Takes back an outcome that was not used: the next one includes it.
    pub fn keep(&mut self, outcome: Outcome) {
        self.kept = outcome;
    }

    /// The gateway as of the last [`Store::link`].
    #[must_use]
    pub fn ir(&self) -> &Ir {
        &self.ir
    }

    /// Replaces the objects of an origin.
    fn replace(&mut self, origin: &Origin, mut old: BTreeSet<ObjectRef>, all: Vec<Reconciled>) {
        for reconciled in all {
            old.remove(&reconciled.object);
            self.file(origin, reconciled);
        }
        for object in old {
            self.remove(origin, &object);
        }
    }

    fn replace_owned(&mut self, source: Source, owned: Owned) {
        let owner = owned.owner;
        // the report of an owner includes those of its objects
        self.dirty.reports.insert((*owner).clone());
        let origin = Origin::owned(source, owner);
        let objects = owned.objects.iter().map(|found| found.object.clone());
        let places: Vec<_> = objects.zip(owned.documents).collect();
        let old = self.objects.owned(&origin);
        self.replace(&origin, old, owned.objects);
        for (object, document) in places {
            if self.objects.place(&origin, &object, document) {
                self.dirty.reports.insert(object);
            }
        }
    }

    fn file(&mut self, origin: &Origin, reconciled: Reconciled) {
        let object = reconciled.object.clone();
        let existed = self.objects.has(&object);
        let version = reconciled.version.clone();
        let reconciled = self.older_forms.choose(origin, reconciled);
        let filed = self.objects.file(origin, reconciled);
        self.touch(&object, version, false, &filed);
        self.filed(&object, existed, filed);
    }

    fn remove(&mut self, origin: &Origin, object: &ObjectRef) {
        self.older_forms.remove(origin, object);
        let filed = self.objects.remove(origin, object);
        self.touch(object, ResourceVersion::Unknown, true, &filed);
        self.filed(object, true, filed);
    }

    fn touch(
        &mut self,
        object: &ObjectRef,
        version: ResourceVersion,
        is_gone: bool,
        filed: &Filed,
    ) {
        if *filed != Filed::Same {
            self.touched.push(Touched {
                subject: Subject::Object(object.clone()),
                version,
                is_gone,
            });
        }
    }

    fn filed(&mut self, object: &ObjectRef, existed: bool, filed: Filed) {
        if filed == Filed::Same {
            return;
        }
        self.dirty.applied.insert(object.clone());
        if object.kind == Kind::Host && existed != self.objects.has(object) {
            self.dirty.default_host = true;
        }
        if let Filed::Fragment(fragment) = filed {
            self.set(object, fragment);
        }
    }

    /// Hands a fragment to its level; `None`: there is none any more.
    fn set(&mut self, object: &ObjectRef, fragment: Option<Fragment>) {
        /// The fragment of this kind.
        macro_rules! of {
            ($kind:ident) => {
                match fragment {
                    Some(Fragment::$kind(found)) => Some(found),
                    _ => None,
                }
            };
        }
        match object.kind {
            Kind::Listener => self.set_listener(object, of!(Listener)),
            Kind::Host => self.set_host(object, of!(Host)),
            Kind::Mapping => self.set_limited_mapping(object, of!(Mapping)),
            Kind::TcpMapping => self.set_tcp_mapping(object, of!(TcpMapping)),
            Kind::TlsContext => self.update_tls_context(object),
            Kind::Module if &*object.name == tls::NAME => {
                self.set_tls_module(object, of!(TlsModule).as_deref());
            }
            Kind::Module if &*object.name != AUTHENTICATION => {
                self.set_module(object, of!(Module));
            }
            Kind::Module | Kind::AuthService => {
                let unusable = match fragment {
                    Some(Fragment::UnusableAuthService(is_default)) => Some(is_default),
                    _ => None,
                };
                self.set_auth_service(object, of!(AuthService), unusable);
            }
            Kind::RateLimitService => {
                self.set_rate_limit_service(object, of!(RateLimitService));
            }
            Kind::LogService => self.set_log_service(object, of!(LogService)),
            Kind::TracingService => self.set_tracing_service(object, of!(TracingService)),
            Kind::KubernetesServiceResolver
            | Kind::KubernetesEndpointResolver
            | Kind::ConsulResolver => self.set_resolver(object, of!(Resolver)),
            Kind::Service => self.set_service(object, of!(Service)),
            Kind::EndpointSlice => self.set_endpoint_slice(object, of!(EndpointSlice)),
            Kind::Secret => self.set_secret(object, of!(Secret)),
            Kind::Namespace => self.set_namespace(object, of!(Namespace)),
            Kind::Ingress => self.set_ingress(object, of!(Ingress)),
            Kind::KnativeIngress => self.set_knative_ingress(object, of!(KnativeIngress)),
            Kind::IngressClass => {
                self.set_ingress_class(object, matches!(fragment, Some(Fragment::IngressClass)));
            }
            Kind::DevPortal | Kind::Document => {}
        }
    }
}
