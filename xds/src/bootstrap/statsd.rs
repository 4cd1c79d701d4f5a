//! Statistics of an Envoy that it sends to a StatsD server.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// A StatsD server. Envoy takes addresses only, and only when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// UDP address.
    pub address: SocketAddr,
    /// Seconds between two reports.
    pub interval_seconds: u32,
    /// Format of the reports.
    pub format: StatsdFormat,
}

/// Format of the reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsdFormat {
    /// StatsD.
    Plain,
    /// DogStatsD, with the ID of this process (`DD_ENTITY_ID`).
    Dog(Option<String>),
}

impl Statsd {
    /// Adds the server to a bootstrap.
    pub(super) fn add_to(&self, bootstrap: &mut Value) {
        let (name, message) = match &self.format {
            StatsdFormat::Plain => ("statsd", "StatsdSink"),
            StatsdFormat::Dog(_) => ("dog_statsd", "DogStatsdSink"),
        };
        let socket = json!({
            "protocol": "UDP",
            "address": self.address.ip().to_string(),
            "port_value": self.address.port(),
        });
        bootstrap["stats_sinks"] = json!([{
            "name": format!("envoy.stat_sinks.{name}"),
            "typed_config": {
                "@type": format!("type.googleapis.com/envoy.config.metrics.v3.{message}"),
                "address": {"socket_address": socket},
            },
        }]);
        bootstrap["stats_flush_interval"] = json!(format!("{}s", self.interval_seconds));
        if let StatsdFormat::Dog(Some(id)) = &self.format {
            let tag = json!({"tag_name": "dd.internal.entity_id", "fixed_value": id});
            bootstrap["stats_config"]["stats_tags"] = json!([tag]);
        }
    }
}
