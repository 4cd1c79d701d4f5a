//! Every metric of the operator, registered in one place and named by Prometheus' conventions. Labels have few values
//! and no object names; those of a fleet have the label `fleet` if the process serves several. The page
//! `config/METRICS.md` describes each of them. The xDS server registers its own metrics.

use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{Arc, Mutex, PoisonError},
};

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

use nuncio_core::{
    object::Kind,
    store::{ServedCertificate, Validity},
};
use nuncio_xds::per_fleet::{FleetLabel, PerFleet};

/// The metrics of this process. Cheap to clone: clones share their values.
///
/// Some are of one fleet: see [`Metrics::of_fleet`].
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The metrics of all fleets.
    fleets: PerFleets,
    /// The fleet of these, if there are several.
    fleet: FleetLabel,
    /// Time from receiving a batch of changes to publishing the snapshot.
    pub build_duration: Histogram,
    /// Time from receiving a change to publishing it.
    pub change_published: Histogram,
    /// Time from receiving a change to its acknowledgement by all Envoys.
    pub change_acknowledged: Histogram,
    /// Published snapshots.
    pub publishes: Counter,
    /// Changes received from sources.
    pub changes: Counter,
    /// Rendered units, whether or not the result differed.
    pub units_rendered: Counter,
    /// Objects of the apiserver, by kind.
    objects: Family<KindLabel, Gauge>,
    /// Errors of lists and watches, by kind.
    pub watch_errors: Family<KindLabel, Counter>,
    /// 1 for each resource that the apiserver does not permit to use as needed.
    missing_permissions: Family<PermissionLabel, Gauge>,
    /// Resources that Envoys rejected, and of which the last good version is served.
    pub quarantined: Gauge,
    /// Services of Consul that are watched.
    pub consul_services: Gauge,
    /// Of these, those whose agent fails.
    pub consul_failing: Gauge,
    /// Definitions whose stored objects are not converted.
    unconverted: Gauge,
    /// Status writes, by result.
    pub status_writes: Family<ResultLabel, Counter>,
    /// Objects whose status is waiting to be written.
    pub status_pending: Gauge,
    /// Objects whose status another installation writes.
    pub status_yielded: Gauge,
    /// Served certificates.
    certificates: Gauge,
    /// Of these, those that expire soon.
    certificates_expiring: Gauge,
    /// Of these, those that have expired.
    certificates_expired: Gauge,
    /// Of these, those whose Secret has become invalid since.
    certificates_kept: Gauge,
    /// Earliest expiry time of the served certificates; no value without certificates.
    earliest_expiry: Family<FleetLabel, Gauge>,
    /// The served certificates, by Secret.
    served: Arc<Mutex<BTreeMap<String, ServedCertificate>>>,
    /// 1 on the leader, the replica that writes status.
    pub leader: Gauge,
    /// Requests for certificates, by result.
    certificate_requests: Family<ResultLabel, Counter>,
    /// 1 while the certificate authority cannot be read or written.
    identity_problem: Gauge,
    /// When the certificate authority that signs expires; no value without one.
    authority_expiry: Family<Vec<(&'static str, &'static str)>, Gauge>,
}

/// The metrics that each fleet has.
#[derive(Clone, Debug)]
struct PerFleets {
    build_duration: PerFleet<Histogram>,
    change_published: PerFleet<Histogram>,
    change_acknowledged: PerFleet<Histogram>,
    publishes: PerFleet<Counter>,
    changes: PerFleet<Counter>,
    units_rendered: PerFleet<Counter>,
    quarantined: PerFleet<Gauge>,
    consul_services: PerFleet<Gauge>,
    consul_failing: PerFleet<Gauge>,
    certificates: PerFleet<Gauge>,
    certificates_expiring: PerFleet<Gauge>,
    certificates_expired: PerFleet<Gauge>,
    certificates_kept: PerFleet<Gauge>,
}

