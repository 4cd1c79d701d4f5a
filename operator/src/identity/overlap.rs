//! What is trusted after a user has replaced an authority in one step: the one before, for as long as what it has signed is
//! valid. Pure.
//!
//! It is remembered in memory: a Secret of a user is never written, and what verifies clients must not come from a ConfigMap.
//! A replica that starts later trusts only what is in the Secret, but Envoys renew their certificates within a minute of a
//! change. An authority of our own has its overlap in the Secret.

use jiff::{SignedDuration, Timestamp};

use super::{authority::Trusted, rotation::Authorities};

/// How long an authority that was replaced is trusted: longer than certificates of Envoys are valid.
const KEEP: SignedDuration = SignedDuration::from_hours(25);

/// The authorities that were replaced.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// UID of the Secret, and what it had when it was read last.
    last: Option<(String, Vec<Trusted>)>,
    /// Each until this time.
    replaced: Vec<(Trusted, Timestamp)>,
}

impl Overlap {
    /// What is trusted now that the Secret with this UID holds these authorities. Another Secret is another installation of
    /// trust: whoever deletes one withdraws it.
    pub(super) fn trusted(
        &mut self,
        uid: &str,
        authorities: &Authorities,
        now: Timestamp,
    ) -> Vec<Trusted> {
        let current: Vec<Trusted> = authorities.trusted().cloned().collect();
        let last = self.last.replace((uid.to_owned(), current.clone()));
        let last = last.filter(|(last, _)| last == uid && !authorities.is_own());
        let Some((_, last)) = last else {
            self.replaced.clear();
            return Vec::new();
        };
        let until = now + KEEP;
        let replaced = last.into_iter().map(|old| (old, until));
        self.replaced
            .extend(replaced.filter(|(old, _)| !current.contains(old)));
        self.replaced
            .retain(|(old, until)| *until > now && old.not_after > now && !current.contains(old));
        let replaced = self.replaced.iter();
        replaced.map(|(old, _)| old.clone()).collect()
    }
}
