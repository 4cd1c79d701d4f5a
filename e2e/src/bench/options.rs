//! The command line.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, ValueEnum};

use super::{fleet::Variant, layout::Layout};

/// Measure Nuncio with a real Envoy, and mostly a real apiserver, in a sandbox
#[derive(Debug, Parser)]
pub struct Options {
    /// What to measure
    #[arg(long = "part", value_enum, value_delimiter = ',', default_values_t = [Part::Mappings, Part::Routes, Part::Hosts, Part::Fleet, Part::Start, Part::Endpoints])]
    pub parts: Vec<Part>,
    /// Numbers of Mappings or Hosts [default: 100,1000,10000, and 10000 for routes]
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Number of changes of each kind
    #[arg(long, default_value_t = 100)]
    pub edits: usize,
    /// Part mappings: only this layout; parts start and churn: this one [default: tls]
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,
    /// Part start: only with these clusters; part mappings: with these [default: shared]
    #[arg(long, value_enum)]
    pub clusters: Option<Clusters>,
    /// Part routes: number of pairs of rounds
    #[arg(long, default_value_t = 100)]
    pub rounds: usize,
    /// Part routes: duration of a round in milliseconds
    #[arg(long, default_value_t = 100)]
    round: u64,
    /// Part routes: number of connections
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Part endpoints: most changes of other Services per second
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
    /// Part churn: duration in minutes
    #[arg(long, default_value_t = 30)]
    pub minutes: u32,
    /// Part churn: number of changes per second
    #[arg(long, default_value_t = 20)]
    churn_rate: u32,
    /// Part fleet: only this variant of the protocol
    #[arg(long, value_enum)]
    pub variant: Option<Variant>,
    /// Part hosts: how many certificates the Hosts share; 0: each has its own
    #[arg(long, value_delimiter = ',', default_value = "0,10")]
    pub certificates: Vec<usize>,
    /// Run the simulated Envoys of part fleet (internal)
    #[arg(long, hide = true, requires = "variant")]
    pub envoys_of: Option<SocketAddr>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Changes of Mappings, among many
    Mappings,
    /// Requests to the first and the last of many routes
    Routes,
    /// Changes of Hosts with certificates, among many
    Hosts,
    /// One change with 500 simulated Envoys
    Fleet,
    /// Starts of Envoy and of the control plane, and status, with many Mappings
    Start,
    /// Changes of endpoints, while others change many times a second
    Endpoints,
    /// Memory during 30 minutes of changes; not among the default parts
    Churn,
}

/// Clusters of Mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Clusters {
    /// One for all Mappings
    Shared,
    /// One for each Mapping
    Own,
}

impl Clusters {
    /// How many there are for so many Mappings.
    pub(super) const fn number(self, mappings: usize) -> usize {
        match self {
            Self::Shared => 1,
            Self::Own => mappings,
        }
    }
}

impl Options {
    /// The sizes of a part that has these by default.
    pub(super) fn sizes(&self, default: &[usize]) -> Vec<usize> {
        if self.sizes.is_empty() {
            default.to_vec()
        } else {
            self.sizes.clone()
        }
    }

    /// The variants of the protocol.
    pub(super) fn variants(&self) -> Vec<Variant> {
        match self.variant {
            Some(variant) => vec![variant],
            None => vec![Variant::Delta, Variant::Sotw],
        }
    }

    /// Number of changes per second of part churn.
    pub(super) fn churn_rate(&self) -> u32 {
        self.churn_rate.max(1)
    }

    /// How long a round lasts.
    pub(super) fn round(&self) -> Duration {
        Duration::from_millis(self.round)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
