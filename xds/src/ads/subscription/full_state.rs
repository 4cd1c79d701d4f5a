//! SotW responses with the full state of a type (CDS and LDS): Envoy deletes what is not in them.

use std::{collections::BTreeSet, sync::Arc};

use super::{Content, Context, InFlight, Subscription};
use crate::snapshot::{Entry, TypeView};

impl Subscription {
    /// The full state: Envoy deletes what is not in it.
    pub(super) fn full_state(&mut self, context: &Context<'_>) -> Option<Content> {
        let view = context.snapshot.of(self.kind);
        let apart = self.set_apart(view, context);
        let has_others = !apart.is_empty() && !self.pending.has_nothing_to_send();
        let changed: BTreeSet<Arc<str>> = if self.must_respond.is_some() || has_others {
            self.pending.take()
        } else {
            match self.isolation.pop() {
                Some(batch) => batch.into_iter().collect(),
                None => self.pending.take(),
            }
        };
        self.pending.forget_since();
        if changed.is_empty() && self.must_respond.is_none() {
            return None;
        }
        self.answers.clear();
        let mut content = Content::default();
        let mut full_state = view.entries().clone();
        for entry in view.iter() {
            let accepted = self.accepted.get(&entry.name);
            let is_accepted = accepted.is_some_and(|accepted| accepted.version == entry.version);
            let is_in_flight = self.in_flight.last().is_some_and(|sent| has(sent, entry));
            let is_changed = changed.contains(&entry.name);
            let chosen = if self.rejections.contains(entry) && !self.retries.is_due(entry) {
                // SotW clients respond in order, so this is what the client has
                accepted
            } else if is_accepted && self.in_flight.iter().all(|sent| has(sent, entry)) {
                // unchanged, whichever responses in flight the client accepts
                Some(entry)
            } else if is_in_flight
                || is_accepted
                || is_changed
                || (self.must_respond.is_some() && !apart.contains(&entry.name))
            {
                content.fresh.push(entry.clone());
                Some(entry)
            } else {
                // to be sent in another response
                accepted
            };
            if chosen.is_none_or(|chosen| chosen.version != entry.version) {
                content.differing += 1;
                match chosen {
                    Some(chosen) => full_state.insert(entry.name.clone(), chosen.clone()),
                    None => full_state.remove(&entry.name),
                };
            }
            content.entries.extend(chosen.cloned());
        }
        for name in self.removals.names() {
            if let Some(entry) = self.accepted.get(name) {
                full_state.insert(name.clone(), entry.clone());
                content.entries.push(entry.clone());
                content.differing += 1;
            }
        }
        content.full_state = Some(full_state);
        Some(content)
    }

    /// Moves suspects to the isolation, and holds back what refers to clusters that cannot be used yet.
    fn set_apart(&mut self, view: &TypeView, context: &Context<'_>) -> BTreeSet<Arc<str>> {
        let since = self.pending.since().unwrap_or(self.seen.seq);
        let since = self.must_respond.map_or(since, |first| first.min(since));
        let mut apart = BTreeSet::new();
        let mut has_started_scopes = false;
        let names: Vec<Arc<str>> = if self.must_respond.is_some() {
            view.iter().map(|entry| entry.name.clone()).collect()
        } else {
            self.pending.iter(view).cloned().collect()
        };
        for name in names {
            let Some(entry) = view.get(&name) else {
                continue;
            };
            let accepted = self.accepted.get(&name);
            if accepted.is_some_and(|accepted| accepted.version == entry.version)
                || self.rejections.contains(entry)
            {
                continue;
            }
            let starts_scopes = self.starts_scopes(entry, context);
            if self.is_held(entry, context) || starts_scopes && has_started_scopes {
                self.pending.remove(&name);
                self.pending.hold(name.clone(), since);
                apart.insert(name);
            } else if context.suspects.contains(self.kind, &name, entry.version) {
                self.pending.remove(&name);
                self.isolation.push(vec![name.clone()], since);
                apart.insert(name);
            } else {
                has_started_scopes |= starts_scopes;
            }
        }
        apart
    }
}

/// Whether a response in flight has this version, which the client may or may not accept.
fn has(sent: &InFlight, entry: &Entry) -> bool {
    let full_state = sent.full_state.as_ref();
    let found = full_state.and_then(|full_state| full_state.get(&entry.name));
    found.is_some_and(|found| found.version == entry.version)
}

/// Version of a SotW response. It equals that of the snapshot only if the content does, so that a reconnecting client does
/// not skip what it has not received.
pub(in crate::ads) fn version(view: &TypeView, differing: usize) -> String {
    if differing == 0 {
        return snapshot_version(view);
    }
    format!("{}-{differing}", snapshot_version(view))
}

pub(super) fn snapshot_version(view: &TypeView) -> String {
    format!("{:032x}", view.digest())
}
