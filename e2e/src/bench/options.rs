//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::layout::Layout;

/// Measure Nuncio with a real Envoy, and mostly a real apiserver, in a sandbox
#[derive(Debug, Parser)]
pub struct Options {
    /// What to measure
    #[arg(long = "part", value_enum, value_delimiter = ',', default_values_t = [Part::Mappings, Part::Routes, Part::Hosts, Part::Fleet])]
    pub parts: Vec<Part>,
    /// Numbers of Mappings or Hosts [default: 100,1000,10000, and 10000 for routes]
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Number of changes of each kind
    #[arg(long, default_value_t = 100)]
    pub edits: usize,
    /// Part mappings: only this layout
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,
    /// Part routes: number of pairs of rounds
    #[arg(long, default_value_t = 100)]
    pub rounds: usize,
    /// Part routes: duration of a round in milliseconds
    #[arg(long, default_value_t = 100)]
    round: u64,
    /// Part routes: number of connections
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
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
