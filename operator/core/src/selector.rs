//! Label selectors, as Kubernetes defines them.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Which objects are meant, by their labels. All requirements must hold; the empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Labels that must have these values.
    pub match_labels: Labels,
    /// Further conditions.
    pub match_expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// Label name.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// For `In` and `NotIn`.
    pub values: BTreeSet<String>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The label is there and has one of the values.
    In,
    /// The label is not there or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether it says anything at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels. `loose`: one of `match_labels` is enough
    /// (`DISABLE_STRICT_LABEL_SELECTORS`).
    #[must_use]
    pub fn matches(&self, labels: &LabelSet<'_>, loose: bool) -> bool {
        let mut pairs = self.match_labels.iter();
        let has = |(key, value): (&String, &String)| labels.has(key, value);
        let labels_match = if loose && !self.match_labels.is_empty() {
            pairs.any(has)
        } else {
            pairs.all(has)
        };
        labels_match
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &LabelSet<'_>) -> bool {
        let any = || self.values.iter().any(|value| labels.has(&self.key, value));
        match self.operator {
            Operator::In => any(),
            Operator::NotIn => !any(),
            Operator::Exists => labels.contains(&self.key),
            Operator::DoesNotExist => !labels.contains(&self.key),
        }
    }
}

/// The labels of several objects taken together, as those of a group of Mappings are.
#[derive(Clone, Debug, Default)]
pub struct LabelSet<'a>(BTreeSet<(&'a str, &'a str)>);

impl<'a> LabelSet<'a> {
    /// All labels of all of these.
    #[must_use]
    pub fn union(objects: impl IntoIterator<Item = &'a Labels>) -> Self {
        Self(
            objects
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
        )
    }

    fn has(&self, key: &str, value: &str) -> bool {
        self.0.contains(&(key, value))
    }

    fn contains(&self, key: &str) -> bool {
        self.0
            .range((key, "")..)
            .next()
            .is_some_and(|(found, _)| *found == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn requirement(operator: Operator, values: &[&str]) -> Selector {
        Selector {
            match_labels: Labels::new(),
            match_expressions: vec![Requirement {
                key: "tier".to_owned(),
                operator,
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            }],
        }
    }

    #[test]
    fn every_label_has_to_match_unless_loose() {
        let selector = Selector {
            match_labels: labels(&[("a", "1"), ("b", "2")]),
            match_expressions: Vec::new(),
        };
        let (some, all) = (
            labels(&[("a", "1")]),
            labels(&[("a", "1"), ("b", "2"), ("c", "3")]),
        );
        assert!(!selector.matches(&LabelSet::union([&some]), false));
        assert!(selector.matches(&LabelSet::union([&some]), true));
        assert!(selector.matches(&LabelSet::union([&all]), false));
        assert!(!selector.matches(&LabelSet::default(), true));
    }

    #[test]
    fn expressions_mean_what_kubernetes_says() {
        let (gold, none) = (labels(&[("tier", "gold")]), labels(&[("tiers", "x")]));
        let (gold, none) = (LabelSet::union([&gold]), LabelSet::union([&none]));
        for (selector, with, without) in [
            (requirement(Operator::In, &["gold", "x"]), true, false),
            (requirement(Operator::NotIn, &["gold"]), false, true),
            (requirement(Operator::Exists, &[]), true, false),
            (requirement(Operator::DoesNotExist, &[]), false, true),
        ] {
            assert_eq!(selector.matches(&gold, false), with, "{selector:?}");
            assert_eq!(selector.matches(&none, false), without, "{selector:?}");
        }
    }
}
