//! Runs that a seed repeats: those of `nuncio-fuzz` and `nuncio-chaos`.
#![expect(clippy::print_stdout, reason = "prints the seed")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::sandbox;

/// Runs this in a sandbox until it is done or interrupted. Returns how long it took, too.
///
/// # Errors
/// Those of the run, and of the sandbox.
pub fn run<T>(seed: u64, work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    sandbox::enter()?;
    // first, so that a run that dies can be repeated
    println!("seed {seed}");
    let start = Instant::now();
    let result = tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            result = work => result,
            // the first process of a namespace gets no signal that it does not handle
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    Ok((result, start.elapsed()))
}

/// What a run with this many defects exits with.
#[must_use]
pub const fn exit_code(defects: usize) -> ExitCode {
    if defects == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
