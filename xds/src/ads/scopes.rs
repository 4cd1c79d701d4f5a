//! Scopes wait for the route tables that they select: a table that Envoy does not have yet answers 404, where another one
//! served the requests before. Envoy gets the table because of a scope that no request selects.
//!
//! A listener that begins to use scopes or a table waits for them, if Envoy subscribes to them already, for chains that it
//! drains: then it does not wait itself, and would use what those chains had. Neither does a listener that begins to use
//! scopes after another one, since Envoy subscribes to them once for all. Our bootstrap makes it subscribe when it starts, so
//! that every listener comes after the scopes that it uses.
//!
//! A client gets its first scopes at once, without waiting for tables. If it has listeners already, since it has connected
//! again, those that come next wait for these tables.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::subscription::Subscription;
use crate::{
    ResourceType, Unit,
    ir::{TableKey, TableScope},
    snapshot::TypeView,
};

/// Maximum time that scopes and listeners wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// What scopes and listeners of a stream wait for.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    /// State of tables and scopes when something was last released.
    seen: (u64, u64),
    /// Since when something has been waiting.
    waiting: Option<Instant>,
    /// Nothing waits any more until everything is sent.
    is_over: bool,
    /// The client has had the tables of all its scopes. From then on a scope comes after its table.
    has_tables: bool,
}

/// What the client does not have yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loading<'a> {
    /// Nothing that others wait for.
    Nothing,
    /// For scopes: tables that this subscription does not have.
    Tables(&'a Subscription),
    /// For listeners.
    ForListeners {
        /// Tables that this subscription has in an old version.
        tables: &'a Subscription,
        /// Its scopes.
        scopes: ScopeState,
    },
}

/// The state of a client's scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScopeState {
    /// It has what is served, or loads it with its first listeners.
    Settled,
    /// It lacks some.
    Unsettled,
    /// It does not subscribe to any yet. It will with the first listener that uses them, and only that one waits for them
    /// itself.
    Unused,
}

impl Scopes {
    /// Looks again at what waits, if the state of tables or scopes has changed or the time is over.
    pub(super) fn release(&mut self, subscriptions: &mut [Subscription], now: Instant) {
        let of = |kind: ResourceType| subscriptions[kind.index()].generation();
        let seen = (of(ResourceType::RouteTable), of(ResourceType::Scope));
        let was_over = self.is_over;
        self.is_over |= self.deadline().is_some_and(|end| end <= now);
        if !self.has_tables && self.seen != seen {
            let (tables, scopes) = (
                &subscriptions[ResourceType::RouteTable.index()],
                &subscriptions[ResourceType::Scope.index()],
            );
            let is_settled = scopes.is_settled_since_start() && !tables.is_behind_anything();
            self.has_tables = is_settled && scopes.refers_to_what_is_in(tables);
        }
        if self.seen != seen || self.is_over != was_over {
            self.seen = seen;
            for kind in [ResourceType::Listener, ResourceType::Scope] {
                subscriptions[kind.index()].release_held();
            }
        }
    }

    /// Notes whether anything waits.
    pub(super) fn note(&mut self, subscriptions: &[Subscription], now: Instant) {
        let waits = |kind: ResourceType| subscriptions[kind.index()].has_held();
        if waits(ResourceType::Scope) || waits(ResourceType::Listener) {
            self.waiting.get_or_insert(now);
        } else {
            self.waiting = None;
            self.is_over = false;
        }
    }

    /// When nothing waits any more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let end = self.waiting.map(|since| since + PATIENCE);
        end.filter(|_| !self.is_over)
    }

    /// What a response of this subscription waits for; `later` are the types after it.
    pub(super) fn loading<'a>(
        &self,
        subscription: &Subscription,
        later: &'a [Subscription],
    ) -> Loading<'a> {
        let find = |kind: ResourceType| later.iter().find(|of| of.kind() == kind);
        let (tables, scopes) = (find(ResourceType::RouteTable), find(ResourceType::Scope));
        match (subscription.kind(), tables, scopes) {
            _ if self.is_over => Loading::Nothing,
            // with its first response a client waits for the tables itself
            (ResourceType::Scope, Some(tables), _) if subscription.is_answered() => {
                Loading::Tables(tables)
            }
            (ResourceType::Listener, Some(tables), Some(scopes)) => Loading::ForListeners {
                tables,
                scopes: if !subscription.is_answered()
                    || scopes.is_settled_since_start() && self.has_tables
                {
                    ScopeState::Settled
                } else if scopes.is_started() {
                    ScopeState::Unsettled
                } else {
                    ScopeState::Unused
                },
            },
            _ => Loading::Nothing,
        }
    }
}

/// The scope of all other names in the chain of a scope; `None`: there is none, as with server names.
pub(super) fn chain(kind: ResourceType, name: &str) -> Option<Arc<str>> {
    if kind != ResourceType::Scope {
        return None;
    }
    let Some(Unit::Loading(table) | Unit::Selection(table)) = Unit::parse(kind, name) else {
        return None;
    };
    if matches!(table.scope, TableScope::Tls(_)) {
        return None;
    }
    let others = TableKey {
        scope: TableScope::OtherHosts,
        ..table
    };
    Some(Unit::Selection(others).name())
}

/// Whether a scope is gone alone: its chain still has others.
pub(super) fn is_gone_alone(view: &TypeView, name: &str) -> bool {
    chain(ResourceType::Scope, name).is_some_and(|others| view.get(&others).is_some())
}
