//! Responses with changes only: delta, and the types of SotW that are subscribed by name.

use std::sync::Arc;

use super::{Content, Context, Loading, ScopeState, Subscription, scopes, uses_scopes};
use crate::{
    ResourceType,
    fleet::Protocol,
    snapshot::{Entry, TypeView},
};

/// Maximum size of a response, unless it has one resource only.
const RESPONSE_BYTES: usize = 1 << 20;
/// Resources above this size start a response of their own, after smaller ones, which Envoy then applies first.
const LARGE_BYTES: usize = 1 << 18;

/// What to do with a pending name.
enum Next {
    Send(Arc<Entry>),
    /// Send what the client has, in response to its request: the current version was rejected.
    Repeat(Arc<Entry>),
    Remove,
    /// Send it alone.
    Isolate(Arc<Entry>),
    /// Wait for clusters.
    Hold,
    Skip,
}

impl Subscription {
    /// Pending resources, as many as fit, or the next batch of an isolation.
    pub(super) fn changes(&mut self, context: &Context<'_>) -> Option<Content> {
        let view = context.snapshot.of(self.kind);
        loop {
            let oldest = self
                .pending
                .since()
                .into_iter()
                .chain(self.isolation.since());
            let since = oldest.min().unwrap_or(self.seen.seq);
            if let Some(batch) = self.isolation.pop() {
                let mut content = Content::default();
                for name in batch {
                    self.pending.remove(&name);
                    self.add_isolated(&mut content, view, name, context, since);
                }
                if !content.is_empty() {
                    return Some(content);
                }
                continue;
            }
            let mut content = Content::default();
            self.add_pending(&mut content, view, context, since);
            if content.is_empty() {
                self.add_later(&mut content, view, context, since);
            }
            self.pending.forget_since();
            if !content.is_empty() {
                return Some(content);
            }
            if self.isolation.is_empty() && self.pending.has_nothing_to_send() {
                return None;
            }
        }
    }

    fn add_isolated(
        &mut self,
        content: &mut Content,
        view: &TypeView,
        name: Arc<str>,
        context: &Context<'_>,
        since: u64,
    ) {
        let next = self.next(view, &name, context);
        if !matches!(next, Next::Hold) {
            self.answers.remove(&name);
        }
        match next {
            Next::Send(entry) | Next::Isolate(entry) => content.push(entry),
            Next::Repeat(entry) => content.entries.push(entry),
            Next::Remove if self.removals.contains(&name) => {}
            Next::Remove => content.removed.push(name),
            Next::Hold => self.pending.hold(name, since),
            Next::Skip => {}
        }
    }

    /// Adds resources that are neither large nor warm, and removals.
    fn add_pending(
        &mut self,
        content: &mut Content,
        view: &TypeView,
        context: &Context<'_>,
        since: u64,
    ) {
        // Envoy uses the scopes of its first response without those of a second
        let limit = match self.kind {
            ResourceType::Scope => usize::MAX,
            _ => RESPONSE_BYTES,
        };
        let mut bytes = 0;
        while let Some(name) = self.pending.pop(view) {
            let size = match self.next(view, &name, context) {
                Next::Send(entry) if entry.len() > LARGE_BYTES || entry.warms => {
                    self.pending.put_later(name);
                    continue;
                }
                Next::Send(entry) if bytes > 0 && bytes + entry.len() > limit => {
                    self.pending.put_back(name);
                    return;
                }
                Next::Send(entry) if self.starts_scopes(&entry, context) => {
                    self.answers.remove(&name);
                    content.push(entry);
                    return;
                }
                Next::Send(entry) => {
                    let size = entry.len();
                    content.push(entry);
                    size
                }
                Next::Repeat(entry) => {
                    let size = entry.len();
                    content.entries.push(entry);
                    size
                }
                Next::Remove => {
                    let size = name.len();
                    self.removals.cancel(&name);
                    content.removed.push(name.clone());
                    size
                }
                Next::Isolate(_) => {
                    self.isolation.push(vec![name], since);
                    continue;
                }
                Next::Hold => {
                    self.pending.hold(name, since);
                    continue;
                }
                Next::Skip => 0,
            };
            self.answers.remove(&name);
            bytes += size;
            if bytes > limit {
                return;
            }
        }
    }

    /// Adds a large resource, or clusters that warm: Envoy acknowledges their response when they are warm.
    fn add_later(
        &mut self,
        content: &mut Content,
        view: &TypeView,
        context: &Context<'_>,
        since: u64,
    ) {
        let mut bytes = 0;
        while let Some(name) = self.pending.pop_later() {
            match self.next(view, &name, context) {
                Next::Send(entry) => {
                    if bytes > 0 && bytes + entry.len() > RESPONSE_BYTES {
                        self.pending.put_later(name);
                        return;
                    }
                    let is_large = entry.len() > LARGE_BYTES;
                    bytes += entry.len();
                    content.push(entry);
                    self.answers.remove(&name);
                    if is_large {
                        return;
                    }
                }
                Next::Isolate(_) => self.isolation.push(vec![name], since),
                Next::Hold => self.pending.hold(name, since),
                Next::Repeat(_) | Next::Remove | Next::Skip => self.pending.put_back(name),
            }
        }
    }

    fn next(&self, view: &TypeView, name: &Arc<str>, context: &Context<'_>) -> Next {
        let Some(entry) = view.get(name) else {
            return match self.protocol {
                Protocol::Delta if self.is_kept(name) => Next::Skip,
                Protocol::Delta if self.is_needed(name, context) => Next::Hold,
                Protocol::Delta => Next::Remove,
                Protocol::Sotw => Next::Skip,
            };
        };
        if self.rejections.contains(entry) && !self.retries.is_due(entry) {
            if self.protocol == Protocol::Sotw || !self.answers.contains(name) {
                return Next::Skip;
            }
            return match self.accepted.get(name) {
                Some(accepted) => Next::Repeat(accepted.clone()),
                None => Next::Remove,
            };
        }
        if !self.answers.contains(name) && self.is_up_to_date(name, view) {
            return Next::Skip;
        }
        let refers = matches!(
            self.kind,
            ResourceType::Filter
                | ResourceType::Listener
                | ResourceType::Scope
                | ResourceType::RouteTable
        );
        if refers && self.is_held(entry, context) {
            return Next::Hold;
        }
        if context.suspects.contains(self.kind, name, entry.version) {
            return Next::Isolate(entry.clone());
        }
        Next::Send(entry.clone())
    }

    /// Whether a client that does not subscribe to scopes will because of this listener. Others that use them come later.
    pub(super) fn starts_scopes(&self, entry: &Entry, context: &Context<'_>) -> bool {
        let is_unused = matches!(
            context.loading,
            Loading::ForListeners {
                scopes: ScopeState::Unused,
                ..
            }
        );
        is_unused && uses_scopes(entry)
    }

    /// Whether the client has a filter that is gone. Without its settings Envoy would answer 500 on chains that it drains; it
    /// unsubscribes from the filter with the last of them.
    fn is_kept(&self, name: &Arc<str>) -> bool {
        self.kind == ResourceType::Filter
            && (self.accepted.contains_key(name) || self.unknown.contains(name))
    }

    /// Whether a host name is to be served by the table for all others, whose new version the client does not have yet.
    fn is_needed(&self, name: &str, context: &Context<'_>) -> bool {
        let Loading::Tables(tables) = context.loading else {
            return false;
        };
        scopes::chain(self.kind, name).is_some_and(|others| tables.is_behind(&others))
    }
}
