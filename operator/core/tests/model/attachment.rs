//! Which Hosts take a Mapping (mappings page, 10.2 and 10.3; decisions 2 and 3).

use super::expected;
use super::input::{Condition, Host, Mapping, Meta, Operator, Selector};
use super::table::Text;

/// What a Mapping says of the hostname, of several fields the strongest (mappings page, 10.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HostMatch {
    None,
    Glob(&'static str),
    Regex(&'static str),
}

impl HostMatch {
    pub(crate) fn of(condition: &Condition) -> Self {
        match (condition.hostname, condition.host, condition.authority) {
            (Some(hostname), _, _) => Self::Glob(hostname),
            (None, Some(host), _) if condition.host_regex => Self::Regex(host),
            (None, Some(host), _) => Self::Glob(host),
            (None, None, Some(authority)) => Self::Glob(authority),
            (None, None, None) => Self::None,
        }
    }

    /// What requests must have (mappings page, 11.4).
    pub(crate) fn text(self) -> Option<Text> {
        match self {
            Self::None | Self::Glob("*") => None,
            Self::Regex(pattern) => Some(Text::Regex(pattern.to_owned())),
            Self::Glob(glob) => Some(if let Some(end) = glob.strip_prefix('*') {
                Text::Suffix(end.to_owned())
            } else if let Some(start) = glob.strip_suffix('*') {
                Text::Prefix(start.to_owned())
            } else {
                Text::Exact(glob.to_owned())
            }),
        }
    }
}

/// Whether this Host takes this Mapping.
pub(crate) fn takes(host: &Host, mapping: &Mapping, loose: bool) -> bool {
    let hostname = expected::hostname(host);
    let host_ok = match HostMatch::of(&mapping.condition) {
        HostMatch::None => None,
        HostMatch::Regex(_) => Some(true),
        HostMatch::Glob(glob) => Some(compatible(hostname, glob)),
    };
    let selected = host
        .selector
        .as_ref()
        .map(|selector| selects(selector, &mapping.meta, loose));
    match (selected, host_ok) {
        (Some(selected), Some(host_ok)) if loose => selected || host_ok,
        (Some(selected), Some(host_ok)) => selected && host_ok,
        (Some(selected), None) => selected,
        (None, Some(host_ok)) => host_ok,
        (None, None) => false,
    }
}

fn selects(selector: &Selector, meta: &Meta, loose: bool) -> bool {
    let pairs: Vec<_> = selector
        .labels
        .iter()
        .map(|(key, value)| (*key, *value))
        .collect();
    let labels = if loose && !pairs.is_empty() {
        pairs.into_iter().any(|pair| meta.has(pair))
    } else {
        pairs.into_iter().all(|pair| meta.has(pair))
    };
    let expressions = selector.expressions.iter().all(|expression| {
        let value = meta.labels.get(expression.key);
        let listed = value.is_some_and(|value| expression.values.contains(value));
        match expression.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    });
    labels && expressions
}

/// Whether some name matches both globs. A wildcard is at one end and stands for at least one character.
fn compatible(one: &str, other: &str) -> bool {
    if one == other || one == "*" || other == "*" {
        return true;
    }
    match (
        (one.strip_prefix('*'), one.strip_suffix('*')),
        (other.strip_prefix('*'), other.strip_suffix('*')),
    ) {
        ((Some(a), _), (Some(b), _)) => a.ends_with(b) || b.ends_with(a),
        ((_, Some(a)), (_, Some(b))) => a.starts_with(b) || b.starts_with(a),
        ((Some(_), _), (_, Some(_))) | ((_, Some(_)), (Some(_), _)) => true,
        ((Some(end), _), _) => other.len() > end.len() && other.ends_with(end),
        (_, (Some(end), _)) => one.len() > end.len() && one.ends_with(end),
        ((_, Some(start)), _) => other.len() > start.len() && other.starts_with(start),
        (_, (_, Some(start))) => one.len() > start.len() && one.starts_with(start),
        ((None, None), (None, None)) => false,
    }
}
