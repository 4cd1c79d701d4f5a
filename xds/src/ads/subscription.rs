//! The state machine of one resource type on a stream: subscriptions, responses in flight, ACKs and NACKs. It has no I/O and
//! no clock.
//!
//! It follows "xDS REST and gRPC protocol" (Envoy documentation). Each concept has a file: what the client subscribes to
//! (`interest`), what to send (`pending`, `isolation`, `removals`, `retries`), what it has been sent (`in_flight`, `warming`,
//! `rejections`), and how responses are made (`changes`, and `full_state` for SotW).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use self::{
    in_flight::{InFlight, Window},
    interest::Interest,
    isolation::Isolation,
    pending::Pending,
    rejections::Rejections,
    removals::Removals,
    retries::Retries,
    warming::Warming,
};
use super::scopes::{self, Loading, ScopeState};
use crate::{
    ResourceType, Version,
    fleet::{CANNOT_BIND, Protocol, Suspects},
    resource::Ref,
    snapshot::{Entries, Entry, Snapshot, TypeView},
};

mod changes;
mod full_state;
mod in_flight;
mod interest;
mod isolation;
mod names;
mod pending;
mod rejections;
mod removals;
mod retries;
mod warming;

pub(super) use full_state::version;
#[cfg(test)]
use rejections::Rejected;
pub(super) use rejections::RejectionChange;

/// In how many resources a client can differ from what is served for its state to be remembered as a difference.
const MAX_DIFFERING: usize = 64;

/// Content of a response.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) entries: Vec<Arc<Entry>>,
    /// Delta only.
    pub(super) removed: Vec<Arc<str>>,
    /// Those of `entries` that the client does not have.
    pub(super) fresh: Vec<Arc<Entry>>,
    /// SotW: number of resources in which this differs from the snapshot.
    pub(super) differing: usize,
    /// SotW: `entries` by name, if they are the full state. Shares the snapshot's map.
    full_state: Option<Entries>,
}

impl Content {
    fn push(&mut self, entry: Arc<Entry>) {
        self.fresh.push(entry.clone());
        self.entries.push(entry);
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.removed.is_empty()
    }
}

/// What a NACK rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nack {
    /// Something that the client has not rejected before.
    New,
    /// A listener that was sent again.
    Again,
}

/// What a response depends on besides its subscription.
pub(super) struct Context<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) suspects: &'a Suspects,
    /// The state of clusters. Resources that refer to those that the client cannot use yet are held back.
    pub(super) clusters: Option<&'a Subscription>,
    /// What scopes and listeners wait for.
    pub(super) loading: Loading<'a>,
    pub(super) nonce: u64,
    pub(super) now: Instant,
}

/// The subscription part of a request.
#[derive(Debug, Default)]
pub(super) struct SubscribeRequest {
    /// SotW: all names. Delta: added names.
    pub(super) names: Vec<String>,
    /// Delta: removed names.
    pub(super) unsubscribe: Vec<String>,
    /// Delta: versions that the client has from an earlier stream.
    pub(super) initial_versions: BTreeMap<String, String>,
    /// SotW: version that the client has from an earlier stream.
    pub(super) version: String,
}

