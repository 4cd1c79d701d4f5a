//! The state machine of one resource type on a stream: subscriptions, responses in flight, ACKs and NACKs. It has no I/O and
//! no clock.
//!
//! It follows "xDS REST and gRPC protocol" (Envoy documentation).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ResourceType, Version,
    fleet::Protocol,
    snapshot::{Entry, Snapshot, TypeView},
};

/// Maximum size of a response, unless it has one resource only.
const RESPONSE_BYTES: usize = 1 << 20;
/// Resources above this size start a response of their own, after smaller ones, which Envoy then applies first.
const LARGE_BYTES: usize = 1 << 18;
/// How long a response without ACK or NACK holds back further ones.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of responses in flight that are kept, for clients that never acknowledge.
const MAX_IN_FLIGHT: usize = 64;

/// A response without ACK or NACK.
#[derive(Debug)]
struct InFlight {
    nonce: u64,
    sent: Instant,
    /// New resources and removals in it.
    contents: Vec<Sent>,
    /// SotW: all resources in it, if it had the full state.
    full_state: Option<BTreeMap<Arc<str>, Arc<Entry>>>,
}

/// A resource in a response.
#[derive(Clone, Debug)]
struct Sent {
    name: Arc<str>,
    /// `None` for a removal.
    version: Option<Version>,
}

/// A version that the client has rejected.
#[derive(Clone, Debug)]
pub(super) struct Rejected {
    pub(super) version: Version,
    pub(super) message: Arc<str>,
}

/// A removal that is deferred until no route or listener uses the resource.
#[derive(Debug)]
struct DeferredRemoval {
    /// Snapshot with the removal.
    seq: u64,
    /// End of the grace period, once routes and listeners of that snapshot are acknowledged.
    due: Option<Instant>,
}

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

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    protocol: Protocol,
    /// Whether there was a request for this type.
    started: bool,
    wildcard: bool,
    /// Whether any request had names. From then on a request without names means nothing instead of everything.
    has_named: bool,
    names: BTreeSet<Arc<str>>,
    /// The first request, until its versions are compared with the snapshot.
    initial: Option<SubscribeRequest>,
    /// Changes up to this snapshot have been collected.
    collected: u64,
    /// SotW: the last accepted full state, which is sent in place of rejected versions.
    accepted: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Everything up to this snapshot is acknowledged or rejected.
    acked: u64,
    /// Names of resources to send or remove.
    pending: BTreeSet<Arc<str>>,
    /// Whether a response is due even if it is empty.
    must_respond: bool,
    /// After a NACK of several resources: names that are sent one by one.
    isolate: VecDeque<Arc<str>>,
    in_flight: VecDeque<InFlight>,
    rejected: BTreeMap<Arc<str>, Rejected>,
    deferred_removals: BTreeMap<Arc<str>, DeferredRemoval>,
}

/// The changes since the last response are not in the log any more; the client must reconnect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFarBehind;

impl Subscription {
    pub(super) fn new(kind: ResourceType, protocol: Protocol) -> Self {
        Self {
            kind,
            protocol,
            started: false,
            wildcard: false,
            has_named: false,
            names: BTreeSet::new(),
            initial: None,
            collected: 0,
            accepted: BTreeMap::new(),
            acked: 0,
            pending: BTreeSet::new(),
            must_respond: false,
            isolate: VecDeque::new(),
            in_flight: VecDeque::new(),
            rejected: BTreeMap::new(),
            deferred_removals: BTreeMap::new(),
        }
    }

    /// Whether there was a request for this type.
    pub(super) const fn is_started(&self) -> bool {
        self.started
    }

