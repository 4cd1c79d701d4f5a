//! The oldest version of the connected Envoys, as objects are filed for it.

use std::time::Duration;

use nuncio_xds::ir::EnvoyVersion;
use tokio::time::Instant;

/// How long no Envoy of an older version may be connected before what it lacks is served again: one that restarts, or
/// connects to another replica, is soon back.
const GONE: Duration = Duration::from_secs(60);

/// A lower version holds at once, a higher one after a while.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    used: EnvoyVersion,
    /// When a higher one will hold.
    deadline: Option<Instant>,
}

impl Oldest {
    /// Notes the oldest version that is connected now, if any; returns the one to file for if that changes.
    pub(super) fn observe(
        &mut self,
        connected: Option<EnvoyVersion>,
        now: Instant,
    ) -> Option<EnvoyVersion> {
        // what is rendered is for this version, and later ones have it, too
        let version = connected.map_or(EnvoyVersion::NEWEST, |version| {
            version.min(EnvoyVersion::NEWEST)
        });
        if version == self.used {
            self.deadline = None;
            return None;
        }
        if version > self.used {
            let deadline = *self.deadline.get_or_insert(now + GONE);
            if now < deadline {
                return None;
            }
        }
        self.deadline = None;
        self.used = version;
        Some(version)
    }

    /// When to look again.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_counts_at_once_and_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let old = EnvoyVersion::minor(38);
        let mut oldest = Oldest::default();
        assert_eq!(oldest.observe(Some(EnvoyVersion::NEWEST), start), None);
        assert_eq!(oldest.observe(Some(EnvoyVersion::minor(41)), start), None);
        assert_eq!(oldest.observe(Some(old), start), Some(old));
        assert_eq!(oldest.observe(None, after(1)), None);
        assert_eq!(oldest.deadline(), Some(after(61)));
        assert_eq!(oldest.observe(Some(old), after(50)), None);
        assert_eq!(oldest.observe(None, after(60)), None, "it was back");
        assert_eq!(oldest.observe(None, after(119)), None);
        assert_eq!(oldest.observe(None, after(120)), Some(EnvoyVersion::NEWEST));
        assert_eq!(oldest.deadline(), None);
    }
}
