//! What has to be linked again, by level. Any level marks; each level takes its own marks when it is linked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nuncio_ir::{ListenerKey, TableKey, Unit};

use super::{
    cluster::upstream::EndpointsKey,
    group::{GroupKey, GroupMarks},
    overlap::Place,
};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::Name,
};

/// The marks.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) ingresses: BTreeSet<ObjectRef>,
    pub(super) default_host: bool,
    pub(super) services: BTreeSet<Name>,
    pub(super) endpoint_slices: BTreeSet<Name>,
    pub(super) secrets: BTreeSet<Name>,
    /// Secrets that an object begins to use, or no longer uses. That is nothing to their other users.
    pub(super) secret_users: BTreeSet<Name>,
    /// What resolvers are called.
    pub(super) resolvers: BTreeSet<Arc<str>>,
    pub(super) consul_resolvers: BTreeSet<ObjectRef>,
    pub(super) tls_contexts: BTreeSet<ObjectRef>,
    pub(super) modules: bool,
    /// The upstreams of the Module's probes.
    pub(super) probes: bool,
    /// The settings that all listeners have in common.
    pub(super) shared_options: bool,
    /// AuthServices, RateLimitServices, LogServices and TracingServices.
    pub(super) edge_services: BTreeSet<ObjectRef>,
    pub(super) hosts: BTreeSet<ObjectRef>,
    pub(super) mappings: BTreeSet<ObjectRef>,
    pub(super) tcp_mappings: BTreeSet<ObjectRef>,
    pub(super) groups: BTreeMap<Arc<GroupKey>, GroupMarks>,
    /// Where groups may overlap now, or no longer do.
    pub(super) places: BTreeSet<Place>,
    pub(super) sockets: BTreeSet<ListenerKey>,
    /// Hosts whose routes differ, and in what.
    pub(super) routes: BTreeMap<ObjectRef, Difference>,
    pub(super) tables: BTreeSet<TableKey>,
    pub(super) endpoints: BTreeSet<EndpointsKey>,
    pub(super) units: BTreeSet<Unit>,
    /// Secrets whose certificate may be another one, or served for another reason.
    pub(super) certificates: BTreeSet<Arc<str>>,
    pub(super) reports: BTreeSet<ObjectRef>,
    /// Objects that were applied: their report goes out even if it is the same as before.
    pub(super) applied: BTreeSet<ObjectRef>,
}

/// In what the routes of a Host differ; the greater includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// In their actions, which a virtual host that redirects or rejects everything does not use.
    Action,
    /// In what they match.
    Match,
}

impl Dirty {
    /// Marks the routes of a Host.
    pub(super) fn route(&mut self, host: &ObjectRef, difference: Difference) {
        let marked = self.routes.entry(host.clone()).or_insert(difference);
        *marked = difference.max(*marked);
    }

    /// Marks a group because of a member.
    pub(super) fn group_member(&mut self, group: &Arc<GroupKey>, member: &ObjectRef) {
        let marks = self.groups.entry(group.clone()).or_default();
        marks.members.insert(member.clone());
    }

    /// Marks a group because of a Host.
    pub(super) fn group_host(&mut self, group: &Arc<GroupKey>, host: &ObjectRef) {
        let marks = self.groups.entry(group.clone()).or_default();
        marks.hosts.insert(host.clone());
    }

    /// Marks an object because something that it refers to changed.
    pub(super) fn link_again(&mut self, user: &ObjectRef) {
        let marks = match user.kind {
            Kind::Mapping => &mut self.mappings,
            Kind::TcpMapping => &mut self.tcp_mappings,
            Kind::Host => &mut self.hosts,
            Kind::TlsContext => &mut self.tls_contexts,
            Kind::AuthService
            | Kind::RateLimitService
            | Kind::LogService
            | Kind::TracingService
            | Kind::Module => &mut self.edge_services,
            Kind::ConsulResolver => &mut self.consul_resolvers,
            // no other kind is a user of anything
            _ => return,
        };
        marks.insert(user.clone());
    }
}
