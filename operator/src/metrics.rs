//! Every metric of the operator, registered in one place and named by Prometheus' conventions. Labels have few values
//! and no object names, except for certificates. The xDS server registers its own metrics.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use nuncio_core::object::Kind;

/// The metrics of this process. Cheap to clone: clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Time from receiving a batch of changes to publishing the snapshot.
    pub build_duration: Histogram,
    /// Published snapshots.
    pub publishes: Counter,
    /// Changes received from sources.
    pub changes: Counter,
    /// Rendered units, whether or not the result differed.
    pub units_rendered: Counter,
    /// xDS resources that were added, replaced or removed.
    pub resources_changed: Counter,
    /// Objects that configure the gateway, by kind.
    pub objects: Family<KindLabel, Gauge>,
    /// Errors of lists and watches, by kind.
    pub watch_errors: Family<KindLabel, Counter>,
    /// Status writes, by result.
    pub status_writes: Family<ResultLabel, Counter>,
    /// Objects whose status is waiting to be written.
    pub status_pending: Gauge,
    /// Expiry times of certificates, by Secret.
    pub certificates: Family<SecretLabel, Gauge>,
    /// 1 on the leader, the replica that writes status.
    pub leader: Gauge,
}

/// `kind` of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

impl From<Kind> for KindLabel {
    fn from(kind: Kind) -> Self {
        Self { kind: kind.name() }
    }
}

/// `result` of a request: `ok`, `gone`, `conflict`, `error`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// The result.
    pub result: &'static str,
}

/// `secret` that a certificate is from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SecretLabel {
    /// As `namespace/name`.
    pub secret: String,
}

impl Metrics {
    /// Registers all metrics in `registry`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            build_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            publishes: Counter::default(),
            changes: Counter::default(),
            units_rendered: Counter::default(),
            resources_changed: Counter::default(),
            objects: Family::default(),
            watch_errors: Family::default(),
            status_writes: Family::default(),
            status_pending: Gauge::default(),
            certificates: Family::default(),
            leader: Gauge::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of Nuncio", build);
        registry.register_collector(Box::new(Process));
        registry.register_with_unit(
            "build_duration",
            "Time from receiving changes to publishing the snapshot",
            Unit::Seconds,
            metrics.build_duration.clone(),
        );
        registry.register(
            "publishes",
            "Published snapshots",
            metrics.publishes.clone(),
        );
        registry.register(
            "changes",
            "Changes received from the apiserver or from files",
            metrics.changes.clone(),
        );
        registry.register(
            "units_rendered",
            "Rendered units (an xDS resource each), whether or not the result differed",
            metrics.units_rendered.clone(),
        );
        registry.register(
            "resources_changed",
            "xDS resources added, replaced or removed by published snapshots",
            metrics.resources_changed.clone(),
        );
        registry.register_with_unit(
            "certificate_not_after",
            "Expiry time of a served certificate in seconds since the Unix epoch",
            Unit::Seconds,
            metrics.certificates.clone(),
        );
        registry.register(
            "objects",
            "Objects listed, by kind",
            metrics.objects.clone(),
        );
        registry.register(
            "watch_errors",
            "Failed list and watch requests, by kind",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "status_writes",
            "Status writes, by result",
            metrics.status_writes.clone(),
        );
        registry.register(
            "status_pending",
            "Objects whose status is waiting to be written",
            metrics.status_pending.clone(),
        );
        registry.register(
            "leader",
            "1 on the leader, the replica that writes status; 0 elsewhere",
            metrics.leader.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts a published snapshot.
    pub fn published(&self, duration: std::time::Duration, rendered: usize) {
        self.build_duration.observe(duration.as_secs_f64());
        self.publishes.inc();
        self.units_rendered.inc_by(rendered as u64);
    }

    /// Sets or removes the expiry time of a certificate.
    pub fn certificate(&self, secret: &str, not_after: Option<i64>) {
        let label = SecretLabel {
            secret: secret.to_owned(),
        };
        match not_after {
            Some(seconds) => {
                self.certificates.get_or_create(&label).set(seconds);
            }
            None => {
                self.certificates.remove(&label);
            }
        }
    }

    /// Sets the number of objects of a kind.
    pub fn count_objects(&self, kind: Kind, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.objects.get_or_create(&kind.into()).set(number);
    }

    /// Counts a failed list or watch request.
    pub fn count_watch_error(&self, kind: Kind) {
        self.watch_errors.get_or_create(&kind.into()).inc();
    }

    /// Counts a status write.
    pub fn count_status_write(&self, result: &'static str) {
        self.status_writes
            .get_or_create(&ResultLabel { result })
            .inc();
    }
}

/// Metrics that nothing reads, for commands without `/metrics` and for tests.
impl Default for Metrics {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// CPU time and memory of this process, named as in Prometheus clients, after the prefix.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|s| cpu(&s))
        {
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(
                "process_cpu",
                "User and system CPU time of this process",
                Some(&Unit::Seconds),
                counter.metric_type(),
            )?)?;
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|s| rss(&s))
        {
            let gauge = ConstGauge::new(bytes);
            gauge.encode(encoder.encode_descriptor(
                "process_resident_memory",
                "Resident memory of this process",
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// User and system CPU seconds from the text of `/proc/PID/stat`.
#[expect(clippy::cast_precision_loss, reason = "exact for millions of years")]
fn cpu(stat: &str) -> Option<f64> {
    // the second field is the program's name in parentheses and may contain spaces and parentheses
    let (_name, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident bytes from the text of `/proc/PID/status`.
fn rss(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_names_that_dashboards_expect() {
        let mut registry = Registry::with_prefix("nuncio");
        let metrics = Metrics::new(&mut registry);
        metrics.publishes.inc();
        metrics
            .watch_errors
            .get_or_create(&Kind::Mapping.into())
            .inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "nuncio_publishes_total 1",
            "nuncio_watch_errors_total{kind=\"Mapping\"} 1",
            "# TYPE nuncio_build_duration_seconds histogram",
            "# TYPE nuncio_process_cpu_seconds counter",
            "\nnuncio_build_info{version=",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(cpu(stat).map(|seconds| seconds * ticks as f64), Some(200.0));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2_097_152));
        assert_eq!(rss("Name:\tx\n"), None);
    }
}
