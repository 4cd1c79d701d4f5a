//! What one stream wants of one type, what it has been sent, and what it said to it. Pure: no I/O, no clock of its own.
//!
//! The rules are those of the xDS protocol ("xDS REST and gRPC protocol", Envoy documentation); the comments say which.

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

/// Size at which a response is full.
const RESPONSE_BYTES: usize = 1 << 20;
/// A resource of this size goes alone, behind smaller ones, so that these reach traffic first.
const LARGE_BYTES: usize = 1 << 18;
/// A response that is not answered for so long holds nothing back any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Responses to a client that never answers that are remembered.
const UNANSWERED: usize = 64;

/// A response that has not been answered yet.
#[derive(Debug)]
struct InFlight {
    nonce: u64,
    sent: Instant,
    /// What was new in it, with the version. No version: it was a removal.
    contents: Vec<Sent>,
    /// State of the world: all that it said there is.
    whole: Option<BTreeMap<Arc<str>, Arc<Entry>>>,
}

#[derive(Clone, Debug)]
struct Sent {
    name: Arc<str>,
    version: Option<Version>,
}

/// A version that the client refuses.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) version: Version,
    pub(super) message: Arc<str>,
}

/// A removal that waits until nothing refers to the resource any more.
#[derive(Debug)]
struct HeldRemoval {
    seq: u64,
    due: Option<Instant>,
}

/// Content of a response.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) entries: Vec<Arc<Entry>>,
    /// Incremental only.
    pub(super) removed: Vec<Arc<str>>,
    /// Those of `entries` that the client did not have.
    pub(super) fresh: Vec<Arc<Entry>>,
    /// State of the world: in how many resources this differs from the view.
    pub(super) differing: usize,
}

/// What a request says about the client's interest.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// All names (state of the world), or those added (incremental).
    pub(super) names: Vec<String>,
    /// Incremental: names that are not wanted any more.
    pub(super) dropped: Vec<String>,
    /// Incremental: what the client has from an earlier stream.
    pub(super) held: BTreeMap<String, String>,
    /// State of the world: version that the client has from an earlier stream.
    pub(super) version: String,
}

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    protocol: Protocol,
    started: bool,
    wildcard: bool,
    /// Once a stream has named anything, no names mean nothing, not everything.
    has_named: bool,
    names: BTreeSet<Arc<str>>,
    /// What the client said it has, until that is compared for the first time.
    first: Option<Interest>,
    /// Everything up to this snapshot has been looked at.
    seen: u64,
    /// State of the world: what the client has accepted last, for what to send in place of what it refuses.
    accepted: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Everything up to this snapshot is settled.
    acked: u64,
    /// Names to send, or to say are gone.
    pending: BTreeSet<Arc<str>>,
    /// Whether an answer is owed even if it is empty.
    owed: bool,
    /// After a refusal: names that are sent one by one.
    isolate: VecDeque<Arc<str>>,
    in_flight: VecDeque<InFlight>,
    refused: BTreeMap<Arc<str>, Refused>,
    held_removals: BTreeMap<Arc<str>, HeldRemoval>,
}

