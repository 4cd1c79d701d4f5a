//! Where the product does not do yet what the pages and decisions say: the inputs that show it are changed, until it does.
//! `MODEL_SHOW` keeps those of the differences that it names, or `all`, and the test then fails.

use std::{env, sync::LazyLock};

use super::input::{Input, Mapping, Mistake, SecurityModel};

/// Whether this difference is to be seen.
pub(crate) fn is_shown(name: &str) -> bool {
    static SHOWN: LazyLock<String> = LazyLock::new(|| env::var("MODEL_SHOW").unwrap_or_default());
    SHOWN
        .split(',')
        .any(|shown| shown == name || shown == "all")
}

/// Changes an input so that it does not show a difference.
type LeaveOut = fn(&mut Input);

/// The input without what shows an open difference.
pub(crate) fn without(mut input: Input) -> Input {
    let open: [(&str, LeaveOut); 5] = [
        ("listeners", one_listener),
        ("ties", different_places),
        ("ignored", case_of_ignored),
        ("weights", weights_beside_rejected),
        ("challenges", challenges_where_all_are_rejected),
    ];
    for (name, leave_out) in open {
        if !is_shown(name) {
            leave_out(&mut input);
        }
    }
    input
}

/// Decision 18: of two Listeners from different namespaces the older one keeps the port. The product takes the first.
fn one_listener(input: &mut Input) {
    input.listeners.truncate(1);
}

/// Decision 4: of groups with equal route weight, such as those with the headers `x-a: b` and `x: a-b`, the one created later
/// comes first. The product has no total order of three such groups if two of them differ in kinds only.
fn different_places(input: &mut Input) {
    for mapping in &mut input.mappings {
        let condition = &mut mapping.condition;
        for headers in [&mut condition.headers, &mut condition.regex_headers] {
            headers.retain(|_, value| *value != "a-b");
        }
    }
}

/// Decision 4 with 8.4 of the mappings page: a Mapping that cannot join its group sets nothing there. In the product its
/// `case_sensitive` holds.
fn case_of_ignored(input: &mut Input) {
    let is_special = |mapping: &Mapping| mapping.redirect || mapping.shadow;
    if input.mappings.iter().any(is_special) {
        for mapping in &mut input.mappings {
            mapping.case_sensitive = None;
        }
    }
}

/// Decision 6: requests never fall through to a less specific route because of a mistake. In the product they do if the
/// weights of the other members leave some.
fn weights_beside_rejected(input: &mut Input) {
    let is_rejected = |mapping: &Mapping| mapping.mistake.is_some_and(Mistake::rejects);
    if input.mappings.iter().any(is_rejected) {
        for mapping in &mut input.mappings {
            mapping.weight = None;
        }
    }
}

/// A Host that rejects insecure requests answers ACME challenges on an `INSECURE` Listener only if the Listener has a Host
/// that does not reject (hosts page, 6.6 and 9.5, where it never does). In the product another Host of the same hostname,
/// which is not served, is enough.
fn challenges_where_all_are_rejected(input: &mut Input) {
    let is_challenge = |mapping: &Mapping| mapping.condition.prefix.starts_with("/.well-known");
    if input.mappings.iter().any(is_challenge) {
        for listener in &mut input.listeners {
            if listener.model == SecurityModel::Insecure {
                listener.model = SecurityModel::Xfp;
            }
        }
    }
}
