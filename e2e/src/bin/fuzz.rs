//! `nuncio-fuzz`, which `make fuzz` runs. See `--help`.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use clap::Parser as _;
use nuncio_e2e::{
    fuzz::{Options, run},
    sandbox,
};

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    sandbox::enter()?;
    // first, so that a run that dies can be repeated
    println!("seed {}", options.seed);
    let start = Instant::now();
    let summary = tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            summary = run(&options) => summary,
            // the first process of a namespace gets no signal that it does not handle
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    println!(
        "{} batches from seed {}, {} objects, {} of them served, {} resources in {:.0} s: {} defects",
        summary.batches,
        options.seed,
        summary.objects,
        summary.in_service,
        summary.resources,
        start.elapsed().as_secs_f64(),
        summary.findings.len()
    );
    Ok(if summary.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
