//! Metrics of the ADS server. Labels are types, kinds and, if there are several, fleets; never names of resources or nodes.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::{connection::RequestKind, subscription::Nack};
use crate::{
    ResourceType,
    fleet::Protocol,
    per_fleet::{FleetLabel, PerFleet},
};

/// Metrics of the ADS server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    streams: Family<Of<ProtocolLabel>, Gauge>,
    requests: Family<Of<RequestLabels>, Counter>,
    pushes: Family<Of<TypeLabel>, Counter>,
    push_bytes: Family<Of<TypeLabel>, Counter>,
    resources: Family<Of<TypeLabel>, Counter>,
    nacks: Family<Of<TypeLabel>, Counter>,
    rejected: Family<Of<TypeLabel>, Gauge>,
    ack_time: Family<Of<TypeLabel>, Histogram>,
    convergence: PerFleet<Histogram>,
    /// The fleet of these, if there are several.
    fleet: FleetLabel,
    converged: Histogram,
    rejected_streams: Family<ReasonLabel, Counter>,
}

/// A label, and that of the fleet.
type Of<L> = (L, FleetLabel);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabel {
    proto: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    r#type: &'static str,
    kind: &'static str,
}

impl Metrics {
    /// Metrics that are registered in `registry`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let convergence = PerFleet::new(times);
        let metrics = Self {
            streams: Family::default(),
            requests: Family::default(),
            pushes: Family::default(),
            push_bytes: Family::default(),
            resources: Family::default(),
            nacks: Family::default(),
            rejected: Family::default(),
            ack_time: Family::new_with_constructor(times),
            converged: convergence.of(&FleetLabel::default()),
            convergence,
            fleet: FleetLabel::default(),
            rejected_streams: Family::default(),
        };
        registry.register("xds_streams", "Open streams", metrics.streams.clone());
        registry.register(
            "xds_requests",
            "Requests received",
            metrics.requests.clone(),
        );
        registry.register("xds_pushes", "Responses sent", metrics.pushes.clone());
        registry.register(
            "xds_push_bytes",
            "Size of responses sent, in bytes",
            metrics.push_bytes.clone(),
        );
        registry.register(
            "xds_response_resources",
            "Resources and removals in responses sent",
            metrics.resources.clone(),
        );
        registry.register(
            "xds_nacks",
            "Responses rejected by clients, without Listeners that are sent again",
            metrics.nacks.clone(),
        );
        registry.register(
            "xds_rejected_resources",
            "Resources whose current version is rejected, summed over connected clients",
            metrics.rejected.clone(),
        );
        registry.register(
            "xds_ack_seconds",
            "Time from sending a response to its acknowledgement, in seconds",
            metrics.ack_time.clone(),
        );
        registry.register(
            "xds_convergence_seconds",
            "Time from a snapshot to its complete acknowledgement by an Envoy, in seconds",
            metrics.convergence.clone(),
        );
        registry.register(
            "xds_rejected_streams",
            "Streams rejected because of who the peer is",
            metrics.rejected_streams.clone(),
        );
        metrics
    }

    /// The same, of one of several fleets.
    #[must_use]
    pub fn of_fleet(&self, fleet: &str) -> Self {
        let fleet = FleetLabel::of(fleet);
        Self {
            converged: self.convergence.of(&fleet),
            fleet,
            ..self.clone()
        }
    }

    /// The fleet of these, if there are several.
    pub(super) fn fleet(&self) -> Option<&str> {
        self.fleet.name()
    }

    /// A label, and that of the fleet.
    fn of<L>(&self, label: L) -> Of<L> {
        (label, self.fleet.clone())
    }

    pub(super) fn rejected_stream(&self, reason: &'static str) {
        self.rejected_streams
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    pub(super) fn stream(&self, protocol: Protocol, opened: bool) {
        let proto = match protocol {
            Protocol::Sotw => "sotw",
            Protocol::Delta => "delta",
        };
        let streams = self
            .streams
            .get_or_create(&self.of(ProtocolLabel { proto }));
        if opened {
            streams.inc();
        } else {
            streams.dec();
        }
    }

    /// A stream of these becomes one of other metrics, if those are of another fleet.
    pub(super) fn move_stream(&self, protocol: Protocol, to: &Self) {
        if self.fleet != to.fleet {
            self.stream(protocol, false);
            to.stream(protocol, true);
        }
    }

    pub(super) fn request(&self, kind: Option<ResourceType>, request: RequestKind) {
        let labels = RequestLabels {
            r#type: kind.map_or("unknown", name),
            kind: match request {
                RequestKind::Subscribe => "interest",
                RequestKind::Ack { .. } => "ack",
                RequestKind::Nack(_) => "nack",
                RequestKind::Stale => "stale",
                RequestKind::Unknown => "unknown",
            },
        };
        let label = self.of(TypeLabel {
            r#type: labels.r#type,
        });
        self.requests.get_or_create(&self.of(labels)).inc();
        match request {
            RequestKind::Ack { sent } => {
                let time = sent.elapsed().as_secs_f64();
                self.ack_time.get_or_create(&label).observe(time);
            }
            RequestKind::Nack(Nack::New) => drop(self.nacks.get_or_create(&label).inc()),
            RequestKind::Nack(Nack::Again)
            | RequestKind::Subscribe
            | RequestKind::Stale
            | RequestKind::Unknown => {}
        }
    }

    pub(super) fn push(&self, kind: ResourceType, resources: usize, bytes: usize) {
        let label = self.of(TypeLabel { r#type: name(kind) });
        self.pushes.get_or_create(&label).inc();
        self.push_bytes.get_or_create(&label).inc_by(bytes as u64);
        self.resources
            .get_or_create(&label)
            .inc_by(resources as u64);
    }

    /// The number of resources that a stream's client rejects changes from `before` to `after`.
    pub(super) fn rejected(&self, kind: ResourceType, before: usize, after: usize) {
        if before != after {
            let difference = after as i64 - before as i64;
            let label = self.of(TypeLabel { r#type: name(kind) });
            self.rejected.get_or_create(&label).inc_by(difference);
        }
    }

    pub(super) fn converged(&self, seconds: f64) {
        self.converged.observe(seconds);
    }
}

fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

const fn name(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Cluster => "cds",
        ResourceType::Endpoints => "eds",
        ResourceType::Secret => "sds",
        ResourceType::Filter => "ecds",
        ResourceType::Listener => "lds",
        ResourceType::Scope => "srds",
        ResourceType::RouteTable => "rds",
    }
}
