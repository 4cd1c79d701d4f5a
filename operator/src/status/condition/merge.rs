//! One condition from those of several fleets. With one fleet it is that fleet's, as it is.
//!
//! However many fleets there are, the message shows the first ones that differ and counts the others, and no fleet's text takes the
//! place of another's.

use nuncio_core::report::Reason;

use super::{MESSAGE_LIMIT, Share, shortened};
use crate::printable;

/// Texts that a message lists; further ones are counted.
const TEXTS: usize = 4;
/// IDs that are listed with a text; further ones are counted.
const IDS: usize = 4;
/// Longest ID in a message, in bytes.
const ID_LIMIT: usize = 32;

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) is_true: bool,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Verdict {
    /// Whether there is nothing to report but the message.
    fn is_clean(&self) -> bool {
        self.is_true
            && [Reason::ACCEPTED, Reason::RESOLVED_REFS, Reason::PROGRAMMED].contains(&self.reason)
    }
}

/// The condition of all fleets. `names_fleets`: the message names them even if all of them say the same.
pub(super) fn merged(
    shares: &[Share<'_>],
    names_fleets: bool,
    of: impl Fn(&Share<'_>) -> Verdict,
) -> Verdict {
    if let [only] = shares {
        return of(only);
    }
    let mut groups: Vec<(Verdict, Vec<&str>)> = Vec::new();
    for share in shares {
        add(&mut groups, of(share), share);
    }
    // stable: fleets stay in their order
    groups.sort_by_key(|(verdict, _)| (verdict.is_true, verdict.is_clean()));
    let is_true = groups.iter().all(|(verdict, _)| verdict.is_true);
    let reason = groups.first().map(|(verdict, _)| verdict.reason);
    let groups = groups
        .into_iter()
        .map(|(verdict, ids)| (verdict.message, ids));
    Verdict {
        is_true,
        reason: reason.unwrap_or(Reason::ACCEPTED),
        message: joined(groups.collect(), names_fleets),
    }
}

/// The text of all fleets; those without one are left out.
pub(super) fn merged_text(shares: &[Share<'_>], of: impl Fn(&Share<'_>) -> String) -> String {
    if let [only] = shares {
        return of(only);
    }
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    let mut is_said_by_all = true;
    for share in shares {
        let text = of(share);
        if text.is_empty() {
            is_said_by_all = false;
        } else {
            add(&mut groups, text, share);
        }
    }
    joined(groups, !is_said_by_all)
}

/// Adds the fleet of a share to those that say the same.
fn add<'a, T: PartialEq>(groups: &mut Vec<(T, Vec<&'a str>)>, says: T, share: &Share<'a>) {
    let id = share.fleet.unwrap_or_default();
    match groups.iter_mut().find(|(said, _)| *said == says) {
        Some((_, ids)) => ids.push(id),
        None => groups.push((says, vec![id])),
    }
}

fn joined(groups: Vec<(String, Vec<&str>)>, names_fleets: bool) -> String {
    if let [(text, _)] = groups.as_slice()
        && !names_fleets
    {
        return text.clone();
    }
    let more: usize = groups.iter().skip(TEXTS).map(|(_, ids)| ids.len()).sum();
    let room = MESSAGE_LIMIT / groups.len().clamp(1, TEXTS) - (IDS + 1) * (ID_LIMIT + 2);
    let listed = groups.into_iter().take(TEXTS).map(|(text, ids)| {
        let text = printable::shortened(shortened(&text), room);
        format!("[{}] {text}", listed(&ids))
    });
    let mut listed: Vec<String> = listed.collect();
    if more > 0 {
        listed.push(format!("and {more} more with other messages"));
    }
    listed.join("; ")
}

fn listed(ids: &[&str]) -> String {
    let first = ids.iter().take(IDS);
    let mut listed: Vec<String> = first
        .map(|id| printable::shortened((*id).to_owned(), ID_LIMIT))
        .collect();
    if ids.len() > IDS {
        listed.push(format!("{} more", ids.len() - IDS));
    }
    listed.join(", ")
}