impl PerFleets {
    fn new() -> Self {
        let counter = || PerFleet::new(Counter::default);
        let gauge = || PerFleet::new(Gauge::default);
        Self {
            build_duration: PerFleet::new(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 16))),
            change_published: PerFleet::new(|| {
                Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
            }),
            change_acknowledged: PerFleet::new(|| {
                Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
            }),
            publishes: counter(),
            changes: counter(),
            units_rendered: counter(),
            quarantined: gauge(),
            consul_services: gauge(),
            consul_failing: gauge(),
            certificates: gauge(),
            certificates_expiring: gauge(),
            certificates_expired: gauge(),
            certificates_kept: gauge(),
        }
    }
}

/// `kind` of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

impl From<Kind> for KindLabel {
    fn from(kind: Kind) -> Self {
        Self { kind: kind.title() }
    }
}

/// `resource` of the API, as permissions name it, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct PermissionLabel {
    resource: String,
    purpose: &'static str,
}

/// `result` of a request: `ok`, `gone`, `conflict`, `throttled`, `error`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// The result.
    pub result: &'static str,
}

impl Metrics {
    /// Registers all metrics in `registry`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let (fleets, fleet) = (PerFleets::new(), FleetLabel::default());
        let metrics = Self {
            build_duration: fleets.build_duration.of(&fleet),
            change_published: fleets.change_published.of(&fleet),
            change_acknowledged: fleets.change_acknowledged.of(&fleet),
            publishes: fleets.publishes.of(&fleet),
            changes: fleets.changes.of(&fleet),
            units_rendered: fleets.units_rendered.of(&fleet),
            objects: Family::default(),
            watch_errors: Family::default(),
            missing_permissions: Family::default(),
            unconverted: Gauge::default(),
            quarantined: fleets.quarantined.of(&fleet),
            consul_services: fleets.consul_services.of(&fleet),
            consul_failing: fleets.consul_failing.of(&fleet),
            status_writes: Family::default(),
            status_pending: Gauge::default(),
            status_yielded: Gauge::default(),
            certificates: fleets.certificates.of(&fleet),
            certificates_expiring: fleets.certificates_expiring.of(&fleet),
            certificates_expired: fleets.certificates_expired.of(&fleet),
            certificates_kept: fleets.certificates_kept.of(&fleet),
            earliest_expiry: Family::default(),
            served: Arc::default(),
            leader: Gauge::default(),
            certificate_requests: Family::default(),
            identity_problem: Gauge::default(),
            authority_expiry: Family::default(),
            fleets,
            fleet,
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of Nuncio", build);
        registry.register_collector(Box::new(Process));
        let of_fleets = &metrics.fleets;
        registry.register_with_unit(
            "build_duration",
            "Time from receiving changes to publishing the snapshot",
            Unit::Seconds,
            of_fleets.build_duration.clone(),
        );
        registry.register(
            "publishes",
            "Published snapshots",
            of_fleets.publishes.clone(),
        );
        registry.register(
            "changes",
            "Changes received from the apiserver or from files",
            of_fleets.changes.clone(),
        );
        registry.register(
            "units_rendered",
            "Rendered units (an xDS resource each), whether or not the result differed",
            of_fleets.units_rendered.clone(),
        );
        registry.register(
            "quarantined_resources",
            "Resources that Envoys rejected, and of which the last good version is served",
            of_fleets.quarantined.clone(),
        );
        registry.register(
            "consul_services",
            "Watched services of Consul",
            of_fleets.consul_services.clone(),
        );
        registry.register(
            "consul_failing",
            "Of these, those whose Consul agent fails; known addresses are kept",
            of_fleets.consul_failing.clone(),
        );
        metrics.register_changes(registry);
        metrics.register_certificates(registry);
        metrics.register_of_cluster(registry);
        metrics
    }

