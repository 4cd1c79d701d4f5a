//! Users of something by its key: who has to be linked again when it changes.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{object::ObjectRef, reconcile::Name};

/// Users by the key of what they refer to.
#[derive(Debug)]
pub(super) struct Users<K, U = ObjectRef> {
    by_key: BTreeMap<K, BTreeSet<U>>,
    /// Grows whenever a key appears or disappears.
    generation: u64,
}

impl<K, U> Default for Users<K, U> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            generation: 0,
        }
    }
}

impl<K: Ord + Clone, U: Ord + Clone> Users<K, U> {
    /// Adds a user of this key.
    pub(super) fn add(&mut self, key: &K, user: &U) {
        if !self.by_key.contains_key(key) {
            self.generation += 1;
        }
        let users = self.by_key.entry(key.clone()).or_default();
        users.insert(user.clone());
    }

    /// Removes a user of this key.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, user: &U)
    where
        K: Borrow<Q>,
    {
        if let Some(users) = self.by_key.get_mut(key) {
            users.remove(user);
            if users.is_empty() {
                self.generation += 1;
                self.by_key.remove(key);
            }
        }
    }

    /// The users of this key, in order.
    pub(super) fn of<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = &U>
    where
        K: Borrow<Q>,
    {
        self.by_key.get(key).into_iter().flatten()
    }

    /// Whether anybody uses this key.
    pub(super) fn has<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.by_key.contains_key(key)
    }

    /// Every key that has a user, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.by_key.keys()
    }

    /// The keys in this range that have a user, in order.
    pub(super) fn keys_in(&self, range: impl std::ops::RangeBounds<K>) -> impl Iterator<Item = &K> {
        self.by_key.range(range).map(|(key, _)| key)
    }

    /// Equal as long as [`Users::keys`] is.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }
}

impl<U: Ord + Clone> Users<Name, U> {
    /// The users of anything in this namespace.
    pub(super) fn of_namespace<'a>(
        &'a self,
        namespace: &'a Arc<str>,
    ) -> impl Iterator<Item = &'a U> {
        let first = Name {
            namespace: namespace.clone(),
            name: "".into(),
        };
        self.by_key
            .range(first..)
            .take_while(move |(name, _)| name.namespace == *namespace)
            .flat_map(|(_, users)| users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_follows_the_keys() {
        let mut users: Users<u8, u8> = Users::default();
        users.add(&1, &1);
        let one = users.generation();
        users.add(&1, &2);
        users.remove(&1, &1);
        assert_eq!(users.generation(), one);
        assert_eq!(users.of(&1).collect::<Vec<_>>(), [&2]);
        users.remove(&1, &2);
        assert_ne!(users.generation(), one);
        assert!(!users.has(&1));
        assert_eq!(users.keys().count(), 0);
    }
}
