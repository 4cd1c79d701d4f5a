//! Mappings with the same match, and what each gets of their requests (mappings page, 8; decisions 2, 4 and 6).

use super::{
    attachment::HostMatch,
    input::{Condition, Labels, Mapping, Mistake},
    table::{Entry, Text, To},
};

/// A match. Mappings that have the same are a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Match {
    pub(crate) precedence: i64,
    pub(crate) path: Text,
    pub(crate) host: HostMatch,
    /// In the order of the page, 8.2, without the hostname and the method.
    pub(crate) headers: Vec<(String, Text)>,
    pub(crate) method: Option<Text>,
    /// In the order of the page, 8.2.
    pub(crate) query: Vec<(String, Text)>,
}

impl Match {
    pub(crate) fn of(condition: &Condition) -> Self {
        let prefix = condition.prefix.to_owned();
        let exact = |text: &str| Text::Exact(text.to_owned());
        let regex = |text: &str| Text::Regex(text.to_owned());
        let both = |texts: &Labels, regexes: &Labels| {
            let mut all = Vec::new();
            for (name, text) in texts {
                all.push(((*name).to_owned(), exact(text)));
            }
            for (name, text) in regexes {
                all.push(((*name).to_owned(), regex(text)));
            }
            all
        };
        Self {
            precedence: condition.precedence.unwrap_or(0),
            path: match (condition.prefix_regex, condition.prefix_exact) {
                (true, _) => Text::Regex(prefix),
                (false, true) => Text::Exact(prefix),
                (false, false) => Text::Prefix(prefix),
            },
            host: HostMatch::of(condition),
            headers: both(&condition.headers, &condition.regex_headers),
            method: condition.method.map(|method| match condition.method_regex {
                true => regex(method),
                false => exact(method),
            }),
            query: both(&condition.query, &condition.regex_query),
        }
    }
}

/// The members that a Host takes, in the order of decision 1.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) condition: Match,
    pub(crate) ordinary: Vec<Mapping>,
    pub(crate) redirect: Option<Mapping>,
    pub(crate) shadow: Option<Mapping>,
    /// They cannot join, as another member has their place.
    pub(crate) ignored: Vec<Mapping>,
    pub(crate) rejected: Vec<Mapping>,
}

/// The matches of all Mappings, those created first first (decision 4).
pub(crate) fn created(all: &[Mapping]) -> Vec<Match> {
    let mut created = Vec::new();
    for mapping in all {
        let condition = Match::of(&mapping.condition);
        if !created.contains(&condition) {
            created.push(condition);
        }
    }
    created
}

/// The groups of these Mappings.
pub(crate) fn groups(all: Vec<Mapping>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for mapping in all {
        let condition = Match::of(&mapping.condition);
        let found = groups.iter_mut().find(|group| group.condition == condition);
        if let Some(group) = found {
            group.join(mapping);
        } else {
            let mut group = Group {
                condition,
                ordinary: Vec::new(),
                redirect: None,
                shadow: None,
                ignored: Vec::new(),
                rejected: Vec::new(),
            };
            group.join(mapping);
            groups.push(group);
        }
    }
    groups
}

impl Group {
    /// One more member (mappings page, 8.4).
    fn join(&mut self, mapping: Mapping) {
        if mapping.mistake.is_some_and(Mistake::rejects) {
            self.rejected.push(mapping);
        } else if mapping.shadow && self.shadow.is_none() {
            self.shadow = Some(mapping);
        } else if mapping.shadow {
            self.ignored.push(mapping);
        } else if mapping.redirect && self.redirect.is_none() && self.ordinary.is_empty() {
            self.redirect = Some(mapping);
        } else if mapping.redirect || self.redirect.is_some() {
            self.ignored.push(mapping);
        } else {
            self.ordinary.push(mapping);
        }
    }

