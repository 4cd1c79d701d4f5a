//! The Store: every object's fragment, the links between them, and what a change of one means for the others.
//!
//! Applying a change only files it and marks what has to be linked again. [`Store::link`] then goes through these marks
//! level by level; each level derives its results from the ones before it and stops where nothing differs:
//!
//! ```text
//! objects ─► Services, Secrets, resolvers ─► TLSContexts ─► Hosts ─► Mappings, TCPMappings (clusters) ─► groups
//!     ─► sockets ─► route tables, endpoints ─► reports
//! ```
//!
//! The results depend on the present objects only, never on the order in which they arrived: a property test checks that
//! any sequence of changes ends in the same bytes as one build from the final objects. A change costs what it touches: a
//! Mapping touches its group, and the tables of the Hosts that take it.
//!
//! The result is an [`Ir`] with the set of [`Unit`]s that may differ, and the reports that do.

use std::{collections::BTreeSet, mem, sync::Arc};

use nuncio_ir::{Ir, Unit};

use self::{
    cluster::Clusters,
    dirty::Dirty,
    endpoint_slice::EndpointSlices,
    group::Groups,
    host::Hosts,
    listener::Listeners,
    mapping::Mappings,
    namespace::Namespaces,
    objects::{Filed, Objects},
    overlap::Overlaps,
    report::Reports,
    resolver::Resolvers,
    secret::{Secrets, waiting::Settled},
    service::Services,
    shadowed::Shadowed,
    tcp_mapping::TcpMappings,
    tls_context::TlsContexts,
};
pub use self::{
    loss::Loss,
    report::ReportChanges,
    secret::{
        WantedSecrets,
        expiry::{ServedCertificate, Validity},
    },
};
use crate::{
    change::{Change, Origin, Reconciled},
    defaults::Defaults,
    object::{Kind, ObjectRef},
    reconcile::Fragment,
    settings::Settings,
};

mod dirty;
mod users;

mod objects;

mod namespace;
mod resolver;
mod secret;
mod service;

mod tls_context;

mod by_name;
mod host;
mod neighbour;

mod mapping;
mod tcp_mapping;

mod group;
mod overlap;
mod shadowed;

mod listener;

mod cluster;
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
    objects: Objects,
    namespaces: Namespaces,
    services: Services,
    endpoint_slices: EndpointSlices,
    secrets: Secrets,
    resolvers: Resolvers,
    tls_contexts: TlsContexts,
    hosts: Hosts,
    mappings: Mappings,
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
        Self {
            settings,
            defaults: Defaults::default(),
            ir: Ir::default(),
            dirty: Dirty {
                default_host: true,
                ..Dirty::default()
            },
            kept: Outcome::default(),
            objects: Objects::default(),
            namespaces: Namespaces::default(),
            services: Services::default(),
            endpoint_slices: EndpointSlices::default(),
            secrets: Secrets::default(),
            resolvers: Resolvers::default(),
            tls_contexts: TlsContexts::default(),
            hosts: Hosts::default(),
            mappings: Mappings::default(),
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
            Change::ReplaceOwned(source, owner, all) => {
                let origin = Origin {
                    source,
                    owner: Some(owner),
                };
                let old = self.objects.owned(&origin);
                self.replace(&origin, old, all);
            }
        }
        self.settle_secrets(&settled);
    }

    /// Links everything that the changes since the last time can touch, and returns what differs.
    pub fn link(&mut self) -> Outcome {
        self.link_default_host();
        self.link_services();
        self.link_endpoint_slices();
        self.link_secrets();
        self.link_resolvers();
        self.link_tls_contexts();
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

    fn file(&mut self, origin: &Origin, reconciled: Reconciled) {
        let object = reconciled.object.clone();
        let existed = self.objects.has(&object);
        let filed = self.objects.file(origin, reconciled);
        self.filed(&object, existed, filed);
    }

    fn remove(&mut self, origin: &Origin, object: &ObjectRef) {
        let filed = self.objects.remove(origin, object);
        self.filed(object, true, filed);
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
            Kind::Mapping => self.set_mapping(object, of!(Mapping)),
            Kind::TcpMapping => self.set_tcp_mapping(object, of!(TcpMapping)),
            Kind::TlsContext => self.set_tls_context(object, of!(TlsContext)),
            Kind::KubernetesServiceResolver | Kind::KubernetesEndpointResolver => {
                self.set_resolver(object, of!(Resolver));
            }
            Kind::Service => self.set_service(object, of!(Service)),
            Kind::EndpointSlice => self.set_endpoint_slice(object, of!(EndpointSlice)),
            Kind::Secret => self.set_secret(object, of!(Secret)),
            Kind::Namespace => self.set_namespace(object, of!(Namespace)),
            Kind::Document => {}
        }
    }
}
