//! What is known by host names, some of which have a wildcard: found without a look at every name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::glob;

/// Values by the host name (a glob) that each is for.
#[derive(Debug)]
pub(super) struct ByName<V> {
    /// Names without a wildcard.
    whole: BTreeMap<Arc<str>, BTreeSet<V>>,
    /// Names with one; they are few.
    wild: BTreeMap<Arc<str>, BTreeSet<V>>,
}

impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self {
            whole: BTreeMap::new(),
            wild: BTreeMap::new(),
        }
    }
}

impl<V: Ord> ByName<V> {
    pub(super) fn insert(&mut self, name: &str, value: V) {
        let names = self.side(name);
        names.entry(name.into()).or_default().insert(value);
    }

    pub(super) fn remove(&mut self, name: &str, value: &V) {
        let names = self.side(name);
        if let Some(values) = names.get_mut(name) {
            values.remove(value);
            if values.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Those of exactly this name.
    pub(super) fn get(&self, name: &str) -> impl Iterator<Item = &V> {
        let names = if is_wild(name) {
            &self.wild
        } else {
            &self.whole
        };
        names.get(name).into_iter().flatten()
    }

    /// Those whose names have a wildcard and match what this one matches, by name.
    pub(super) fn wild(&self, name: &str) -> impl DoubleEndedIterator<Item = &V> {
        self.wild
            .iter()
            .filter(move |(wild, _)| glob::compatible(wild, name))
            .flat_map(|(_, values)| values)
    }

    /// Those whose names match what this one matches.
    pub(super) fn compatible(&self, name: &str) -> impl Iterator<Item = &V> {
        let all = is_wild(name).then(|| {
            let all = self.whole.iter();
            let found = all.filter(move |(whole, _)| glob::compatible(whole, name));
            found.flat_map(|(_, values)| values)
        });
        let one = (!is_wild(name)).then(|| self.get(name));
        let whole = all.into_iter().flatten().chain(one.into_iter().flatten());
        whole.chain(self.wild(name))
    }

    fn side(&mut self, name: &str) -> &mut BTreeMap<Arc<str>, BTreeSet<V>> {
        if is_wild(name) {
            &mut self.wild
        } else {
            &mut self.whole
        }
    }
}

fn is_wild(name: &str) -> bool {
    name.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "*",
        "a.example",
        "b.example",
        "*.example",
        "*.a.example",
        "a.*",
        "*b*",
        "",
        "a*b",
    ];

    #[test]
    fn what_is_compatible_is_found() {
        let mut names = ByName::default();
        for name in NAMES {
            names.insert(name, name);
        }
        for name in NAMES {
            let found: BTreeSet<&str> = names.compatible(name).copied().collect();
            let expected = NAMES.iter().filter(|other| glob::compatible(other, name));
            assert_eq!(found, expected.copied().collect(), "{name:?}");
            assert_eq!(names.get(name).copied().collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn nothing_is_left_of_what_is_removed() {
        let mut names = ByName::default();
        for name in NAMES {
            names.insert(name, 1);
            names.insert(name, 2);
            names.remove(name, &1);
            assert_eq!(names.get(name).collect::<Vec<_>>(), [&2], "{name:?}");
            names.remove(name, &2);
        }
        assert!(names.whole.is_empty() && names.wild.is_empty(), "{names:?}");
    }
}