/// What a subscription has seen before its first snapshot; one for all.
static EMPTY: LazyLock<Arc<Snapshot>> = LazyLock::new(Arc::default);

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    protocol: Protocol,
    /// Whether there was a request for this type.
    started: bool,
    /// See [`Subscription::is_answered`].
    is_answered: bool,
    interest: Interest,
    /// The first request, until its versions are compared with the snapshot.
    initial: Option<SubscribeRequest>,
    /// Changes up to this snapshot have been collected.
    seen: Arc<Snapshot>,
    /// The last accepted version of clusters, filters, listeners and route tables.
    accepted: Entries,
    /// Resources that the client has from an earlier stream, in versions that are not known.
    unknown: BTreeSet<Arc<str>>,
    /// SotW: the same, without their names.
    has_unknown: bool,
    /// Everything up to this snapshot is acknowledged or rejected.
    acked: u64,
    /// Resources to send or remove.
    pending: Pending,
    /// Those of `pending` that the client has asked for although it has them, or has rejected them: it gets a response.
    answers: BTreeSet<Arc<str>>,
    /// A response is due even if it is empty, because of a change in this snapshot.
    must_respond: Option<u64>,
    isolation: Isolation,
    in_flight: Window,
    rejections: Rejections,
    retries: Retries,
    removals: Removals,
    warming: Warming,
    /// Grows with every event that can make a cluster usable.
    generation: u64,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType, protocol: Protocol) -> Self {
        Self {
            kind,
            protocol,
            started: false,
            is_answered: false,
            interest: Interest::default(),
            initial: None,
            seen: EMPTY.clone(),
            accepted: Entries::new(),
            unknown: BTreeSet::new(),
            has_unknown: false,
            acked: 0,
            pending: Pending::default(),
            answers: BTreeSet::new(),
            must_respond: None,
            isolation: Isolation::default(),
            in_flight: Window::default(),
            rejections: Rejections::default(),
            retries: Retries::default(),
            removals: Removals::default(),
            warming: Warming::default(),
            generation: 0,
        }
    }

    /// Resource type.
    pub(super) const fn kind(&self) -> ResourceType {
        self.kind
    }

    /// Whether there was a request for this type.
    pub(super) const fn is_started(&self) -> bool {
        self.started
    }

    /// Everything up to this snapshot is acknowledged or rejected.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether responses have the full state, which replaces what the client has: SotW, for CDS and LDS.
    const fn has_full_state(&self) -> bool {
        matches!(self.protocol, Protocol::Sotw)
            && matches!(
                self.kind,
                ResourceType::Cluster | ResourceType::Listener | ResourceType::Scope
            )
    }

    /// Maximum number of responses in flight. More than one where responses are independent of each other, since Envoy
    /// acknowledges clusters only when they are warm.
    const fn window(&self) -> usize {
        match (self.protocol, self.kind) {
            (
                Protocol::Delta,
                ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Secret,
            ) => 4,
            _ => 1,
        }
    }

    // === Requests ===

    /// Nonce of the last response, if it is in flight.
    pub(super) fn last_nonce(&self) -> Option<u64> {
        self.in_flight.last().map(|sent| sent.nonce)
    }

    /// Changes the subscription.
    pub(super) fn subscribe(&mut self, request: SubscribeRequest) {
        match self.protocol {
            Protocol::Delta => self.subscribe_delta(request),
            Protocol::Sotw => self.subscribe_sotw(request),
        }
        self.interest.names.shrink(self.seen.of(self.kind));
    }

    fn subscribe_delta(&mut self, request: SubscribeRequest) {
        let first = !self.started;
        self.started = true;
        // a first request without names, or the name `*`, subscribes to everything
        if first && request.names.is_empty() {
            self.interest.wildcard = true;
        }
        for name in &request.names {
            self.interest.has_named = true;
            if name == "*" {
                if !self.interest.wildcard && !first {
                    // a new wildcard: compares with the whole snapshot
                    self.initial.get_or_insert_default();
                    self.is_answered = false;
                }
                self.interest.wildcard = true;
                continue;
            }
            let name = self.interest.names.insert(name, self.seen.of(self.kind));
            if !first {
                // the protocol requires a response to every subscribed name, even if the client has the resource
                self.answer(name);
            }
        }
        for name in &request.unsubscribe {
            if name == "*" {
                self.interest.wildcard = false;
                self.pending.list(self.seen.of(self.kind));
                continue;
            }
            let view = self.seen.of(self.kind);
            let Some(name) = self.interest.names.remove(name, view) else {
                continue;
            };
            if self.interest.wildcard {
                self.answer(name);
            } else {
                self.forget(&name);
            }
        }
        if first {
            self.is_answered = !request.initial_versions.is_empty();
            self.initial = Some(request);
        }
    }

    fn subscribe_sotw(&mut self, request: SubscribeRequest) {
        let first = !self.started;
        self.started = true;
        let digest = interest::digest(&request.names);
        if !first && self.interest.digest == digest {
            return; // every ACK repeats all names
        }
        self.interest.digest = digest;
        let seen = self.seen.clone();
        let view = seen.of(self.kind);
        self.pending.list(view);
        let interest = &mut self.interest;
        interest.has_named |= !request.names.is_empty();
        interest.wildcard = request.names.iter().any(|name| name == "*") || !interest.has_named;
        let names = request.names.iter().map(String::as_str);
        let names: BTreeSet<&str> = names.filter(|name| *name != "*").collect();
        let current = interest.names.iter(view);
        let gone = current.filter(|name| !names.contains(&***name));
        let gone: Vec<Arc<str>> = gone.cloned().collect();
        for name in &gone {
            interest.names.remove(name, view);
        }
        // the protocol requires a response to new names, even if nothing changed
        for name in names {
            if !self.interest.names.contains(name, view) {
                let name = self.interest.names.insert(name, view);
                self.answer(name);
            }
        }
        if !self.interest.wildcard {
            for name in &gone {
                self.forget(name);
            }
            let names = &self.interest.names;
            self.pending.retain(|name| names.contains(name, view));
        }
        if first {
            self.has_unknown = !request.version.is_empty();
            self.is_answered = self.has_unknown;
            self.initial = Some(request);
        }
    }

    /// Responds to a name that the client has asked for.
    fn answer(&mut self, name: Arc<str>) {
        let current = self.served(&name);
        self.rejections.update(&name, current);
        let view = self.seen.of(self.kind);
        let entry = view.get(&name);
        if self.accepted.contains_key(&name)
            || self.in_flight.contains(&name)
            || entry.is_some_and(|entry| self.rejections.contains(entry))
        {
            self.answers.insert(name.clone());
        }
        self.pending.insert(name, self.seen.seq, view);
    }

    /// The client has unsubscribed from a name.
    fn forget(&mut self, name: &Arc<str>) {
        self.pending.remove(name);
        self.answers.remove(name);
        self.removals.cancel(name);
        self.accepted.remove(name);
        self.unknown.remove(name);
        self.rejections.update(name, None);
    }

    /// The version of a name that is served, if the client subscribes to it.
    fn served(&self, name: &str) -> Option<Version> {
        let view = self.seen.of(self.kind);
        let entry = view.get(name)?;
        self.interest.contains(name, view).then_some(entry.version)
    }

    /// Handles an ACK. Returns when the response was sent; `None` for an unknown nonce.
    pub(super) fn ack(&mut self, nonce: u64) -> Option<Instant> {
        let sent = self.take_in_flight(nonce)?;
        for entry in &sent.fresh {
            self.rejections.accept(entry);
            self.retries.remove(&entry.name);
            self.unknown.remove(&entry.name);
        }
        for name in &sent.removed {
            self.unknown.remove(name);
        }
        if let Some(full_state) = sent.full_state {
            self.accepted = full_state;
            self.has_unknown = false;
        } else if let Some(all) = self.all_accepted(&sent) {
            self.accepted = all;
        } else if self.tracks_accepted() {
            for entry in sent.fresh {
                self.accepted.insert(entry.name.clone(), entry);
            }
            for name in &sent.removed {
                self.accepted.remove(name);
            }
        }
        self.update_acked();
        Some(sent.sent)
    }

    /// Handles a NACK; `None` for an unknown nonce. If the response had one new resource, that one is rejected. If it had
    /// several, they are sent again in smaller responses. Removals are sent again once, without the others.
    pub(super) fn nack(&mut self, nonce: u64, message: &str) -> Option<Nack> {
        let sent = self.take_in_flight(nonce)?;
        let mut nack = Nack::New;
        // a later ACK can have accepted a part of it
        let accepted = |entry: &Entry| {
            let accepted = self.accepted.get(&entry.name);
            accepted.is_some_and(|accepted| accepted.version == entry.version)
        };
        let fresh: Vec<Arc<Entry>> = sent
            .fresh
            .into_iter()
            .filter(|entry| !accepted(entry))
            .collect();
        match fresh.as_slice() {
            // the removals themselves are rejected
            [] => {}
            [culprit] => {
                let current = self.served(&culprit.name);
                let is_temporary =
                    self.kind == ResourceType::Listener && message.contains(CANNOT_BIND);
                if self.retries.is_due(culprit) && is_temporary {
                    nack = Nack::Again;
                }
                self.rejections
                    .reject(culprit, message, is_temporary, current);
                if is_temporary {
                    self.retries.failed(culprit, sent.sent);
                } else {
                    self.retries.remove(&culprit.name);
                }
                if self.has_full_state() {
                    // sends the rest of the response again, such as removals, without the culprit
                    let view = self.seen.of(self.kind);
                    self.pending.insert(culprit.name.clone(), sent.since, view);
                }
                self.isolation
                    .push(sent.removed.into_iter().collect(), sent.since);
            }
            _ => {
                let names = fresh.into_iter().map(|entry| entry.name.clone()).collect();
                self.isolation.split(names, message, sent.since);
                self.isolation
                    .push(sent.removed.into_iter().collect(), sent.since);
            }
        }
        self.update_acked();
        Some(nack)
    }

    /// Removes the response with this nonce from those in flight.
    fn take_in_flight(&mut self, nonce: u64) -> Option<InFlight> {
        // SotW clients respond in order, so older responses will not be acknowledged
        let in_order = self.protocol == Protocol::Sotw;
        let sent = self.in_flight.take(nonce, in_order)?;
        self.warming.finish(nonce);
        self.is_answered = true;
        self.generation += 1;
        Some(sent)
    }

    // === What the client has ===

    const fn tracks_accepted(&self) -> bool {
        matches!(
            self.kind,
            ResourceType::Cluster
                | ResourceType::Filter
                | ResourceType::Listener
                | ResourceType::Scope
                | ResourceType::RouteTable
        )
    }

    /// What the client has accepted, now with this response, if that is all that is served, or nearly so. It shares the
    /// snapshot's map, so that streams that are up to date have nothing of their own.
    fn all_accepted(&self, sent: &InFlight) -> Option<Entries> {
        if self.oldest_change().is_some() {
            return None;
        }
        let lacking = match (self.interest.wildcard, self.kind) {
            (true, _) => None,
            // a client keeps a filter that is gone, and endpoints and secrets are not tracked by name
            (
                false,
                ResourceType::Cluster
                | ResourceType::Listener
                | ResourceType::Scope
                | ResourceType::RouteTable,
            ) => Some(self.interest.names.lacking()?),
            (false, ResourceType::Endpoints | ResourceType::Secret | ResourceType::Filter) => {
                return None;
            }
        };
        let rejected = self.rejections.current();
        let differing = lacking.map_or(0, BTreeSet::len) + self.removals.len() + rejected.len();
        if differing > MAX_DIFFERING {
            return None;
        }
        let mut all = self.seen.of(self.kind).entries().clone();
        for name in rejected.keys().chain(self.removals.names()) {
            let before = self.accepted.get(name);
            let before = before.filter(|_| !sent.removed.contains(name));
            match sent.fresh(name).or(before) {
                Some(entry) => all.insert(name.clone(), entry.clone()),
                None => all.remove(name),
            };
        }
        for name in lacking.into_iter().flatten() {
            all.remove(name);
        }
        Some(all)
    }

    /// Whether the client has had a response since it subscribes to everything, so that it does not wait for one any more.
    pub(super) const fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether the client has a version of this resource.
    fn has(&self, name: &str) -> bool {
        self.accepted.contains_key(name) || self.unknown.contains(name) || self.has_unknown
    }

    /// Whether the client subscribes to a resource and has not accepted or rejected the version that is served.
    fn is_behind(&self, name: &str) -> bool {
        let is_accepted = |entry: &Arc<Entry>| {
            let accepted = self.accepted.get(name);
            accepted.is_some_and(|accepted| accepted.version == entry.version)
        };
        let view = self.seen.of(self.kind);
        let served = view.get(name);
        self.interest.contains(name, view)
            && served.is_some_and(|entry| !is_accepted(entry) && !self.rejections.contains(entry))
    }

    /// Whether the client subscribes, and has what is served, or rejects it.
    pub(super) fn is_settled_since_start(&self) -> bool {
        self.started && !self.is_behind_anything()
    }

    /// Whether the client has a version of everything of another type that the resources of this one refer to, or rejects it.
    pub(super) fn refers_to_what_is_in(&self, other: &Self) -> bool {
        let served = self.seen.of(other.kind);
        let entries = self.seen.of(self.kind).iter();
        let refs = entries.flat_map(|entry| entry.refs.iter());
        refs.filter(|(kind, _)| *kind == other.kind)
            .all(|(_, name)| {
                let entry = served.get(name);
                other.has(name) || entry.is_none_or(|entry| other.rejections.contains(entry))
            })
    }

    /// Whether there is a change that the client has neither accepted nor rejected.
    pub(super) fn is_behind_anything(&self) -> bool {
        self.oldest_change().is_some()
    }

    /// Whether a resource has to wait for what it refers to: clusters that cannot be used yet, route tables that are loaded,
    /// and scopes, for a listener that begins to use them.
    fn is_held(&self, entry: &Entry, context: &Context<'_>) -> bool {
        // a listener can have thousands
        let accepted: HashSet<&Ref> = match context.loading {
            Loading::ForListeners { .. } => self.accepted_refs(&entry.name).iter().collect(),
            Loading::Nothing | Loading::Tables(_) => HashSet::new(),
        };
        let mut refs = entry.refs.iter();
        refs.any(|of| match (of.0, context.loading) {
            (ResourceType::Cluster, _) => {
                let clusters = context.clusters;
                clusters.is_some_and(|clusters| clusters.is_unusable(&of.1))
            }
            (ResourceType::RouteTable, Loading::Tables(tables)) => !tables.has(&of.1),
            (ResourceType::RouteTable, Loading::ForListeners { tables, .. }) => {
                !accepted.contains(of) && tables.is_behind(&of.1)
            }
            (ResourceType::Scope, Loading::ForListeners { scopes, .. }) => {
                let waits = match scopes {
                    ScopeState::Settled => false,
                    ScopeState::Unsettled => true,
                    ScopeState::Unused => self.uses_scopes(),
                };
                waits && !accepted.contains(of)
            }
            _ => false,
        })
    }

    /// Whether the client has, or is sent, a listener that uses scopes.
    fn uses_scopes(&self) -> bool {
        let in_flight = self.in_flight.iter().flat_map(|sent| &sent.fresh);
        let mut entries = self.accepted.values().chain(in_flight);
        entries.any(|entry| uses_scopes(entry))
    }

    /// No change that is not acknowledged is older than this snapshot; `None` if all are acknowledged or rejected.
    fn oldest_change(&self) -> Option<u64> {
        let initial = self.initial.as_ref().map(|_| self.acked + 1);
        [
            initial,
            self.must_respond,
            self.pending.since(),
            self.isolation.since(),
            self.in_flight.since(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn update_acked(&mut self) {
        let acked = match self.oldest_change() {
            Some(oldest) => oldest.saturating_sub(1),
            None => self.seen.seq,
        };
        self.acked = self.acked.max(acked);
    }

    /// Rejected versions that are current.
    #[cfg(test)]
    pub(super) const fn rejected(&self) -> &BTreeMap<Arc<str>, Rejected> {
        self.rejections.current()
    }

    /// Changes of what the client rejects, since the last call.
    pub(super) fn take_rejection_changes(&mut self) -> Vec<RejectionChange> {
        self.rejections.take_changes()
    }

    /// Grows with every change of what the client rejects.
    pub(super) const fn rejection_generation(&self) -> u64 {
        self.rejections.generation()
    }

    /// References of a version that the client has accepted.
    pub(super) fn accepted_refs(&self, name: &str) -> &[Ref] {
        self.accepted.get(name).map_or(&[], |entry| &entry.refs)
    }

    /// The scopes of the same chain that the client has accepted.
    pub(super) fn accepted_scopes(&self, name: &str) -> Vec<Ref> {
        let names = self.accepted.keys();
        let names = names.filter(|of| scopes::chain(self.kind, of).as_deref() == Some(name));
        names.map(|name| (self.kind, name.clone())).collect()
    }

    /// References of the last accepted versions of rejected resources, which the client still uses; `None` if it uses
    /// versions of an earlier stream, which are not known.
    pub(super) fn refs_in_use(&self) -> Option<Vec<Ref>> {
        let mut refs = Vec::new();
        for name in self.rejections.current().keys() {
            match self.accepted.get(name) {
                Some(entry) => refs.extend(entry.refs.iter().cloned()),
                None if self.has_unknown || self.unknown.contains(name) => return None,
                None => {}
            }
        }
        Some(refs)
    }

    // === Clusters that cannot be used yet ===

    /// Grows with every event that can make a cluster usable.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there are clusters that the client cannot use yet: they are not sent, or warm.
    pub(super) fn has_unusable(&self) -> bool {
        !(self.pending.is_empty() && self.isolation.is_empty() && self.warming.is_empty())
    }

    /// Whether the client cannot use this cluster yet.
    pub(super) fn is_unusable(&self, name: &str) -> bool {
        if self.warming.contains(name) {
            return true;
        }
        let view = self.seen.of(self.kind);
        let is_unsent = self.pending.contains(name, view) || self.isolation.contains(name);
        let is_known = || self.accepted.contains_key(name) || self.unknown.contains(name);
        let is_new = || !is_known() || self.in_flight.is_removing(name);
        let entry = view.get(name);
        is_unsent && is_new() && entry.is_some_and(|entry| !self.rejections.contains(entry))
    }

    /// Stops waiting for clusters whose endpoints are sent.
    pub(super) fn endpoints_sent(&mut self, endpoints: &[Arc<Entry>]) {
        if self.warming.endpoints_sent(endpoints) {
            self.generation += 1;
        }
    }

    /// Stops waiting for clusters that warm for too long.
    pub(super) fn expire_warming(&mut self, now: Instant) {
        if !self.warming.is_empty() && self.warming.expire(now) {
            self.generation += 1;
        }
    }

    /// When to stop waiting for the next cluster.
    pub(super) fn warming_deadline(&self) -> Option<Instant> {
        self.warming.deadline()
    }

    /// Whether resources are held back because of clusters.
    pub(super) fn has_held(&self) -> bool {
        self.pending.has_held()
    }

    /// Looks at resources again that were held back.
    pub(super) fn release_held(&mut self) {
        self.pending.release(self.seen.of(self.kind));
    }

    // === Changes ===

    /// Collects the changes in a new snapshot.
    pub(super) fn collect_changes(&mut self, snapshot: &Arc<Snapshot>) {
        if !self.started {
            return;
        }
        if self.initial.is_none() && self.seen.seq == snapshot.seq {
            // the client can have unsubscribed from what was to be sent
            self.update_acked();
            return;
        }
        let before = std::mem::replace(&mut self.seen, snapshot.clone());
        let old = before.of(self.kind);
        let view = snapshot.of(self.kind);
        if let Some(initial) = self.initial.take() {
            let names = &mut self.interest.names;
            if Arc::ptr_eq(&before, &EMPTY) {
                names.start(view);
            } else {
                names.update(view.differences(old), old, view);
            }
            self.compare(view, snapshot.seq, &initial);
        } else {
            let changed: Vec<&Arc<str>> = match view.changed_since(before.seq) {
                Some(changed) => changed.collect(),
                None => view.differences(old).collect(),
            };
            let names = &mut self.interest.names;
            names.update(changed.iter().copied(), old, view);
            for name in changed {
                if self.interest.contains(name, view) {
                    self.add_change(view, name.clone(), before.seq + 1);
                }
            }
        }
        self.interest.names.shrink(view);
        self.update_acked();
    }

    /// Compares the snapshot with what the client has from an earlier stream.
    fn compare(&mut self, view: &TypeView, seq: u64, initial: &SubscribeRequest) {
        let since = self.acked + 1;
        if self.has_full_state() {
            let differs = initial.version != full_state::snapshot_version(view);
            self.must_respond = differs.then_some(since);
            if !differs {
                // equal versions mean equal content
                self.accepted = view.entries().clone();
                self.has_unknown = false;
            }
            return;
        }
        if self.interest.wildcard && initial.initial_versions.is_empty() {
            self.pending.insert_all(since);
            let named = self.interest.names.iter(view);
            for name in named.filter(|name| view.get(name).is_none()) {
                self.pending.insert(name.clone(), since, view);
            }
            self.must_respond = Some(since);
            return;
        }
        let held = |name: &str| Version::parse(initial.initial_versions.get(name)?);
        let mut same = Vec::new();
        let named = self.interest.names.iter(view);
        let names: Vec<Arc<str>> = if self.interest.wildcard {
            let all = view.iter().map(|entry| &entry.name);
            all.chain(named).cloned().collect()
        } else {
            named.cloned().collect()
        };
        for name in names {
            match view.get(&name) {
                Some(entry) if held(&name) == Some(entry.version) => same.push(entry.clone()),
                entry => {
                    if entry.is_some() && initial.initial_versions.contains_key(&*name) {
                        self.unknown.insert(name.clone());
                    }
                    self.pending.insert(name, since, view);
                }
            }
        }
        let held = initial.initial_versions.keys();
        for name in held.filter(|name| view.get(name).is_none()) {
            self.unknown.insert(name.as_str().into());
            self.add_change(view, name.as_str().into(), seq);
        }
        if self.tracks_accepted() {
            self.accept_held(view, same);
        }
        // the first wildcard request always gets a response: Envoy waits for it before it is ready
        self.must_respond = self.interest.wildcard.then_some(since);
    }

    /// Records what the client has from an earlier stream. Shares the snapshot's map if that is most of it.
    fn accept_held(&mut self, view: &TypeView, same: Vec<Arc<Entry>>) {
        if self.interest.wildcard && self.pending.len() < same.len() {
            self.accepted = view.entries().clone();
            for name in self.pending.iter(view) {
                self.accepted.remove(name);
            }
        } else {
            let same = same.into_iter().map(|entry| (entry.name.clone(), entry));
            self.accepted.extend(same);
        }
    }

    /// A resource has changed, in snapshot `since` at the earliest.
    fn add_change(&mut self, view: &TypeView, name: Arc<str>, since: u64) {
        let current = self.served(&name);
        self.rejections.update(&name, current);
        // routes and listeners can still refer to what is gone
        let is_deferred = match self.kind {
            ResourceType::Filter | ResourceType::Listener => false,
            // a request for its host name is one for all other names now
            ResourceType::Scope => !scopes::is_gone_alone(view, &name),
            _ => true,
        };
        if is_deferred && view.get(&name).is_none() {
            self.pending.remove(&name);
            self.removals.defer(name, self.seen.seq);
            return;
        }
        self.removals.cancel(&name);
        self.pending.insert(name, since, view);
    }

    /// Whether the client is known to have the version that is served.
    fn is_up_to_date(&self, name: &str, view: &TypeView) -> bool {
        let (Some(accepted), Some(entry)) = (self.accepted.get(name), view.get(name)) else {
            return false;
        };
        accepted.version == entry.version
            && !self.rejections.contains(entry)
            && !self.in_flight.contains(name)
    }

    /// Sends listeners again whose addresses could not be bound, if it is time.
    pub(super) fn retry(&mut self, now: Instant) {
        for name in self.retries.take_due(now) {
            let entry = self.seen.of(self.kind).get(&name);
            if entry
                .is_some_and(|entry| self.retries.is_due(entry) && self.rejections.contains(entry))
            {
                // everything up to here stays acknowledged
                self.isolation.push(vec![name], self.seen.seq + 1);
            } else {
                self.retries.remove(&name);
            }
        }
    }

    /// Starts the grace period of removals up to snapshot `acked`, of which routes and listeners are acknowledged. Returns
    /// whether one has ended.
    pub(super) fn advance_removals(&mut self, acked: u64, grace: Duration, now: Instant) -> bool {
        self.removals.advance(acked, grace, now)
    }

    /// Sends removals whose grace period is over, except for those in use.
    pub(super) fn release_removals(
        &mut self,
        acked: u64,
        now: Instant,
        is_in_use: impl Fn(&Arc<str>) -> bool,
    ) {
        for name in self.removals.take_due(acked, now, is_in_use) {
            let view = self.seen.of(self.kind);
            self.pending.insert(name, self.seen.seq, view);
        }
    }

    /// Looks again at removals of resources that were in use.
    pub(super) fn recheck_removals(&mut self) {
        self.removals.recheck();
    }

    /// Sends these resources, even if they have not changed.
    pub(super) fn resend<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) {
        if !self.started {
            return;
        }
        let view = self.seen.of(self.kind);
        for name in names.filter(|name| view.get(name).is_some()) {
            self.pending.insert(name.clone(), self.seen.seq, view);
        }
    }

    /// When to poll again without a new request or snapshot: at the end of a grace period or of an ACK timeout.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let is_blocked = !self.pending.has_nothing_to_send()
            || !self.isolation.is_empty()
            || self.must_respond.is_some();
        let ack_timeout = self.in_flight.deadline(now).filter(|_| is_blocked);
        [
            self.removals.deadline(),
            self.retries.deadline(),
            ack_timeout,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether nothing is to be sent, now or later, unless there is a change or a request other than an ACK.
    pub(super) fn is_quiet(&self) -> bool {
        !self.started
            || (self.initial.is_none()
                && self.must_respond.is_none()
                && self.pending.is_empty()
                && self.isolation.is_empty()
                && self.removals.len() == 0
                && self.retries.is_empty()
                && self.warming.is_empty())
    }

    // === Responses ===

    /// Whether there is something to send, now or once responses in flight are acknowledged.
    pub(super) fn is_due(&self) -> bool {
        !self.pending.has_nothing_to_send()
            || !self.isolation.is_empty()
            || self.must_respond.is_some()
    }

    /// The next response, if one is due and can be sent now.
    pub(super) fn respond(&mut self, context: &Context<'_>) -> Option<Content> {
        if !self.is_due() || self.in_flight.waiting(context.now) >= self.window() {
            return None;
        }
        let unsent = [
            self.must_respond,
            self.pending.since(),
            self.isolation.since(),
        ];
        let since = unsent.into_iter().flatten().min();
        let content = if self.has_full_state() {
            self.full_state(context)
        } else {
            self.changes(context)
        };
        self.generation += 1;
        let content = match content {
            Some(content) => content,
            None if self.must_respond.is_some() => Content::default(),
            None => {
                self.update_acked();
                return None;
            }
        };
        self.must_respond = None;
        let mut fresh = content.fresh.clone();
        fresh.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        if self.kind == ResourceType::Cluster {
            self.warm(&content, context);
        }
        self.in_flight.push(InFlight {
            nonce: context.nonce,
            sent: context.now,
            since: since.unwrap_or(self.seen.seq),
            fresh,
            removed: content.removed.iter().cloned().collect(),
            full_state: content.full_state.clone(),
        });
        self.update_acked();
        Some(content)
    }

    /// Records which clusters of a response warm, unless the client uses an earlier version meanwhile. It does not if a
    /// response in flight removes that.
    fn warm(&mut self, content: &Content, context: &Context<'_>) {
        let new = content.fresh.iter().filter(|entry| {
            !self.accepted.contains_key(&entry.name) || self.in_flight.is_removing(&entry.name)
        });
        self.warming.sent(new.cloned(), context.nonce, context.now);
        for name in &content.removed {
            self.warming.remove(name);
        }
    }
}

/// Whether a listener uses scopes.
fn uses_scopes(listener: &Entry) -> bool {
    let mut refs = listener.refs.iter();
    refs.any(|(kind, _)| *kind == ResourceType::Scope)
}