    /// Registers the metrics about how long changes take.
    fn register_changes(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "change_published",
            "Time from receiving a change to publishing the snapshot with it; the first of several that are published together",
            Unit::Seconds,
            self.fleets.change_published.clone(),
        );
        registry.register_with_unit(
            "change_acknowledged",
            "Time from receiving a change until all connected Envoys have acknowledged or rejected it, or have disconnected",
            Unit::Seconds,
            self.fleets.change_acknowledged.clone(),
        );
    }

    /// Registers the metrics about certificates.
    fn register_certificates(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "certificate_earliest_not_after",
            "Earliest expiry time of the served certificates, in seconds since the Unix epoch",
            Unit::Seconds,
            self.earliest_expiry.clone(),
        );
        registry.register(
            "certificates",
            "Served certificates",
            self.fleets.certificates.clone(),
        );
        registry.register(
            "certificates_expiring",
            "Served certificates that expire soon",
            self.fleets.certificates_expiring.clone(),
        );
        registry.register(
            "certificates_expired",
            "Served certificates that have expired",
            self.fleets.certificates_expired.clone(),
        );
        registry.register(
            "certificates_kept",
            "Served certificates whose Secret has become invalid since",
            self.fleets.certificates_kept.clone(),
        );
    }

    /// Registers the metrics about the apiserver and about status.
    fn register_of_cluster(&self, registry: &mut Registry) {
        registry.register(
            "objects",
            "Objects of the apiserver that this process knows, by kind",
            self.objects.clone(),
        );
        registry.register(
            "watch_errors",
            "Failed list and watch requests, by kind",
            self.watch_errors.clone(),
        );
        registry.register(
            "missing_permissions",
            "1 for each resource of the API that this process lacks a permission for, by what it is needed for",
            self.missing_permissions.clone(),
        );
        registry.register(
            "unconverted_definitions",
            "CustomResourceDefinitions with objects in an older version and conversion strategy None; they are read with wrong fields",
            self.unconverted.clone(),
        );
        registry.register(
            "status_writes",
            "Status writes, by result",
            self.status_writes.clone(),
        );
        registry.register(
            "status_pending",
            "Objects whose status is waiting to be written",
            self.status_pending.clone(),
        );
        registry.register(
            "status_yielded",
            "Objects whose status another installation with the same ambassador_id writes",
            self.status_yielded.clone(),
        );
        registry.register(
            "leader",
            "1 on the leader, the replica that writes status; 0 elsewhere",
            self.leader.clone(),
        );
        registry.register(
            "identity_requests",
            "Requests for certificates of Envoys, by result",
            self.certificate_requests.clone(),
        );
        registry.register(
            "identity_problem",
            "1 while the certificate authority of xDS cannot be read or written; see the log",
            self.identity_problem.clone(),
        );
        registry.register_with_unit(
            "identity_authority_not_after",
            "Expiry time of the certificate authority that signs for xDS, in seconds since the Unix epoch",
            Unit::Seconds,
            self.authority_expiry.clone(),
        );
    }
}

impl Metrics {
    /// Those of one of several fleets, for what it publishes and queries; others are those of the process.
    #[must_use]
    pub fn of_fleet(&self, id: &str) -> Self {
        let (fleets, fleet) = (&self.fleets, FleetLabel::of(id));
        Self {
            build_duration: fleets.build_duration.of(&fleet),
            change_published: fleets.change_published.of(&fleet),
            change_acknowledged: fleets.change_acknowledged.of(&fleet),
            publishes: fleets.publishes.of(&fleet),
            changes: fleets.changes.of(&fleet),
            units_rendered: fleets.units_rendered.of(&fleet),
            quarantined: fleets.quarantined.of(&fleet),
            consul_services: fleets.consul_services.of(&fleet),
            consul_failing: fleets.consul_failing.of(&fleet),
            certificates: fleets.certificates.of(&fleet),
            certificates_expiring: fleets.certificates_expiring.of(&fleet),
            certificates_expired: fleets.certificates_expired.of(&fleet),
            certificates_kept: fleets.certificates_kept.of(&fleet),
            served: Arc::default(),
            fleet,
            ..self.clone()
        }
    }

    /// Counts a published snapshot.
    pub fn published(&self, duration: std::time::Duration, rendered: usize) {
        self.build_duration.observe(duration.as_secs_f64());
        self.publishes.inc();
        self.units_rendered.inc_by(rendered as u64);
    }

