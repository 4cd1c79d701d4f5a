//! Counters of the ADS server. Labels are types and kinds, never names of resources or nodes.

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

use super::connection::RequestKind;
use crate::{ResourceType, fleet::Protocol};

/// Counters of the ADS server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    streams: Family<ProtocolLabel, Gauge>,
    requests: Family<RequestLabels, Counter>,
    pushes: Family<TypeLabel, Counter>,
    push_bytes: Family<TypeLabel, Counter>,
    resources: Family<TypeLabel, Counter>,
    convergence: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabel {
    proto: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    r#type: &'static str,
    kind: &'static str,
}

impl Metrics {
    /// Registers everything in `registry`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            streams: Family::default(),
            requests: Family::default(),
            pushes: Family::default(),
            push_bytes: Family::default(),
            resources: Family::default(),
            convergence: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
        };
        registry.register(
            "xds_streams",
            "Streams that are open",
            metrics.streams.clone(),
        );
        registry.register(
            "xds_requests",
            "Requests of clients",
            metrics.requests.clone(),
        );
        registry.register("xds_pushes", "Responses sent", metrics.pushes.clone());
        registry.register(
            "xds_push_bytes",
            "Size of the responses sent, in bytes",
            metrics.push_bytes.clone(),
        );
        registry.register(
            "xds_response_resources",
            "Resources and removals in the responses sent",
            metrics.resources.clone(),
        );
        registry.register(
            "xds_convergence_seconds",
            "Time from a snapshot to its acknowledgement by an Envoy, in seconds",
            metrics.convergence.clone(),
        );
        metrics
    }

    pub(super) fn stream(&self, protocol: Protocol, opened: bool) {
        let proto = match protocol {
            Protocol::Sotw => "sotw",
            Protocol::Delta => "delta",
        };
        let streams = self.streams.get_or_create(&ProtocolLabel { proto });
        if opened {
            streams.inc();
        } else {
            streams.dec();
        }
    }

    pub(super) fn request(&self, kind: Option<ResourceType>, what: RequestKind) {
        let labels = RequestLabels {
            r#type: kind.map_or("unknown", name),
            kind: match what {
                RequestKind::Interest => "interest",
                RequestKind::Ack => "ack",
                RequestKind::Nack => "nack",
                RequestKind::Stale => "stale",
                RequestKind::Unknown => "unknown",
            },
        };
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn push(&self, kind: ResourceType, resources: usize, bytes: usize) {
        let label = TypeLabel { r#type: name(kind) };
        self.pushes.get_or_create(&label).inc();
        self.push_bytes.get_or_create(&label).inc_by(bytes as u64);
        self.resources
            .get_or_create(&label)
            .inc_by(resources as u64);
    }

    pub(super) fn converged(&self, seconds: f64) {
        self.convergence.observe(seconds);
    }
}

const fn name(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Cluster => "cds",
        ResourceType::Endpoints => "eds",
        ResourceType::Secret => "sds",
        ResourceType::Listener => "lds",
        ResourceType::RouteTable => "rds",
    }
}