    /// Everything up to this snapshot is acknowledged or rejected.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether there are resources that could not be sent yet.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.isolate.is_empty()
    }

    /// Rejected versions that are still current.
    pub(super) fn rejected<'a>(
        &'a self,
        view: &'a TypeView,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Rejected)> {
        self.rejected.iter().filter(|(name, rejected)| {
            let is_current = view
                .get(name)
                .is_some_and(|entry| entry.version == rejected.version);
            is_current && self.is_subscribed(name)
        })
    }

    /// Whether responses have the full state, which replaces what the client has: SotW, for CDS and LDS.
    const fn has_full_state(&self) -> bool {
        matches!(self.protocol, Protocol::Sotw)
            && matches!(self.kind, ResourceType::Cluster | ResourceType::Listener)
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
        self.in_flight.back().map(|sent| sent.nonce)
    }

    /// Changes the subscription.
    pub(super) fn subscribe(&mut self, request: SubscribeRequest) {
        match self.protocol {
            Protocol::Delta => self.subscribe_delta(request),
            Protocol::Sotw => self.subscribe_sotw(request),
        }
    }

    fn subscribe_delta(&mut self, request: SubscribeRequest) {
        let first = !self.started;
        self.started = true;
        // a first request without names, or the name `*`, subscribes to everything
        if first && request.names.is_empty() {
            self.wildcard = true;
        }
        for name in &request.names {
            self.has_named = true;
            if name == "*" {
                if !self.wildcard && !first {
                    // a new wildcard: compares with the whole snapshot
                    self.initial.get_or_insert_default();
                }
                self.wildcard = true;
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            if !first {
                // the protocol requires a response to every subscribed name, even if the client has the resource
                self.pending.insert(name.clone());
            }
            self.names.insert(name);
        }
        for name in &request.unsubscribe {
            if name == "*" {
                self.wildcard = false;
                continue;
            }
            self.names.remove(name.as_str());
            if self.wildcard {
                self.pending.insert(name.as_str().into());
            } else {
                self.pending.remove(name.as_str());
            }
        }
        if first {
            self.initial = Some(request);
        }
    }

    fn subscribe_sotw(&mut self, request: SubscribeRequest) {
        let first = !self.started;
        self.started = true;
        let names: BTreeSet<Arc<str>> = request
            .names
            .iter()
            .filter(|name| *name != "*")
            .map(|name| name.as_str().into())
            .collect();
        self.has_named |= !request.names.is_empty();
        self.wildcard = request.names.iter().any(|name| name == "*") || !self.has_named;
        // the protocol requires a response to new names, even if nothing changed
        self.pending.extend(names.difference(&self.names).cloned());
        self.pending
            .retain(|name| self.wildcard || names.contains(name));
        self.names = names;
        if first {
            self.initial = Some(request);
        }
    }

    /// Handles an ACK. Returns when the response was sent; `None` for an unknown nonce.
    pub(super) fn ack(&mut self, nonce: u64) -> Option<Instant> {
        let sent = self.take_in_flight(nonce)?;
        for content in sent.contents {
            let same = |rejected: &Rejected| Some(rejected.version) == content.version;
            if self.rejected.get(&content.name).is_some_and(same) {
                self.rejected.remove(&content.name);
            }
        }
        if let Some(full_state) = sent.full_state {
            self.accepted = full_state;
        }
        Some(sent.sent)
    }

    /// Handles a NACK; false for an unknown nonce. If the response had one new resource, that one is rejected. If it had
    /// several, each is sent again in a response of its own.
    pub(super) fn nack(&mut self, nonce: u64, message: &str) -> bool {
        let Some(sent) = self.take_in_flight(nonce) else {
            return false;
        };
        // a later ACK can have accepted a part of it
        let accepted = |content: &Sent| {
            let accepted = self.accepted.get(&content.name);
            accepted.is_some_and(|accepted| Some(accepted.version) == content.version)
        };
        let (removals, contents): (Vec<Sent>, Vec<Sent>) = sent
            .contents
            .into_iter()
            .filter(|content| !accepted(content))
            .partition(|content| content.version.is_none());
        // Envoy may have applied nothing of the response, removals included
        self.pending
            .extend(removals.into_iter().map(|removal| removal.name));
        if let [culprit] = contents.as_slice() {
            if let Some(version) = culprit.version {
                let rejected = Rejected {
                    version,
                    message: message.into(),
                };
                self.rejected.insert(culprit.name.clone(), rejected);
            }
            if self.has_full_state() {
                // sends the rest of the response again, such as removals, without the culprit
                self.pending.insert(culprit.name.clone());
            }
            return true;
        }
        for content in contents {
            if !self.isolate.contains(&content.name) {
                self.isolate.push_back(content.name);
            }
        }
        true
    }

    /// Removes the response with this nonce from those in flight.
    fn take_in_flight(&mut self, nonce: u64) -> Option<InFlight> {
        let place = self.in_flight.iter().position(|sent| sent.nonce == nonce)?;
        let sent = self.in_flight.remove(place);
        if self.protocol == Protocol::Sotw {
            // SotW clients respond in order, so older responses will not be acknowledged
            self.in_flight.drain(..place);
        }
        sent
    }

    // === Responses ===

    fn is_subscribed(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Collects the changes in a new snapshot.
    pub(super) fn collect_changes(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), TooFarBehind> {
        if !self.started {
            return Ok(());
        }
        let view = snapshot.of(self.kind);
        if let Some(initial) = self.initial.take() {
            self.compare(view, snapshot.seq, &initial);
        } else if self.collected < snapshot.seq {
            let changed: Vec<Arc<str>> = view
                .changed_since(self.collected)
                .ok_or(TooFarBehind)?
                .filter(|name| self.is_subscribed(name))
                .cloned()
                .collect();
            for name in changed {
                self.add_change(view, snapshot.seq, name);
            }
        }
        self.collected = snapshot.seq;
        self.update_acked();
        Ok(())
    }

    /// Compares the snapshot with what the client has from an earlier stream.
    fn compare(&mut self, view: &TypeView, seq: u64, initial: &SubscribeRequest) {
        if self.has_full_state() {
            self.must_respond = initial.version != sotw_version(view);
            if !self.must_respond {
                // equal versions mean equal content
                let entries = view.iter();
                self.accepted = entries
                    .map(|entry| (entry.name.clone(), entry.clone()))
                    .collect();
            }
            return;
        }
        let held = |name: &str| initial.initial_versions.get(name).map(String::as_str);
        let names: Vec<Arc<str>> = if self.wildcard {
            view.iter()
                .map(|entry| entry.name.clone())
                .chain(self.names.iter().cloned())
                .collect()
        } else {
            self.names.iter().cloned().collect()
        };
        for name in names {
            let same = view
                .get(&name)
                .is_some_and(|entry| held(&name) == Some(entry.version.to_string().as_str()));
            if !same {
                self.pending.insert(name);
            }
        }
        let held = initial.initial_versions.keys();
        for name in held.filter(|name| view.get(name).is_none()) {
            self.add_change(view, seq, name.as_str().into());
        }
        // the first wildcard request always gets a response: Envoy waits for it before it is ready
        self.must_respond = self.wildcard;
    }

    fn add_change(&mut self, view: &TypeView, seq: u64, name: Arc<str>) {
        let gone = view.get(&name).is_none();
        if gone && matches!(self.kind, ResourceType::Cluster | ResourceType::Endpoints) {
            // routes can still refer to it
            self.pending.remove(&name);
            self.deferred_removals
                .insert(name, DeferredRemoval { seq, due: None });
            return;
        }
        self.deferred_removals.remove(&name);
        self.pending.insert(name);
    }

    /// Releases deferred removals whose grace period is over. It starts when routes and listeners of their snapshot are
    /// acknowledged, which they are up to `routes_acked`.
    pub(super) fn release_removals(&mut self, routes_acked: u64, grace: Duration, now: Instant) {
        let mut due = Vec::new();
        for (name, removal) in &mut self.deferred_removals {
            if removal.seq > routes_acked {
                continue;
            }
            let at = *removal.due.get_or_insert(now + grace);
            if at <= now {
                due.push(name.clone());
            }
        }
        for name in due {
            self.deferred_removals.remove(&name);
            self.pending.insert(name);
        }
    }

    /// When to poll again without a new request or snapshot: at the end of a grace period or of an ACK timeout.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let removals = self
            .deferred_removals
            .values()
            .filter_map(|removal| removal.due);
        let is_blocked = self.has_pending() || self.must_respond;
        let ack_timeout = self
            .in_flight
            .iter()
            .map(|sent| sent.sent + ACK_TIMEOUT)
            .filter(|timeout| is_blocked && *timeout > now)
            .min();
        removals.chain(ack_timeout).min()
    }

    /// Sends these resources, even if they have not changed.
    pub(super) fn resend(&mut self, names: impl Iterator<Item = Arc<str>>) {
        if self.started {
            self.pending.extend(names);
        }
    }

    /// The next response, if one is due and can be sent now.
    pub(super) fn respond(
        &mut self,
        snapshot: &Arc<Snapshot>,
        nonce: u64,
        now: Instant,
    ) -> Option<Content> {
        let view = snapshot.of(self.kind);
        let in_flight = self
            .in_flight
            .iter()
            .filter(|sent| sent.sent + ACK_TIMEOUT > now)
            .count();
        if in_flight >= self.window() || (!self.isolate.is_empty() && in_flight > 0) {
            return None;
        }
        let content = if self.has_full_state() {
            self.full_state(view)
        } else {
            self.changes(view)
        };
        let content = match content {
            Some(content) => content,
            None if self.must_respond => Content::default(),
            None => {
                self.update_acked();
                return None;
            }
        };
        self.must_respond = false;
        let removed = content.removed.iter().map(|name| Sent {
            name: name.clone(),
            version: None,
        });
        let fresh = content.fresh.iter().map(|entry| Sent {
            name: entry.name.clone(),
            version: Some(entry.version),
        });
        let contents = fresh.chain(removed).collect();
        self.in_flight.push_back(InFlight {
            nonce,
            sent: now,
            contents,
            full_state: self.has_full_state().then(|| {
                let entries = content.entries.iter();
                entries
                    .map(|entry| (entry.name.clone(), entry.clone()))
                    .collect()
            }),
        });
        if self.in_flight.len() > MAX_IN_FLIGHT {
            self.in_flight.pop_front();
        }
        Some(content)
    }

    /// Pending resources, as many as fit, or the next one to be sent alone.
    fn changes(&mut self, view: &TypeView) -> Option<Content> {
        while let Some(name) = self.isolate.pop_front() {
            if let Some(entry) = self.unless_rejected(view, &name) {
                self.pending.remove(&name);
                return Some(Content {
                    entries: vec![entry.clone()],
                    removed: Vec::new(),
                    fresh: vec![entry],
                    differing: 0,
                });
            }
        }
        let mut content = Content::default();
        let mut pending: Vec<(usize, Arc<str>)> = std::mem::take(&mut self.pending)
            .into_iter()
            .map(|name| (view.get(&name).map_or(0, |entry| entry.len()), name))
            .collect();
        if self.kind == ResourceType::RouteTable {
            pending.sort(); // small ones first
        }
        let mut bytes = 0;
        for (size, name) in pending {
            let full = bytes > 0 && (bytes + size > RESPONSE_BYTES || size > LARGE_BYTES);
            if full {
                self.pending.insert(name);
            } else if view.get(&name).is_none() {
                bytes += name.len();
                if self.protocol == Protocol::Delta {
                    content.removed.push(name);
                }
            } else if let Some(entry) = self.unless_rejected(view, &name) {
                bytes += size;
                content.entries.push(entry);
            }
        }
        content.fresh.clone_from(&content.entries);
        (!content.entries.is_empty() || !content.removed.is_empty()).then_some(content)
    }

    /// The current version of a resource, unless the client has rejected it.
    fn unless_rejected(&self, view: &TypeView, name: &str) -> Option<Arc<Entry>> {
        let entry = view.get(name)?;
        let is_rejected = self
            .rejected
            .get(name)
            .is_some_and(|rejected| rejected.version == entry.version);
        (!is_rejected).then(|| entry.clone())
    }

    /// The full state: Envoy deletes what is not in it.
    fn full_state(&mut self, view: &TypeView) -> Option<Content> {
        let changed: BTreeSet<Arc<str>> = match self.isolate.pop_front() {
            Some(name) => BTreeSet::from([name]),
            None => std::mem::take(&mut self.pending),
        };
        if changed.is_empty() && !self.must_respond {
            return None;
        }
        // whether a response in flight has this version, which the client may or may not accept
        let has_version = |sent: &InFlight, entry: &Entry| {
            let full_state = sent.full_state.as_ref();
            let found = full_state.and_then(|full_state| full_state.get(&entry.name));
            found.is_some_and(|found| found.version == entry.version)
        };
        let mut content = Content::default();
        for entry in view.iter() {
            let is_in_flight = self
                .in_flight
                .back()
                .is_some_and(|sent| has_version(sent, entry));
            let accepted = self.accepted.get(&entry.name);
            let is_accepted = accepted.is_some_and(|accepted| accepted.version == entry.version);
            let rejected = self.rejected.get(&entry.name);
            let chosen = match rejected.filter(|rejected| rejected.version == entry.version) {
                // SotW clients respond in order, so this is what the client has
                Some(_) => accepted,
                // unchanged, whichever responses in flight the client accepts
                None if is_accepted
                    && self.in_flight.iter().all(|sent| has_version(sent, entry)) =>
                {
                    Some(entry)
                }
                None if self.must_respond
                    || is_in_flight
                    || is_accepted
                    || changed.contains(&entry.name) =>
                {
                    content.fresh.push(entry.clone());
                    Some(entry)
                }
                // to be sent alone, later
                None => accepted,
            };
            if chosen.is_none_or(|chosen| chosen.version != entry.version) {
                content.differing += 1;
            }
            content.entries.extend(chosen.cloned());
        }
        let not_yet_removed = self
            .deferred_removals
            .keys()
            .filter_map(|name| self.accepted.get(name).cloned());
        let before = content.entries.len();
        content.entries.extend(not_yet_removed);
        content.differing += content.entries.len() - before;
        Some(content)
    }

    /// Everything collected is acknowledged or rejected once nothing is left to send and nothing is in flight.
    fn update_acked(&mut self) {
        let has_responses_due = self.initial.is_some() || self.must_respond || self.has_pending();
        if !has_responses_due && self.in_flight.is_empty() {
            self.acked = self.collected;
        }
    }
}

/// Version of a SotW response. It equals that of the snapshot only if the content does, so that a reconnecting client does
/// not skip what it has not received.
pub(super) fn version(view: &TypeView, differing: usize) -> String {
    if differing == 0 {
        return sotw_version(view);
    }
    format!("{}-{differing}", sotw_version(view))
}

fn sotw_version(view: &TypeView) -> String {
    format!("{:032x}", view.digest())
}
