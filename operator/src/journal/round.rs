//! A round of the publish loop: what is known of its snapshot besides the snapshot.

use std::time::Duration;

use jiff::Timestamp;
use nuncio_xds::quarantine::Published;

use super::{Causes, Publication, Reason};

/// What a round was about.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The snapshot that has its update. If it has an earlier round's, nothing differed.
    pub(crate) seq: u64,
    /// Whether it is the first.
    pub(crate) is_first: bool,
    /// What changed.
    pub(crate) causes: Causes,
    /// See [`Publication::linking`].
    pub(crate) linking: Duration,
    /// See [`Publication::rendering`].
    pub(crate) rendering: Duration,
}

impl Publication {
    /// The publication of a snapshot, of this round or of none.
    pub(crate) fn of(published: Published, round: Option<Round>, time: Timestamp) -> Self {
        let Published {
            seq,
            at,
            is_review,
            difference,
        } = published;
        // an update without any difference has the number of the review before it
        let round = round.filter(|round| round.seq == seq && !is_review);
        let reason = match &round {
            None => Reason::Rejections,
            Some(round) if round.is_first => Reason::Start,
            Some(round) if round.causes.total > 0 => Reason::Changes,
            Some(_) => Reason::Time,
        };
        let Round {
            causes,
            linking,
            rendering,
            ..
        } = round.unwrap_or_default();
        Self {
            seq,
            at,
            time,
            reason,
            causes,
            difference,
            linking,
            rendering,
        }
    }
}
