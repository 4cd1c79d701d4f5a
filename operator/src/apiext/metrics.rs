//! The metrics of `nuncio apiext`.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::metrics::Process;

/// Cheap to clone: clones share their values.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    reviews: Family<ResultLabel, Counter>,
    objects: Family<ResultLabel, Counter>,
    duration: Histogram,
    expiry: Family<CertificateLabel, Gauge>,
    problem: Gauge,
    definitions: Family<StateLabel, Gauge>,
    leader: Gauge,
    connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

impl Metrics {
    /// Registers all of them; the registry is that of `/metrics`.
    pub(super) fn new() -> (Self, Arc<Registry>) {
        let metrics = Self {
            reviews: Family::default(),
            objects: Family::default(),
            duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            expiry: Family::default(),
            problem: Gauge::default(),
            definitions: Family::default(),
            leader: Gauge::default(),
            connections: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("nuncio");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of Nuncio", build);
        registry.register_collector(Box::new(Process));
        metrics.register(registry.sub_registry_with_prefix("apiext"));
        for result in ["converted", "failed", "rejected"] {
            let _ = metrics.reviews.get_or_create(&ResultLabel { result });
        }
        for result in ["converted", "failed"] {
            let _ = metrics.objects.get_or_create(&ResultLabel { result });
        }
        (metrics, Arc::new(registry))
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "reviews",
            "ConversionReviews, by result: converted, failed (an object could not be converted), rejected (no valid review)",
            self.reviews.clone(),
        );
        registry.register(
            "objects",
            "Objects of ConversionReviews, by the result of their review",
            self.objects.clone(),
        );
        registry.register_with_unit(
            "review_duration",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "certificate_not_after",
            "Expiry time of the certificate that is served, and of the authority that signed it",
            Unit::Seconds,
            self.expiry.clone(),
        );
        registry.register(
            "authority_problem",
            "1 while the certificate authority cannot be read or written; see the log",
            self.problem.clone(),
        );
        registry.register(
            "definitions",
            "CustomResourceDefinitions of getambassador.io with several versions, by state",
            self.definitions.clone(),
        );
        registry.register(
            "leader",
            "1 on the leader, the replica that writes the Secret and patches definitions; 0 elsewhere",
            self.leader.clone(),
        );
        registry.register(
            "connections",
            "Open connections to the webhook",
            self.connections.clone(),
        );
    }

    /// Counts a review with so many objects that was answered. A failure is one for all of them.
    pub(super) fn reviewed(&self, objects: usize, is_failure: bool, duration: Duration) {
        let result = if is_failure { "failed" } else { "converted" };
        self.reviews.get_or_create(&ResultLabel { result }).inc();
        self.objects
            .get_or_create(&ResultLabel { result })
            .inc_by(objects as u64);
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts a request that is no valid review.
    pub(super) fn rejected(&self) {
        let result = "rejected";
        self.reviews.get_or_create(&ResultLabel { result }).inc();
    }

    /// Sets when certificates expire.
    pub(super) fn certificates(&self, served: i64, authority: i64) {
        for (certificate, not_after) in [("served", served), ("authority", authority)] {
            self.expiry
                .get_or_create(&CertificateLabel { certificate })
                .set(not_after);
        }
    }

    /// Sets whether the authority cannot be read or written.
    pub(super) fn problem(&self, is_unusable: bool) {
        self.problem.set(i64::from(is_unusable));
    }

    /// Sets the number of definitions in this state.
    pub(super) fn definitions(&self, state: &'static str, number: usize) {
        self.definitions
            .get_or_create(&StateLabel { state })
            .set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Sets whether this replica leads.
    pub(super) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Sets the number of open connections.
    pub(super) fn connections(&self, number: usize) {
        self.connections
            .set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::metrics::tests::{documented, names};

    #[test]
    fn the_page_describes_every_metric_and_no_other() {
        let (metrics, registry) = Metrics::new();
        metrics.certificates(1, 1);
        metrics.definitions("called", 1);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let is_own = |name: &String| name.starts_with("nuncio_apiext_");
        let own = names(&text).into_iter().filter(is_own);
        let described = documented().into_iter().filter(is_own);
        assert!(own.eq(described), "{text}");
    }

    #[test]
    fn metrics_have_the_names_of_the_documentation() {
        let (metrics, registry) = Metrics::new();
        metrics.reviewed(2, false, Duration::from_millis(1));
        metrics.reviewed(1, true, Duration::from_millis(1));
        metrics.rejected();
        metrics.certificates(7, 8);
        metrics.definitions("called", 13);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "nuncio_apiext_reviews_total{result=\"failed\"} 1",
            "nuncio_apiext_reviews_total{result=\"rejected\"} 1",
            "nuncio_apiext_objects_total{result=\"converted\"} 2",
            "nuncio_apiext_review_duration_seconds_count 2",
            "nuncio_apiext_certificate_not_after_seconds{certificate=\"served\"} 7",
            "nuncio_apiext_definitions{state=\"called\"} 13",
            "nuncio_apiext_leader 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
