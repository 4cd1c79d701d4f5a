//! `nuncio-fuzz`, which `make fuzz` runs. See `--help`.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use nuncio_e2e::{
    fuzz::{Options, run},
    seeded,
};

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let (summary, took) = seeded::run(options.seed, run(&options))?;
    println!(
        "{} batches from seed {}, {} objects, {} of them served, {} resources in {:.0} s: {} defects",
        summary.batches,
        options.seed,
        summary.objects,
        summary.in_service,
        summary.resources,
        took.as_secs_f64(),
        summary.findings.len()
    );
    Ok(seeded::exit_code(summary.findings.len()))
}
