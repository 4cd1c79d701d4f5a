//! `nuncio-chaos`, which `make chaos` runs. See `--help`.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use nuncio_e2e::{
    chaos::{Options, run},
    seeded,
};

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let (summary, took) = seeded::run(options.seed, run(&options))?;
    println!(
        "{} steps of seed {}: {} faults, {} changes of objects ({} accepted), {} requests in {:.0} s: {} defects",
        summary.steps,
        options.seed,
        summary.faults,
        summary.changes.0,
        summary.changes.1,
        summary.requests,
        took.as_secs_f64(),
        summary.findings.len()
    );
    Ok(seeded::exit_code(summary.findings.len()))
}
