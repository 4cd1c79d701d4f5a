//! How far a run has come: objects are listed in the order of their keys, so one key says it. It is remembered in a condition of the
//! definition, which needs no further permission, and which people can read.
//!
//! A place counts for one generation of the definition only: the storage version may have changed with any other.

use std::fmt;

use kube::api::ObjectMeta;

/// Type of the condition.
pub(super) const CONDITION: &str = "StorageMigrated";

/// Namespace and name of an object, ordered as the apiserver lists objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(String);

impl Key {
    /// That of an object in a namespace.
    pub(super) fn new(metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        Self(format!("{namespace}/{name}"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the definition.
    pub(super) generation: i64,
    /// Version in which objects are stored.
    pub(super) version: String,
    /// The last key of those that are.
    pub(super) after: Option<Key>,
}

impl Place {
    /// As the message of the condition.
    pub(super) fn parse(message: &str) -> Option<Self> {
        let (generation, rest) = message
            .strip_prefix("generation ")?
            .split_once(": migrating to ")?;
        let (version, after) = match rest.split_once(", done up to ") {
            Some((version, after)) => (version, Some(Key(after.to_owned()))),
            None => (rest, None),
        };
        Some(Self {
            generation: generation.parse().ok()?,
            version: version.to_owned(),
            after,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            version,
            after,
        } = self;
        write!(formatter, "generation {generation}: migrating to {version}")?;
        match after {
            Some(after) => write!(formatter, ", done up to {after}"),
            None => Ok(()),
        }
    }
}

/// The keys that a run has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Progressed {
    /// The last key of those that need not be looked at again, in this run or another one.
    done: Option<Key>,
    /// The last key of those that were looked at in this run.
    seen: Option<Key>,
    has_failed: bool,
    is_unordered: bool,
}

impl Progressed {
    /// From where another run has come to.
    pub(super) fn after(done: Option<Key>) -> Self {
        Self {
            seen: done.clone(),
            done,
            ..Self::default()
        }
    }

    /// Whether an object need not be looked at.
    pub(super) fn skips(&self, key: &Key) -> bool {
        !self.is_unordered && self.seen.as_ref().is_some_and(|seen| key <= seen)
    }

    /// Notes what became of the next object in a page.
    pub(super) fn note(&mut self, key: Key, is_stored: bool) {
        self.has_failed |= !is_stored;
        if !self.has_failed && !self.is_unordered {
            self.done = Some(key.clone());
        }
        self.seen = Some(key);
    }

    /// Looks at the order of a page: without one, nothing is skipped, and nothing remembered.
    pub(super) fn check_order(&mut self, page: &[Key]) {
        if !page.is_sorted() {
            self.is_unordered = true;
            self.done = None;
        }
    }

    /// Where another run can go on.
    pub(super) fn done(&self) -> Option<&Key> {
        self.done.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key(text.to_owned())
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for after in [None, Some(key("default/many-9"))] {
            let place = Place {
                generation: 3,
                version: "v3alpha1".to_owned(),
                after,
            };
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        for text in [
            "",
            "generation x: migrating to v2",
            "generation 3",
            "migrating to v2",
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn keys_have_the_order_of_etcd() {
        // '-' comes before '/'
        assert!(key("a-b/x") < key("a/x"));
        assert!(key("a/x") < key("a/x-1") && key("a/z") < key("b/a"));
    }

    #[test]
    fn a_run_goes_on_before_the_first_failure() {
        let mut progressed = Progressed::after(Some(key("a/1")));
        assert!(progressed.skips(&key("a/1")) && !progressed.skips(&key("a/2")));
        progressed.note(key("a/2"), true);
        progressed.note(key("a/3"), false);
        progressed.note(key("a/4"), true);
        assert_eq!(progressed.done(), Some(&key("a/2")));
        // but in the same run nothing is done twice
        assert!(progressed.skips(&key("a/4")) && !progressed.skips(&key("a/5")));
    }

    #[test]
    fn without_an_order_nothing_is_skipped() {
        let mut progressed = Progressed::after(Some(key("a/5")));
        progressed.check_order(&[key("a/7"), key("a/6")]);
        progressed.note(key("a/7"), true);
        assert!(!progressed.skips(&key("a/1")));
        assert_eq!(progressed.done(), None);
    }
}
