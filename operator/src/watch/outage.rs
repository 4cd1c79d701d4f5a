//! The current row of failures of a watch, so that an outage is logged once and not with every retry, and so that what
//! empties a kind must last for a while.

use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::events;

/// How long the apiserver must answer that it does not have a kind, or that it does not permit to read it, before that
/// counts. An apiserver that is starting gives both answers.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A watch that did not fail for this long has recovered, even if nothing has changed since: a request that fails does so
/// earlier, and pauses are shorter.
const QUIET: Duration = Duration::from_secs(45);

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The apiserver does not have the kind.
    Absent,
    /// A permission is missing, for this verb.
    Forbidden(&'static str),
    /// The apiserver has the kind, but does not serve the version that is read, or cannot convert to it.
    OtherVersion,
    /// Everything else.
    Other,
}

impl Cause {
    /// The cause of a failure. That a kind is absent takes more than one answer: see the caller.
    pub(crate) fn of(error: &watcher::Error) -> Self {
        match error {
            _ if events::is_unconverted(error) => Self::OtherVersion,
            _ if !events::is_forbidden(error) => Self::Other,
            watcher::Error::InitialListFailed(_) => Self::Forbidden("list"),
            _ => Self::Forbidden("watch"),
        }
    }
}

/// The current row of failures.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Which failure was logged last.
    logged: Option<Cause>,
    /// The last failure, and since when all failures are equal to it.
    current: Option<(Cause, Instant)>,
    /// When the last request failed.
    failed: Option<Instant>,
}

/// How to handle a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Retry; it was logged already, or may pass.
    Retry,
    /// Log it and retry.
    Log,
    /// The kind is absent, or reading it is forbidden, for long enough. Log it.
    Settled,
}

impl Outage {
    /// Handles a failure.
    pub(crate) fn fail(&mut self, cause: Cause, now: Instant) -> Reaction {
        let since = match self.current {
            Some((current, since)) if current == cause => since,
            _ => now,
        };
        self.current = Some((cause, since));
        self.failed = Some(now);
        if self.logged == Some(cause) {
            return Reaction::Retry;
        }
        let reaction = match cause {
            Cause::Other => Reaction::Log,
            _ if now.duration_since(since) < SETTLED_AFTER => return Reaction::Retry,
            Cause::Absent | Cause::Forbidden(_) | Cause::OtherVersion => Reaction::Settled,
        };
        self.logged = Some(cause);
        reaction
    }

    /// The failure that was logged last, if the outage lasts.
    pub(crate) fn logged(&self) -> Option<Cause> {
        self.logged
    }

    /// Waits until the outage is over, unless another request fails. Never ends if none was logged.
    pub(crate) async fn quiet(&self) {
        match self.ends_at() {
            Some(end) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    }

    fn ends_at(&self) -> Option<Instant> {
        self.logged?;
        Some(self.failed? + QUIET)
    }

    /// Ends the outage; true if one was logged.
    pub(crate) fn recover(&mut self) -> bool {
        std::mem::take(self).logged.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: Cause = Cause::Forbidden("list");

    #[test]
    fn an_outage_and_its_end_are_logged_once() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert!(!outage.recover());
        assert_eq!(outage.fail(Cause::Other, now), Reaction::Log);
        assert_eq!(outage.fail(Cause::Other, now), Reaction::Retry);
        assert!(outage.recover());
        assert!(!outage.recover());
        assert_eq!(outage.fail(Cause::Other, now), Reaction::Log);
    }

    #[test]
    fn a_kind_is_absent_or_forbidden_only_after_the_apiserver_answered_so_for_a_while() {
        for cause in [Cause::Absent, FORBIDDEN] {
            let (mut outage, now) = (Outage::default(), Instant::now());
            assert_eq!(outage.fail(cause, now), Reaction::Retry);
            assert_eq!(outage.fail(cause, now + SETTLED_AFTER / 2), Reaction::Retry);
            // an apiserver that is starting gives several answers
            assert_eq!(
                outage.fail(Cause::Other, now + SETTLED_AFTER / 2),
                Reaction::Log
            );
            assert_eq!(outage.fail(cause, now + SETTLED_AFTER), Reaction::Retry);
            assert_eq!(
                outage.fail(cause, now + SETTLED_AFTER * 2),
                Reaction::Settled
            );
            assert_eq!(outage.fail(cause, now + SETTLED_AFTER * 3), Reaction::Retry);
        }
    }

    #[test]
    fn each_change_of_the_cause_is_logged() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.fail(FORBIDDEN, now), Reaction::Retry);
        let later = now + SETTLED_AFTER;
        assert_eq!(outage.fail(FORBIDDEN, later), Reaction::Settled);
        assert_eq!(outage.fail(Cause::Other, later), Reaction::Log);
        assert_eq!(outage.fail(Cause::Other, later), Reaction::Retry);
        assert_eq!(outage.logged(), Some(Cause::Other));
    }

    #[test]
    fn an_outage_is_over_when_nothing_has_failed_for_a_while() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.ends_at(), None);
        outage.fail(FORBIDDEN, now);
        assert_eq!(outage.ends_at(), None, "it was not logged");
        outage.fail(Cause::Other, now);
        outage.fail(Cause::Other, now + QUIET / 2);
        assert_eq!(outage.ends_at(), Some(now + QUIET * 3 / 2));
    }

    #[test]
    fn an_absent_kind_that_is_installed_and_removed_is_absent_again() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        outage.fail(Cause::Absent, now);
        assert_eq!(
            outage.fail(Cause::Absent, now + SETTLED_AFTER),
            Reaction::Settled
        );
        assert!(outage.recover());
        let later = now + SETTLED_AFTER * 10;
        assert_eq!(outage.fail(Cause::Absent, later), Reaction::Retry);
        assert_eq!(
            outage.fail(Cause::Absent, later + SETTLED_AFTER),
            Reaction::Settled
        );
    }
}