    /// Sets or removes the certificates of these Secrets.
    pub fn count_certificates<'a>(
        &self,
        changed: impl Iterator<Item = (&'a str, Option<ServedCertificate>)>,
    ) {
        let mut all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        for (secret, certificate) in changed {
            match certificate {
                Some(certificate) => all.insert(secret.to_owned(), certificate),
                None => all.remove(secret),
            };
        }
        let count = |is_counted: fn(&ServedCertificate) -> bool| {
            let number = all.values().filter(|served| is_counted(served)).count();
            i64::try_from(number).unwrap_or(i64::MAX)
        };
        self.certificates.set(count(|_| true));
        let expiring = count(|served| served.validity == Validity::ExpiresSoon);
        self.certificates_expiring.set(expiring);
        let expired = count(|served| served.validity == Validity::Expired);
        self.certificates_expired.set(expired);
        self.certificates_kept.set(count(|served| served.is_kept));
        match all.values().map(|served| served.not_after).min() {
            Some(first) => {
                self.earliest_expiry.get_or_create(&self.fleet).set(first);
            }
            None => {
                self.earliest_expiry.remove(&self.fleet);
            }
        }
    }

    /// Sets the number of objects of a kind.
    pub fn count_objects(&self, kind: Kind, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.objects.get_or_create(&kind.into()).set(number);
    }

    /// The number of objects of a kind.
    #[must_use]
    pub fn objects(&self, kind: Kind) -> i64 {
        self.objects.get_or_create(&kind.into()).get()
    }

    /// Counts a failed list or watch request.
    pub fn count_watch_error(&self, kind: Kind) {
        self.watch_errors.get_or_create(&kind.into()).inc();
    }

    /// Sets whether a permission for a resource is missing.
    pub fn missing_permission(&self, resource: &str, purpose: &'static str, is_missing: bool) {
        let label = PermissionLabel {
            resource: resource.to_owned(),
            purpose,
        };
        if is_missing {
            self.missing_permissions.get_or_create(&label).set(1);
        } else {
            self.missing_permissions.remove(&label);
        }
    }

    /// Whether a permission for a resource is missing.
    #[must_use]
    pub fn misses_permission(&self, resource: &str, purpose: &'static str) -> bool {
        let label = PermissionLabel {
            resource: resource.to_owned(),
            purpose,
        };
        self.missing_permissions.get(&label).is_some()
    }

    /// Sets the number of definitions whose stored objects are not converted.
    pub fn unconverted_definitions(&self, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.unconverted.set(number);
    }

    /// Counts a request for a certificate.
    pub fn count_certificate_request(&self, result: &'static str) {
        self.certificate_requests
            .get_or_create(&ResultLabel { result })
            .inc();
    }

    /// Sets whether the certificate authority of xDS cannot be read or written.
    pub fn identity_problem(&self, is_unusable: bool) {
        self.identity_problem.set(i64::from(is_unusable));
    }

    /// Sets when the certificate authority of xDS expires.
    pub fn identity_authority(&self, not_after: i64) {
        self.authority_expiry
            .get_or_create(&Vec::new())
            .set(not_after);
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
pub(crate) struct Process;

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
pub(crate) mod tests {
    use std::collections::BTreeSet;

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
    fn what_a_fleet_does_has_its_label_if_there_are_several() {
        let mut registry = Registry::with_prefix("nuncio");
        let metrics = Metrics::new(&mut registry);
        let (a, b) = (metrics.of_fleet("a"), metrics.of_fleet("b"));
        a.published(std::time::Duration::ZERO, 3);
        b.quarantined.set(1);
        let certificate = served(7, Validity::Valid, false);
        b.count_certificates([("default/c", Some(certificate))].into_iter());
        a.count_certificates([("default/c", None)].into_iter());
        metrics.count_objects(Kind::Mapping, 2);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "nuncio_publishes_total{fleet=\"a\"} 1",
            "nuncio_publishes_total{fleet=\"b\"} 0",
            "nuncio_units_rendered_total{fleet=\"a\"} 3",
            "nuncio_build_duration_seconds_count{fleet=\"a\"} 1",
            "nuncio_quarantined_resources{fleet=\"b\"} 1",
            "nuncio_certificates{fleet=\"a\"} 0",
            "nuncio_certificates{fleet=\"b\"} 1",
            "nuncio_certificate_earliest_not_after_seconds{fleet=\"b\"} 7",
            "nuncio_objects{kind=\"Mapping\"} 2",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
        assert!(!text.contains("nuncio_publishes_total "), "{text}");
    }

    /// Names in the form of `/metrics`, without the suffixes of histograms.
    pub(crate) fn names(text: &str) -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| {
                let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
                let suffix = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                Some(format!("{name}{suffix}"))
            })
            .collect()
    }

