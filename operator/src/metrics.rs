//! Every metric of the cluster side, registered in one place and named as Prometheus names them. Labels have few
//! values, never object names. The xDS server registers its own beside them.

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

/// The metrics of this process. Cheap to clone: clones count into the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Time from taking a batch of changes to handing the difference to the xDS server.
    pub build_duration: Histogram,
    /// Snapshots handed to the xDS server.
    pub publishes: Counter,
    /// Changes of the input that were taken.
    pub changes: Counter,
    /// Units that were rendered, whether or not the result differed.
    pub units_rendered: Counter,
    /// xDS resources that differed and were published.
    pub resources_changed: Counter,
    /// Objects that configure the gateway, by kind.
    pub objects: Family<KindLabel, Gauge>,
    /// Errors of lists and watches, by kind.
    pub watch_errors: Family<KindLabel, Counter>,
    /// Status writes, by result.
    pub status_writes: Family<ResultLabel, Counter>,
    /// Objects whose status waits to be written.
    pub status_pending: Gauge,
    /// When certificates expire, by Secret.
    pub certificates: Family<SecretLabel, Gauge>,
    /// 1 on the replica that writes status.
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
    /// What came of it.
    pub result: &'static str,
}

/// Which Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SecretLabel {
    /// As `namespace/name`.
    pub secret: String,
}

impl Metrics {
    /// Registers everything in `registry`.
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
        registry.register("nuncio_build", "This build of Nuncio", build);
        registry.register_collector(Box::new(Process));
        registry.register_with_unit(
            "build_duration",
            "Time from taking changes to handing the difference to the xDS server",
            Unit::Seconds,
            metrics.build_duration.clone(),
        );
        registry.register(
            "publishes",
            "Snapshots published",
            metrics.publishes.clone(),
        );
        registry.register("changes", "Changes of the input", metrics.changes.clone());
        registry.register(
            "units_rendered",
            "Units rendered",
            metrics.units_rendered.clone(),
        );
        registry.register(
            "resources_changed",
            "xDS resources that were published because they differed",
            metrics.resources_changed.clone(),
        );
        registry.register_with_unit(
            "certificate_not_after",
            "When a certificate that is served expires, in seconds since 1970",
            Unit::Seconds,
            metrics.certificates.clone(),
        );
        registry.register("objects", "Objects by kind", metrics.objects.clone());
        registry.register(
            "watch_errors",
            "Failed lists and watches by kind",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "status_writes",
            "Status writes by result",
            metrics.status_writes.clone(),
        );
        registry.register(
            "status_pending",
            "Objects whose status waits to be written",
            metrics.status_pending.clone(),
        );
        registry.register(
            "leader",
            "1 on the replica that writes status",
            metrics.leader.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// A snapshot was handed over.
    pub fn published(&self, duration: std::time::Duration, rendered: usize) {
        self.build_duration.observe(duration.as_secs_f64());
        self.publishes.inc();
        self.units_rendered.inc_by(rendered as u64);
    }

    /// A certificate came, changed or went.
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

    /// A kind was listed.
    pub fn count_objects(&self, kind: Kind, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.objects.get_or_create(&kind.into()).set(number);
    }

    /// A list or a watch failed.
    pub fn count_watch_error(&self, kind: Kind) {
        self.watch_errors.get_or_create(&kind.into()).inc();
    }

    /// A status was written, or not.
    pub fn count_status_write(&self, result: &'static str) {
        self.status_writes
            .get_or_create(&ResultLabel { result })
            .inc();
    }
}

/// Metrics that count into nothing, for commands without a `/metrics` and for tests.
impl Default for Metrics {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// CPU time and memory of this process, under the names that every Prometheus client uses for them.
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
                "CPU time of this process",
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
                "Memory of this process",
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// User and system CPU seconds from the text of `/proc/PID/stat`.
#[expect(
    clippy::cast_precision_loss,
    reason = "ticks fit for some million years"
)]
fn cpu(stat: &str) -> Option<f64> {
    // the second field, the program's name in parentheses, may hold anything
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
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.publishes.inc();
        metrics
            .watch_errors
            .get_or_create(&Kind::Mapping.into())
            .inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "publishes_total 1",
            "watch_errors_total{kind=\"Mapping\"} 1",
            "# TYPE build_duration_seconds histogram",
            "# TYPE process_cpu_seconds counter",
            "nuncio_build_info{version=",
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
