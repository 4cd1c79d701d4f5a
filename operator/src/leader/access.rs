//! Whether what this process does with Leases works: a failure is logged once, shown in readiness and, if it is a missing
//! permission, in a metric, until a request succeeds.

use std::fmt::Display;

use tracing::{info, warn};

use crate::{health::Progress, metrics::Metrics};

/// Resource that permissions name.
const RESOURCE: &str = "leases.coordination.k8s.io";

/// One use of Leases.
#[derive(Clone, Debug)]
pub struct Access {
    progress: Progress,
    metrics: Metrics,
    purpose: &'static str,
    outcome: &'static str,
    /// Whether requests fail, and whether that is for a missing permission.
    failing: Option<bool>,
}

impl Access {
    /// A use of Leases for this purpose; `outcome` is what happens while it fails.
    #[must_use]
    pub fn new(
        progress: Progress,
        metrics: Metrics,
        purpose: &'static str,
        outcome: &'static str,
    ) -> Self {
        Self {
            progress,
            metrics,
            purpose,
            outcome,
            failing: None,
        }
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, is_forbidden: bool, error: &impl Display) {
        let (purpose, outcome) = (self.purpose, self.outcome);
        if self.failing.replace(is_forbidden) == Some(is_forbidden) {
            return;
        }
        self.metrics
            .missing_permission(RESOURCE, purpose, is_forbidden);
        if is_forbidden {
            warn!(purpose, outcome, %error, "missing permission on Leases");
        } else {
            warn!(purpose, outcome, %error, "Lease request failed; retrying");
        }
        let what = if is_forbidden {
            format!("missing permission on {RESOURCE}")
        } else {
            "Lease request failed".to_owned()
        };
        let text = format!("{purpose}: {what} ({error}); {outcome}");
        self.progress.warn(purpose, text);
    }

    /// A request of the API failed.
    pub(crate) fn request_failed(&mut self, error: &kube::Error) {
        let is_forbidden = matches!(error, kube::Error::Api(status) if status.code == 403);
        self.failed(is_forbidden, error);
    }

    /// A request succeeded.
    pub(crate) fn succeeded(&mut self) {
        if self.failing.take().is_none() {
            return;
        }
        let purpose = self.purpose;
        info!(purpose, "Lease requests succeed again");
        self.metrics.missing_permission(RESOURCE, purpose, false);
        self.progress.settle(purpose);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_shown_until_a_request_succeeds() {
        let (progress, metrics) = (Progress::default(), Metrics::default());
        let mut access = Access::new(
            progress.clone(),
            metrics.clone(),
            "leader election",
            "no status is written",
        );
        access.failed(true, &"forbidden");
        let warnings = progress.warnings();
        assert_eq!(
            warnings,
            "warning: leader election: missing permission on leases.coordination.k8s.io (forbidden); no status is written\n"
        );
        assert!(metrics.misses_permission(RESOURCE, "leader election"));
        // another failure replaces the first
        access.failed(false, &"timeout");
        assert!(!metrics.misses_permission(RESOURCE, "leader election"));
        assert!(
            progress
                .warnings()
                .contains("Lease request failed (timeout)")
        );
        access.succeeded();
        assert_eq!(progress.warnings(), "");
    }
}
