//! The command line.

use std::time::Duration;

use clap::Parser;

/// Disturb a gateway at random, and check that it ends as one that was never disturbed
///
/// Control planes, an Envoy, the apiserver and etcd are killed and stopped, connections are cut or silent, the apiserver gives wrong
/// answers, and objects change. Exit status 1: a request to a Host that nobody changed was lost, or an Envoy does not have what
/// the objects say.
#[derive(Clone, Copy, Debug, Parser)]
#[command(
    after_help = "Run `make tools` first. Everything runs in a sandbox without network, which needs root or user namespaces. \
Logs are in target/e2e-logs/nuncio-chaos."
)]
pub struct Options {
    /// Minutes after which no step begins
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    minutes: f64,
    /// Seed of the steps [default: random]
    #[arg(long, value_name = "N", default_value_t = random(), hide_default_value = true)]
    pub seed: u64,
    /// Maximum number of steps
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub steps: u64,
    /// Print changes of objects, too
    #[arg(long)]
    pub verbose: bool,
}

/// A seed that is short enough to write down.
fn random() -> u64 {
    fastrand::u64(..1_000_000_000)
}

impl Options {
    /// Time after which no step begins.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.minutes.max(0.0) * 60.0)
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