/// The client is so far behind that it has to start anew.
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
            first: None,
            seen: 0,
            accepted: BTreeMap::new(),
            acked: 0,
            pending: BTreeSet::new(),
            owed: false,
            isolate: VecDeque::new(),
            in_flight: VecDeque::new(),
            refused: BTreeMap::new(),
            held_removals: BTreeMap::new(),
        }
    }

    /// Whether the client has asked for this type.
    pub(super) const fn is_started(&self) -> bool {
        self.started
    }

    /// Everything up to this snapshot is settled.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether something waits that could not be sent yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.isolate.is_empty()
    }

    /// Versions that the client refuses and that are still the newest.
    pub(super) fn refused<'a>(
        &'a self,
        view: &'a TypeView,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Refused)> {
        self.refused.iter().filter(|(name, refused)| {
            let is_newest = view
                .get(name)
                .is_some_and(|entry| entry.version == refused.version);
            is_newest && self.wants(name)
        })
    }

    /// State of the world replaces everything in a response only for the types that are not asked for by name.
    const fn is_whole(&self) -> bool {
        matches!(self.protocol, Protocol::Sotw)
            && matches!(self.kind, ResourceType::Cluster | ResourceType::Listener)
    }

    /// Responses that may be unanswered at a time. A cluster is not acknowledged before it is warm, so more than one
    /// is allowed where each response stands for itself.
    const fn window(&self) -> usize {
        match (self.protocol, self.kind) {
            (
                Protocol::Delta,
                ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Secret,
            ) => 4,
            _ => 1,
        }
    }

    // === What the client says ===

    /// Nonce of the last response, for state of the world.
    pub(super) fn last_nonce(&self) -> Option<u64> {
        self.in_flight.back().map(|sent| sent.nonce)
    }

    /// The client's interest changes.
    pub(super) fn interest(&mut self, interest: Interest) {
        match self.protocol {
            Protocol::Delta => self.delta_interest(interest),
            Protocol::Sotw => self.sotw_interest(interest),
        }
    }

    fn delta_interest(&mut self, interest: Interest) {
        let first = !self.started;
        self.started = true;
        // a first request without names, or the name `*`, asks for everything
        if first && interest.names.is_empty() {
            self.wildcard = true;
        }
        for name in &interest.names {
            self.has_named = true;
            if name == "*" {
                if !self.wildcard && !first {
                    // from now on everything: compare all of it
                    self.first.get_or_insert_default();
                }
                self.wildcard = true;
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            if !first {
                // a name that is subscribed is answered, even if we believe that the client has it
                self.pending.insert(name.clone());
            }
            self.names.insert(name);
        }
        for name in &interest.dropped {
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
            self.first = Some(interest);
        }
    }

    fn sotw_interest(&mut self, interest: Interest) {
        let first = !self.started;
        self.started = true;
        let names: BTreeSet<Arc<str>> = interest
            .names
            .iter()
            .filter(|name| *name != "*")
            .map(|name| name.as_str().into())
            .collect();
        self.has_named |= !interest.names.is_empty();
        self.wildcard = interest.names.iter().any(|name| name == "*") || !self.has_named;
        // names that are new are answered even if nothing changed
        self.pending.extend(names.difference(&self.names).cloned());
        self.pending
            .retain(|name| self.wildcard || names.contains(name));
        self.names = names;
        if first {
            self.first = Some(interest);
        }
    }

    /// The client has accepted a response. Returns when that was made; `None` if it was none of ours.
    pub(super) fn ack(&mut self, nonce: u64) -> Option<Instant> {
        let sent = self.answered(nonce)?;
        for content in sent.contents {
            let same = |refused: &Refused| Some(refused.version) == content.version;
            if self.refused.get(&content.name).is_some_and(same) {
                self.refused.remove(&content.name);
            }
        }
        if let Some(whole) = sent.whole {
            self.accepted = whole;
        }
        Some(sent.sent)
    }

    /// The client refuses a response. What is refused alone is the culprit; of several, each is tried alone.
    pub(super) fn nack(&mut self, nonce: u64, message: &str) -> bool {
        let Some(sent) = self.answered(nonce) else {
            return false;
        };
        // an answer that came meanwhile may have accepted a part of it
        let accepted = |content: &Sent| {
            let accepted = self.accepted.get(&content.name);
            accepted.is_some_and(|accepted| Some(accepted.version) == content.version)
        };
        let (removals, contents): (Vec<Sent>, Vec<Sent>) = sent
            .contents
            .into_iter()
            .filter(|content| !accepted(content))
            .partition(|content| content.version.is_none());
        // nothing of the response may have been applied, removals included
        self.pending
            .extend(removals.into_iter().map(|removal| removal.name));
        if let [culprit] = contents.as_slice() {
            if let Some(version) = culprit.version {
                let refused = Refused {
                    version,
                    message: message.into(),
                };
                self.refused.insert(culprit.name.clone(), refused);
            }
            if self.is_whole() {
                // what else was new in it, such as a removal, is said again, without the culprit
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

    fn answered(&mut self, nonce: u64) -> Option<InFlight> {
        let place = self.in_flight.iter().position(|sent| sent.nonce == nonce)?;
        let sent = self.in_flight.remove(place);
        if self.protocol == Protocol::Sotw {
            // answers come in order: what is older will never have one
            self.in_flight.drain(..place);
        }
        sent
    }

    // === What there is to send ===

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Looks at what is new in a snapshot.
    pub(super) fn look(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), TooFarBehind> {
        if !self.started {
            return Ok(());
        }
        let view = snapshot.of(self.kind);
        if let Some(first) = self.first.take() {
            self.compare(view, snapshot.seq, &first);
        } else if self.seen < snapshot.seq {
            let changed: Vec<Arc<str>> = view
                .changed_since(self.seen)
                .ok_or(TooFarBehind)?
                .filter(|name| self.wants(name))
                .cloned()
                .collect();
            for name in changed {
                self.note(view, snapshot.seq, name);
            }
        }
        self.seen = snapshot.seq;
        self.settle();
        Ok(())
    }

    /// The first look: against what the client has from an earlier stream.
    fn compare(&mut self, view: &TypeView, seq: u64, first: &Interest) {
        if self.is_whole() {
            self.owed = first.version != sotw_version(view);
            if !self.owed {
                // equal versions mean equal content: the client has all of it
                let entries = view.iter();
                self.accepted = entries
                    .map(|entry| (entry.name.clone(), entry.clone()))
                    .collect();
            }
            return;
        }
        let held = |name: &str| first.held.get(name).map(String::as_str);
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
        for name in first.held.keys().filter(|name| view.get(name).is_none()) {
            self.note(view, seq, name.as_str().into());
        }
        // the first request for everything is always answered: the client waits for it to be ready
        self.owed = self.wildcard;
    }

    fn note(&mut self, view: &TypeView, seq: u64, name: Arc<str>) {
        let gone = view.get(&name).is_none();
        if gone && matches!(self.kind, ResourceType::Cluster | ResourceType::Endpoints) {
            // routes may still lead there
            self.pending.remove(&name);
            self.held_removals
                .insert(name, HeldRemoval { seq, due: None });
            return;
        }
        self.held_removals.remove(&name);
        self.pending.insert(name);
    }

    /// Lets removals go whose time has come: routes and listeners up to `routed` are settled, and the grace is over.
    pub(super) fn release_removals(&mut self, routed: u64, grace: Duration, now: Instant) {
        let mut due = Vec::new();
        for (name, removal) in &mut self.held_removals {
            if removal.seq > routed {
                continue;
            }
            let at = *removal.due.get_or_insert(now + grace);
            if at <= now {
                due.push(name.clone());
            }
        }
        for name in due {
            self.held_removals.remove(&name);
            self.pending.insert(name);
        }
    }

    /// When to look again although nothing has come: a held removal, or a client that does not answer.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let removals = self
            .held_removals
            .values()
            .filter_map(|removal| removal.due);
        let held_back = self.is_waiting() || self.owed;
        let silence = self
            .in_flight
            .iter()
            .map(|sent| sent.sent + PATIENCE)
            .filter(|patience| held_back && *patience > now)
            .min();
        removals.chain(silence).min()
    }

    /// Sends these too, because something that was sent needs them.
    pub(super) fn follow(&mut self, names: impl Iterator<Item = Arc<str>>) {
        if self.started {
            self.pending.extend(names);
        }
    }

    /// The next response, if one is due and may be sent.
    pub(super) fn respond(
        &mut self,
        snapshot: &Arc<Snapshot>,
        nonce: u64,
        now: Instant,
    ) -> Option<Content> {
        let view = snapshot.of(self.kind);
        let unanswered = self
            .in_flight
            .iter()
            .filter(|sent| sent.sent + PATIENCE > now)
            .count();
        if unanswered >= self.window() || (!self.isolate.is_empty() && unanswered > 0) {
            return None;
        }
        let content = if self.is_whole() {
            self.whole(view)
        } else {
            self.part(view)
        };
        let content = match content {
            Some(content) => content,
            None if self.owed => Content::default(),
            None => {
                self.settle();
                return None;
            }
        };
        self.owed = false;
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
            whole: self.is_whole().then(|| {
                let entries = content.entries.iter();
                entries
                    .map(|entry| (entry.name.clone(), entry.clone()))
                    .collect()
            }),
        });
        if self.in_flight.len() > UNANSWERED {
            self.in_flight.pop_front();
        }
        Some(content)
    }

    /// Some resources: all that wait, or one after a refusal.
    fn part(&mut self, view: &TypeView) -> Option<Content> {
        while let Some(name) = self.isolate.pop_front() {
            if let Some(entry) = self.acceptable(view, &name) {
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
        let mut waiting: Vec<(usize, Arc<str>)> = std::mem::take(&mut self.pending)
            .into_iter()
            .map(|name| (view.get(&name).map_or(0, |entry| entry.len()), name))
            .collect();
        if self.kind == ResourceType::RouteTable {
            waiting.sort(); // small ones first
        }
        let mut bytes = 0;
        for (size, name) in waiting {
            let full = bytes > 0 && (bytes + size > RESPONSE_BYTES || size > LARGE_BYTES);
            if full {
                self.pending.insert(name);
            } else if view.get(&name).is_none() {
                bytes += name.len();
                if self.protocol == Protocol::Delta {
                    content.removed.push(name);
                }
            } else if let Some(entry) = self.acceptable(view, &name) {
                bytes += size;
                content.entries.push(entry);
            }
        }
        content.fresh.clone_from(&content.entries);
        (!content.entries.is_empty() || !content.removed.is_empty()).then_some(content)
    }

    /// The newest version of a resource, unless the client refuses it.
    fn acceptable(&self, view: &TypeView, name: &str) -> Option<Arc<Entry>> {
        let entry = view.get(name)?;
        let refused = self
            .refused
            .get(name)
            .is_some_and(|refused| refused.version == entry.version);
        (!refused).then(|| entry.clone())
    }

    /// Everything, as state of the world has it: what is left out is deleted.
    fn whole(&mut self, view: &TypeView) -> Option<Content> {
        let changed: BTreeSet<Arc<str>> = match self.isolate.pop_front() {
            Some(name) => BTreeSet::from([name]),
            None => std::mem::take(&mut self.pending),
        };
        if changed.is_empty() && !self.owed {
            return None;
        }
        // the client need not have taken what it has not answered yet, nor have dropped it
        let says = |sent: &InFlight, entry: &Entry| {
            let said = sent.whole.as_ref().and_then(|whole| whole.get(&entry.name));
            said.is_some_and(|said| said.version == entry.version)
        };
        let mut content = Content::default();
        for entry in view.iter() {
            let is_unanswered = self.in_flight.back().is_some_and(|sent| says(sent, entry));
            let accepted = self.accepted.get(&entry.name);
            let is_accepted = accepted.is_some_and(|accepted| accepted.version == entry.version);
            let refused = self.refused.get(&entry.name);
            let instead = match refused.filter(|refused| refused.version == entry.version) {
                // answers come in order, so this is what the client has
                Some(_) => accepted,
                // but if it takes what it has not answered yet, it may have something else by then
                None if is_accepted && self.in_flight.iter().all(|sent| says(sent, entry)) => {
                    Some(entry)
                }
                None if self.owed
                    || is_unanswered
                    || is_accepted
                    || changed.contains(&entry.name) =>
                {
                    content.fresh.push(entry.clone());
                    Some(entry)
                }
                // its turn is to come
                None => accepted,
            };
            if instead.is_none_or(|instead| instead.version != entry.version) {
                content.differing += 1;
            }
            content.entries.extend(instead.cloned());
        }
        let lingering = self
            .held_removals
            .keys()
            .filter_map(|name| self.accepted.get(name).cloned());
        let before = content.entries.len();
        content.entries.extend(lingering);
        content.differing += content.entries.len() - before;
        Some(content)
    }

    /// With nothing left to send and nothing unanswered, all that was looked at is settled.
    fn settle(&mut self) {
        if self.first.is_none() && !self.owed && !self.is_waiting() && self.in_flight.is_empty() {
            self.acked = self.seen;
        }
    }
}

/// Version of a whole type. It is that of the view only if nothing differs, so that a client that connects again is not
/// taken to have what it has not.
pub(super) fn version(view: &TypeView, differing: usize) -> String {
    if differing == 0 {
        return sotw_version(view);
    }
    format!("{}-{differing}", sotw_version(view))
}

fn sotw_version(view: &TypeView) -> String {
    format!("{:032x}", view.digest())
}
