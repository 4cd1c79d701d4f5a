//! `make bench`: what Nuncio and a real Envoy take for changes and for requests as configurations grow, measured from
//! outside. Each part prints tables in Markdown; `BENCHMARKS.md` says how to read them.

mod churn;
mod cost;
mod endpoints;
mod fleet;
mod hosts;
mod latencies;
mod layout;
mod mappings;
mod object;
mod options;
mod quantile;
mod rig;
mod route_list;
mod routes;
mod start;
mod table;
mod throughput;

pub use fleet::{Variant, run_envoys};
pub use options::{Options, Part};

use anyhow::Result;

/// Runs the requested parts.
///
/// # Errors
/// Something does not start, or a change does not reach traffic.
pub async fn run(options: &Options) -> Result<()> {
    for part in &options.parts {
        match part {
            Part::Mappings => mappings::run(options).await?,
            Part::Routes => routes::run(options).await?,
            Part::Hosts => hosts::run(options).await?,
            Part::Fleet => fleet::run(options).await?,
            Part::Start => start::run(options).await?,
            Part::Endpoints => endpoints::run(options).await?,
            Part::Churn => churn::run(options).await?,
        }
    }
    Ok(())
}
