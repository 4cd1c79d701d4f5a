//! The Listeners that claim a socket, and which of them has it: of each namespace the first by name, and of these the
//! oldest. So no Listener takes a port from one of another namespace that had it before, and the rule has no cycles, which
//! a comparison of any two Listeners would have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use crate::object::ObjectRef;

/// Age of a Listener, the oldest first. One without a creation time, which is not from an apiserver, is younger than all
/// others: a time that is missing takes no port away.
type Age = (bool, Option<Timestamp>);

pub(super) fn age(created: Option<Timestamp>) -> Age {
    (created.is_none(), created)
}

/// Listeners that claim a socket.
#[derive(Debug, Default)]
pub(in crate::store) struct Claims {
    by_namespace: BTreeMap<Arc<str>, BTreeMap<ObjectRef, Age>>,
    /// The first of each namespace.
    firsts: BTreeSet<(Age, ObjectRef)>,
}

impl Claims {
    /// Adds a Listener that does not claim the socket yet.
    pub(super) fn insert(&mut self, listener: &ObjectRef, created: Option<Timestamp>) {
        self.change(listener, |of_namespace| {
            of_namespace.insert(listener.clone(), age(created));
        });
    }

    pub(super) fn remove(&mut self, listener: &ObjectRef) {
        self.change(listener, |of_namespace| {
            of_namespace.remove(listener);
        });
    }

    fn change(&mut self, listener: &ObjectRef, change: impl FnOnce(&mut BTreeMap<ObjectRef, Age>)) {
        let of_namespace = self
            .by_namespace
            .entry(listener.namespace.clone())
            .or_default();
        if let Some(first) = first(of_namespace) {
            self.firsts.remove(&first);
        }
        change(of_namespace);
        match first(of_namespace) {
            Some(first) => {
                self.firsts.insert(first);
            }
            None => {
                self.by_namespace.remove(&listener.namespace);
            }
        }
    }

    /// The Listener that has the socket.
    pub(super) fn owner(&self) -> Option<&ObjectRef> {
        let (_, owner) = self.firsts.first()?;
        Some(owner)
    }

    /// All of them, in no order that matters.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ObjectRef> {
        self.by_namespace.values().flat_map(BTreeMap::keys)
    }

    /// The owner, then the others in order.
    pub(super) fn owner_first(&self) -> Vec<&ObjectRef> {
        let owner = self.owner();
        let mut all: Vec<&ObjectRef> = self.iter().collect();
        all.sort_by_key(|listener| (Some(*listener) != owner, *listener));
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }
}

fn first(of_namespace: &BTreeMap<ObjectRef, Age>) -> Option<(Age, ObjectRef)> {
    let (listener, age) = of_namespace.first_key_value()?;
    Some((*age, listener.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    fn claims(all: &[(&str, &str, Option<i64>)]) -> Claims {
        let mut claims = Claims::default();
        for (namespace, name, created) in all {
            let created = created.map(|second| Timestamp::from_second(second).unwrap());
            claims.insert(&listener(namespace, name), created);
        }
        claims
    }

    fn listener(namespace: &str, name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Listener, namespace, name)
    }

    #[test]
    fn the_oldest_of_the_first_of_each_namespace_has_the_socket() {
        // any two of these, compared with each other, would go round in circles
        let all = [
            ("a", "b", Some(3)),
            ("a", "x", Some(1)),
            ("other", "c", Some(2)),
        ];
        let mut claims = claims(&all);
        assert_eq!(claims.owner(), Some(&listener("other", "c")));
        claims.remove(&listener("a", "b"));
        assert_eq!(claims.owner(), Some(&listener("a", "x")));
        claims.insert(&listener("a", "b"), None);
        assert_eq!(claims.owner(), Some(&listener("other", "c")));
        let all: Vec<String> = claims
            .owner_first()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all, ["Listener other/c", "Listener a/b", "Listener a/x"]);
    }

    #[test]
    fn equally_old_ones_are_in_order_and_one_without_time_is_last() {
        let owner = |all: &[_]| claims(all).owner().map(ToString::to_string);
        let two = [("a", "y", Some(1)), ("b", "x", Some(1))];
        assert_eq!(owner(&two).as_deref(), Some("Listener b/x"));
        let files = [("a", "y", None), ("b", "x", None)];
        assert_eq!(owner(&files).as_deref(), Some("Listener b/x"));
        let one = [("a", "y", Some(1)), ("b", "x", None)];
        assert_eq!(owner(&one).as_deref(), Some("Listener a/y"));
    }

    #[test]
    fn a_socket_without_claims_is_empty() {
        let mut claims = claims(&[("a", "x", None)]);
        claims.remove(&listener("a", "x"));
        assert!(claims.is_empty() && claims.owner().is_none());
    }
}
