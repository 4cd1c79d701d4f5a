//! Metrics of each fleet that a process serves: with the label `fleet` if there are several, and without a label if there is
//! one, so that a dashboard for one fleet needs no label.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder},
    metrics::{MetricType, TypedMetric},
};

/// Name of the label.
const LABEL: &str = "fleet";

/// The label; no label by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetLabel(Option<Arc<str>>);

impl FleetLabel {
    /// That of the fleet with this name.
    #[must_use]
    pub fn of(fleet: &str) -> Self {
        Self(Some(fleet.into()))
    }

    /// Name of the fleet, if there are several.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl EncodeLabelSet for FleetLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        match &self.0 {
            Some(fleet) => [(LABEL, fleet.as_ref())].encode(encoder),
            None => Ok(()),
        }
    }
}

/// A metric of each fleet. Cheap to clone: clones share their values.
#[derive(Debug)]
pub struct PerFleet<M> {
    metrics: Arc<Mutex<BTreeMap<FleetLabel, M>>>,
    new: fn() -> M,
}

impl<M> Clone for PerFleet<M> {
    fn clone(&self) -> Self {
        Self {
            metrics: self.metrics.clone(),
            new: self.new,
        }
    }
}

impl<M: Clone> PerFleet<M> {
    /// No fleet yet; `new` makes the metric of one.
    #[must_use]
    pub fn new(new: fn() -> M) -> Self {
        Self {
            metrics: Arc::default(),
            new,
        }
    }

    /// The metric of a fleet. One with a label takes the place of the one without.
    #[must_use]
    pub fn of(&self, fleet: &FleetLabel) -> M {
        let mut metrics = self.lock();
        if fleet.0.is_some() {
            metrics.remove(&FleetLabel::default());
        }
        let metric = metrics.entry(fleet.clone()).or_insert_with(self.new);
        metric.clone()
    }
}

impl<M> PerFleet<M> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<FleetLabel, M>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for PerFleet<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (fleet, metric) in &*self.lock() {
            if fleet.0.is_none() {
                // a family without labels would have empty braces
                return metric.encode(encoder);
            }
            metric.encode(encoder.encode_family(fleet)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, metrics::counter::Counter, registry::Registry};

    use super::*;

    fn text_of(metric: &PerFleet<Counter>) -> String {
        let mut registry = Registry::default();
        registry.register("changes", "Changes", metric.clone());
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn one_fleet_has_no_label_and_several_have_one_each() {
        let metric = PerFleet::<Counter>::new(Counter::default);
        metric.of(&FleetLabel::default()).inc();
        let plain = PerFleet::<Counter>::new(Counter::default);
        plain.of(&FleetLabel::default()).inc();
        let mut registry = Registry::default();
        registry.register(
            "changes",
            "Changes",
            plain.of(&FleetLabel::default()).clone(),
        );
        let mut expected = String::new();
        text::encode(&mut expected, &registry).unwrap();
        assert_eq!(text_of(&metric), expected);
        metric.of(&FleetLabel::of("b")).inc();
        metric.of(&FleetLabel::of("a")).inc_by(2);
        let text = text_of(&metric);
        let values: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("changes"))
            .collect();
        assert_eq!(
            values,
            [
                r#"changes_total{fleet="a"} 2"#,
                r#"changes_total{fleet="b"} 1"#
            ]
        );
    }
}
