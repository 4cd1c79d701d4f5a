//! The order of groups (mappings page, 9; decision 4).

use std::cmp::Reverse;

use super::{
    attachment::HostMatch,
    group::{Group, Match},
    table::Text,
};

/// What the page calls route weight, as far as it differs between groups. The greatest comes first.
type Weight = (i64, usize, usize, usize, String, Vec<String>);

/// The texts of a match, whatever their kind. Groups that differ in nothing else are one group in Emissary, which has the
/// place of its greatest member. Inside it, exact matchers come first; decision 4 names paths and headers, but query
/// parameters are in the same position: Emissary has no order of their kinds that could be kept.
type Texts = (i64, String, Vec<(String, String)>, Vec<(String, String)>);

/// Groups in matching order, which is the same in every Host. `created` has the match of every group, the first created
/// first.
pub(crate) fn sorted(mut groups: Vec<Group>, created: &[Match]) -> Vec<Group> {
    groups.sort_by_key(|group| {
        let texts_of_group = texts(&group.condition);
        let is_same = |other: &&Match| texts(other) == texts_of_group;
        let place = created.iter().position(|other| is_same(&other));
        let weights = created.iter().filter(is_same).map(weight);
        (
            Reverse(weights.max()),
            Reverse(place),
            kinds(&group.condition),
        )
    });
    groups
}

/// Headers in the order of the page, 8.2: the hostname and the method come last.
fn headers(condition: &Match) -> Vec<(String, Text)> {
    let mut all = condition.headers.clone();
    let authority = ":authority".to_owned();
    match condition.host {
        HostMatch::None => {}
        HostMatch::Glob(glob) => all.push((authority, Text::Exact(glob.to_owned()))),
        HostMatch::Regex(pattern) => all.push((authority, Text::Regex(pattern.to_owned()))),
    }
    if let Some(method) = &condition.method {
        all.push((":method".to_owned(), method.clone()));
    }
    all
}

fn weight(condition: &Match) -> Weight {
    let path = condition.path.as_str().to_owned();
    let headers = headers(condition);
    let length = |all: &[(String, Text)]| {
        let lengths = all.iter().map(|(name, value)| {
            name.len() + value.as_str().len() + usize::from(matches!(value, Text::Regex(_)))
        });
        lengths.sum()
    };
    let keys = headers
        .iter()
        .chain(&condition.query)
        .map(|(name, value)| format!("{name}-{}", value.as_str()));
    (
        condition.precedence,
        path.len(),
        length(&headers),
        length(&condition.query),
        path,
        keys.collect(),
    )
}

fn texts(condition: &Match) -> Texts {
    let texts = |all: &[(String, Text)]| {
        all.iter()
            .map(|(name, value)| (name.clone(), value.as_str().to_owned()))
            .collect()
    };
    (
        condition.precedence,
        condition.path.as_str().to_owned(),
        texts(&headers(condition)),
        texts(&condition.query),
    )
}

/// Exact before prefix before regex: for the hostname, then the path, then the headers, then the query parameters (no page
/// decides which of these comes first).
fn kinds(condition: &Match) -> Vec<u8> {
    let headers = headers(condition);
    let is_authority = |(name, _): &&(String, Text)| name == ":authority";
    let hostname = headers.iter().find(is_authority);
    let others = headers.iter().filter(|header| !is_authority(header));
    let all = hostname.map(|(_, value)| value).into_iter();
    let all = all.chain([&condition.path]);
    let all = all.chain(others.chain(&condition.query).map(|(_, value)| value));
    all.map(|text| match text {
        Text::Exact(_) => 0,
        Text::Prefix(_) | Text::Suffix(_) => 1,
        Text::Regex(_) => 2,
    })
    .collect()
}
