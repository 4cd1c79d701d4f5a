//! The command line.

use std::time::Duration;

use clap::Parser;

/// Send random objects through Nuncio's pipeline to a real Envoy, and print every defect
///
/// Listeners, Hosts, TLSContexts, Mappings and TCPMappings are written at random, in batches. A defect is a panic, an object
/// that is neither served nor reported, or a resource that Envoy rejects; it is printed with the objects that show it. Exit
/// status 1: a defect was found.
#[derive(Clone, Copy, Debug, Parser)]
#[command(
    after_help = "Run `make tools` first. Everything runs in a sandbox without network, which needs root or user namespaces. \
Logs are in target/e2e-logs/nuncio-fuzz."
)]
pub struct Options {
    /// Time after which no batch starts
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub seconds: u64,
    /// Seed of the first batch; each later batch has the next number. `--seed N --batches 1` repeats batch N [default: random]
    #[arg(long, value_name = "N", default_value_t = random(), hide_default_value = true)]
    pub seed: u64,
    /// Maximum number of batches
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub batches: u64,
    /// Number of different defects after which the run stops
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub findings: usize,
}

/// A seed that is short enough to write down.
fn random() -> u64 {
    fastrand::u64(..1_000_000_000)
}

impl Options {
    /// Time after which no batch starts.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
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
