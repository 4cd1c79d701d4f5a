//! Search for the culprits in a rejected response: its resources are sent again in smaller batches, until one is rejected
//! alone.
//!
//! Envoy's error is text without structure. It often names the culprit, so names that stand in it are tried first; without
//! any the batch is halved. So one culprit among 5,000 resources is found in a few round trips.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

/// If an error contains more names, it is no hint.
const MAX_HINTS: usize = 16;
/// How much of an error is searched for names.
const SEARCHED: usize = 4096;

/// Batches of names, each to be sent in a response of its own, and before anything else.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    batches: VecDeque<Vec<Arc<str>>>,
    names: BTreeSet<Arc<str>>,
    /// No change of them is older than this snapshot.
    since: Option<u64>,
}

impl Isolation {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) const fn since(&self) -> Option<u64> {
        self.since
    }

    /// Sends these names in one response.
    pub(super) fn push(&mut self, batch: Vec<Arc<str>>, since: u64) {
        let batch: Vec<Arc<str>> = batch
            .into_iter()
            .filter(|name| self.names.insert(name.clone()))
            .collect();
        if !batch.is_empty() {
            self.since = Some(self.since.map_or(since, |before| before.min(since)));
            self.batches.push_back(batch);
        }
    }

    /// Splits a response that was rejected with this error.
    pub(super) fn split(&mut self, names: Vec<Arc<str>>, error: &str, since: u64) {
        let (named, mut others): (Vec<Arc<str>>, Vec<Arc<str>>) =
            names.into_iter().partition(|name| mentions(error, name));
        if (1..=MAX_HINTS).contains(&named.len()) {
            for name in named {
                self.push(vec![name], since);
            }
            self.push(others, since);
            return;
        }
        others.extend(named);
        let half = others.split_off(others.len() / 2);
        self.push(others, since);
        self.push(half, since);
    }

    /// The next batch.
    pub(super) fn pop(&mut self) -> Option<Vec<Arc<str>>> {
        let batch = self.batches.pop_front()?;
        for name in &batch {
            self.names.remove(name);
        }
        if self.batches.is_empty() {
            self.since = None;
        }
        Some(batch)
    }
}

/// Whether a name stands in a text, and not as a part of a longer name.
fn mentions(text: &str, name: &str) -> bool {
    let mut end = text.len().min(SEARCHED);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let is_part = |letter: char| letter.is_alphanumeric() || "-_./".contains(letter);
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + name.len()..];
        // a dot or slash after the name can end a sentence
        let rest = after.strip_prefix(['.', '/']).unwrap_or(after);
        let continues = rest.starts_with(is_part);
        !before.is_some_and(is_part) && !continues
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mentioned_as_a_whole() {
        for text in ["a-b: no", "error in 'a-b'.", "a-b", "x a-b/"] {
            assert!(mentions(text, "a-b"), "{text}");
        }
        for text in ["a-b-c: no", "xa-b", "a-b.c", "", "a", "a-b/c"] {
            assert!(!mentions(text, "a-b"), "{text}");
        }
    }

    fn batches(isolation: &mut Isolation) -> Vec<Vec<Arc<str>>> {
        std::iter::from_fn(|| isolation.pop()).collect()
    }

    #[test]
    fn names_in_the_error_are_tried_first() {
        let names = || ["a", "b", "c", "d", "e"].map(Arc::from).to_vec();
        let mut isolation = Isolation::default();
        isolation.split(names(), "c: no", 7);
        assert_eq!(isolation.since(), Some(7));
        let sizes: Vec<usize> = batches(&mut isolation).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 4]);
        assert_eq!(isolation.since(), None);
        isolation.split(names(), "no", 7);
        let sizes: Vec<usize> = batches(&mut isolation).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 3]);
    }

    #[test]
    fn a_name_is_in_one_batch_only() {
        let mut isolation = Isolation::default();
        isolation.push(vec!["a".into()], 1);
        isolation.push(vec!["a".into(), "b".into()], 2);
        assert_eq!(
            batches(&mut isolation),
            [vec!["a".into()], vec!["b".into()]]
        );
    }
}
