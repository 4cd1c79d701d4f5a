//! A publication: one snapshot, what caused it and what it changed.

use std::{
    mem,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nuncio_core::change::{ResourceVersion, Subject, Touched};
use nuncio_xds::snapshot::Difference;

/// Causes and resources that are listed of a publication at most; all are counted.
pub const LISTED: usize = 256;

/// Bytes of the causes that are listed.
const CAUSE_BYTES: usize = 32 << 10;

/// Why something was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the first snapshot.
    Start,
    /// Something changed: see the causes.
    Changes,
    /// Time passed, such as beyond the expiry of a certificate.
    Time,
    /// Envoys rejected something, and it is replaced; or their answer lets something be tried.
    Rejections,
}

/// An object, or a service of Consul, that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What changed.
    pub subject: Subject,
    /// Its resource version, as far as it is known; that of the deletion if it is gone.
    pub version: ResourceVersion,
    /// Whether its source no longer has it.
    pub is_gone: bool,
    /// When this process received the change.
    pub received: Instant,
}

/// What caused a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// In the order in which they were received, the first [`LISTED`] at most. An object that changed twice is listed twice.
    pub listed: Box<[Cause]>,
    /// How many there are.
    pub total: usize,
    /// When the first of all was received; `None` without causes.
    pub received: Option<Instant>,
}

/// One snapshot.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Number of the snapshot, higher than that of all before. Numbers start again with the process.
    pub seq: u64,
    /// When it was published, for durations.
    pub at: Instant,
    /// When it was published, for people.
    pub time: Timestamp,
    /// Why.
    pub reason: Reason,
    /// What changed, unless the reason is another.
    pub causes: Causes,
    /// What differs from the snapshot before it, and its size in bytes. [`LISTED`] resources are listed at most.
    pub difference: Difference,
    /// How long linking took: finding out what the changes mean for all objects.
    pub linking: Duration,
    /// How long rendering took, with what else was done until it was published.
    pub rendering: Duration,
}

impl Publication {
    /// When the first of the changes was received that this is about; `None` for another reason, and for the first snapshot,
    /// which waits for more than changes.
    #[must_use]
    pub fn received(&self) -> Option<Instant> {
        let is_measured = self.reason == Reason::Changes;
        self.causes.received.filter(|_| is_measured)
    }

    /// When a change was received, for people.
    #[must_use]
    pub fn time_of(&self, received: Instant) -> Timestamp {
        let before = self.at.saturating_duration_since(received);
        self.time.checked_sub(before).unwrap_or(self.time)
    }

    /// Bytes in memory, names included though others may share them.
    #[must_use]
    pub fn size(&self) -> usize {
        let changes = &self.difference.changes;
        let names = changes.iter().map(|change| change.name.len());
        let causes = self.causes.listed.iter().map(size_of_cause);
        mem::size_of::<Self>()
            + mem::size_of_val(changes.as_slice())
            + names.sum::<usize>()
            + causes.sum::<usize>()
    }
}

fn size_of_cause(cause: &Cause) -> usize {
    let names = match &cause.subject {
        Subject::Object(object) => object.name.len() + object.namespace.len(),
        Subject::Consul(service) => {
            let resolver = service.resolver.as_ref();
            let resolver = resolver.map_or(0, |name| name.namespace.len() + name.name.len());
            service.name.len() + service.datacenter.len() + resolver
        }
    };
    mem::size_of::<Cause>() + names + cause.version.allocated()
}

/// What changed since the last publication.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    listed: Vec<Cause>,
    bytes: usize,
    total: usize,
    received: Option<Instant>,
}

impl Pending {
    /// Adds what a batch has changed. `deleted` is the version of those that are gone.
    pub(crate) fn add(
        &mut self,
        received: Instant,
        deleted: &ResourceVersion,
        touched: impl Iterator<Item = Touched>,
    ) {
        for touched in touched {
            self.total += 1;
            let first = self.received.unwrap_or(received);
            self.received = Some(first.min(received));
            let version = match touched.version {
                ResourceVersion::Unknown if touched.is_gone => deleted.clone(),
                version => version,
            };
            let cause = Cause {
                subject: touched.subject,
                version,
                is_gone: touched.is_gone,
                received,
            };
            let size = size_of_cause(&cause);
            if self.listed.len() < LISTED && self.bytes + size <= CAUSE_BYTES {
                self.bytes += size;
                self.listed.push(cause);
            }
        }
    }

    /// Takes the causes.
    pub(crate) fn take(&mut self) -> Causes {
        let Self {
            listed,
            total,
            received,
            ..
        } = mem::take(self);
        Causes {
            listed: listed.into(),
            total,
            received,
        }
    }
}