    /// Whether both have the same hostname and path.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        let (one, other) = (&self.condition, &other.condition);
        one.host == other.host && one.path.as_str() == other.path.as_str()
    }

    /// All members, and Mappings that cannot join.
    pub(crate) fn all(&self) -> Vec<&Mapping> {
        let mut all: Vec<&Mapping> = self.ordinary.iter().collect();
        all.extend(&self.redirect);
        all.extend(&self.shadow);
        all.extend(&self.ignored);
        all.extend(&self.rejected);
        all
    }

    /// The members that set `case_sensitive`, in order. Rejected ones are members (decision 6), ignored ones are not.
    fn case_settings(&self) -> Vec<(Mapping, bool)> {
        let mut members: Vec<Mapping> = self.ordinary.clone();
        members.extend(self.redirect.clone());
        members.extend(self.shadow.clone());
        members.extend(self.rejected.clone());
        members.sort_by_key(|mapping| mapping.meta.key());
        let set = |mapping: Mapping| mapping.case_sensitive.map(|set| (mapping, set));
        members.into_iter().filter_map(set).collect()
    }

    /// The first that sets it decides; regexes are compared as they are.
    fn case_sensitive(&self) -> bool {
        let first = self.case_settings().first().is_none_or(|(_, set)| *set);
        first || matches!(self.condition.path, Text::Regex(_))
    }

    /// Members whose `case_sensitive` is contradicted by an earlier one (decision 4).
    pub(crate) fn contradicted(&self) -> Vec<Mapping> {
        let all = self.case_settings();
        let first = all.first().map(|(_, set)| *set);
        all.into_iter()
            .filter(|(_, set)| Some(*set) != first)
            .map(|(mapping, _)| mapping)
            .collect()
    }

    /// What each member gets, up to which percentage. Members that get nothing are left out.
    fn destinations(&self) -> Vec<(u32, To)> {
        let mut all = Vec::new();
        if let Some(redirect) = &self.redirect {
            all.push((100, To::Redirect(redirect.number)));
        }
        let weights: Vec<_> = self.ordinary.iter().map(|mapping| mapping.weight).collect();
        for (place, below) in shares(&weights) {
            let mapping = &self.ordinary[place];
            let shadow = self.shadow.as_ref().map(|shadow| shadow.number);
            let to = match mapping.mistake {
                Some(_) => To::Unavailable,
                None => To::Service(mapping.number, shadow),
            };
            all.push((below, to));
        }
        // a rejected Mapping is no reason to fall through to another match (decision 6): what the others leave of its own
        // share is unavailable. Weights that leave some to other matches do so all the same.
        let covered = all.iter().map(|(below, _)| *below).max().unwrap_or(0);
        let own = match self.rejected.as_slice() {
            [_] if all.is_empty() => 100,
            rejected => rejected
                .iter()
                .map(|mapping| mapping.weight.unwrap_or(100))
                .sum(),
        };
        all.push((100.min(covered + own), To::Unavailable));
        let mut served = 0;
        all.retain(|(below, _)| {
            let gets_any = *below > served;
            served = served.max(*below);
            gets_any
        });
        all
    }

    /// Its routes.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let condition = &self.condition;
        let mut headers = condition.headers.clone();
        if let Some(method) = &condition.method {
            headers.push((":method".to_owned(), method.clone()));
        }
        headers.sort();
        let mut query = condition.query.clone();
        query.sort();
        self.destinations()
            .into_iter()
            .map(|(below, to)| Entry {
                path: condition.path.clone(),
                case_sensitive: self.case_sensitive(),
                authority: condition.host.text(),
                headers: headers.clone(),
                query: query.clone(),
                below,
                to,
            })
            .collect()
    }
}

/// The members in the order of their routes, each with the percentage that it and those before it get (mappings page, 8.5).
/// Weights of more than 100 in total are in proportion, rounded down (which no page decides).
pub(crate) fn shares(weights: &[Option<u32>]) -> Vec<(usize, u32)> {
    if weights.len() == 1 {
        return vec![(0, 100)];
    }
    let sum: u32 = weights.iter().flatten().sum();
    let mut shares = Vec::new();
    let mut total = 0;
    for (place, weight) in weights.iter().enumerate() {
        if let Some(weight) = weight {
            total += weight;
            shares.push((place, if sum > 100 { total * 100 / sum } else { total }));
        }
    }
    let open: Vec<usize> = (0..weights.len())
        .filter(|place| weights[*place].is_none())
        .collect();
    let Some(last) = open.last() else {
        return shares;
    };
    if sum > 100 {
        return shares;
    }
    let count = u32::try_from(open.len()).expect("few members");
    let each = half_even(100 - sum, count);
    for place in &open {
        total += each;
        shares.push((*place, if place == last { 100 } else { total }));
    }
    shares
}

/// `number / by`, rounded to the nearest, half to even.
fn half_even(number: u32, by: u32) -> u32 {
    let (whole, rest) = (number / by, number % by);
    match (2 * rest).cmp(&by) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Equal => whole + whole % 2,
        std::cmp::Ordering::Greater => whole + 1,
    }
}