    /// The names in the tables of `config/METRICS.md`.
    pub(crate) fn documented() -> BTreeSet<String> {
        include_str!("../../config/METRICS.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    #[test]
    fn the_page_describes_every_metric_and_no_other() {
        let mut registry = Registry::with_prefix("nuncio");
        let metrics = Metrics::new(&mut registry);
        metrics.count_objects(Kind::Mapping, 1);
        metrics.count_watch_error(Kind::Mapping);
        metrics.count_status_write("ok");
        metrics.count_certificate_request("signed");
        metrics.identity_authority(1);
        metrics.missing_permission("leases", "test", true);
        let certificate = served(1, Validity::Valid, false);
        metrics.count_certificates([("default/a", Some(certificate))].into_iter());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let own: BTreeSet<String> = documented()
            .into_iter()
            .filter(|name| {
                let others = ["nuncio_xds_", "nuncio_envoy_", "nuncio_apiext_"];
                !others.iter().any(|other| name.starts_with(other))
            })
            .collect();
        assert_eq!(names(&text), own);
    }

    #[test]
    fn the_page_describes_the_metrics_of_the_xds_server() {
        let mut registry = Registry::with_prefix("nuncio");
        let _metrics = nuncio_xds::ads::Metrics::new(&mut registry);
        let registered = format!("{registry:?}");
        for name in documented() {
            let Some(short) = name.strip_prefix("nuncio_") else {
                panic!("{name} has another prefix");
            };
            let short = short.trim_end_matches("_total");
            assert!(
                !short.starts_with("xds_") || registered.contains(&format!("\"{short}\"")),
                "{name} is not registered"
            );
        }
        // those without labels, which have a value from the start
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in names(&text) {
            assert!(documented().contains(&name), "{name} is not described");
        }
    }

    fn served(not_after: i64, validity: Validity, is_kept: bool) -> ServedCertificate {
        ServedCertificate {
            not_after,
            validity,
            is_kept,
        }
    }

    #[test]
    fn certificates_are_counted_and_the_first_to_expire_is_shown() {
        let metrics = Metrics::default();
        let counts = || {
            let earliest = metrics.earliest_expiry.get(&FleetLabel::default());
            (
                metrics.certificates.get(),
                metrics.certificates_expiring.get(),
                metrics.certificates_expired.get(),
                metrics.certificates_kept.get(),
                earliest.map(|gauge| gauge.get()),
            )
        };
        let set = |name, certificate| {
            metrics.count_certificates([(name, certificate)].into_iter());
        };
        assert_eq!(counts(), (0, 0, 0, 0, None));
        set("a", Some(served(20, Validity::ExpiresSoon, false)));
        set("b", Some(served(10, Validity::Expired, true)));
        assert_eq!(counts(), (2, 1, 1, 1, Some(10)));
        set("b", Some(served(30, Validity::Valid, false)));
        assert_eq!(counts(), (2, 1, 0, 0, Some(20)));
        set("a", None);
        assert_eq!(counts(), (1, 0, 0, 0, Some(30)));
        set("b", None);
        assert_eq!(counts(), (0, 0, 0, 0, None));
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
