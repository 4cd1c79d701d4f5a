//! `make fuzz`: objects at random through the pipeline and a real Envoy, in a sandbox.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nuncio_e2e::{
    fuzz::{Options, run},
    sandbox,
};

const HELP: &str = "\
Writes Listeners, Hosts, TLSContexts, Mappings and TCPMappings at random, in batches, and gives them to the pipeline of
Nuncio and what that makes of them to a real Envoy. Prints every defect with the objects that show it: a panic, an object
that is neither served nor told why not, a resource that Envoy refuses. Exit status 1: something was found.

usage: nuncio-fuzz [--seconds 600] [--seed 1] [--batches 1000000] [--findings 20]

  --seconds N   no batch is begun after this time
  --seed N      seed of the first batch; the next batch has the next number. `--seed N --batches 1` repeats batch N
  --batches N   how many batches at most
  --findings N  end after so many different defects

What a defect needs comes from `make tools`; everything runs in a sandbox without network, which takes root or user
namespaces. Logs are in target/e2e-logs/nuncio-fuzz.
";

/// The options; `None`: help was asked for.
fn options() -> Result<Option<Options>> {
    let mut options = Options {
        time: Duration::from_secs(600),
        seed: 1,
        batches: 1_000_000,
        findings: 20,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let value = arguments.next();
        let value = value.with_context(|| format!("{argument} needs a value; see --help"))?;
        match argument.as_str() {
            "--seconds" => options.time = Duration::from_secs(value.parse()?),
            "--seed" => options.seed = value.parse()?,
            "--batches" => options.batches = value.parse()?,
            "--findings" => options.findings = value.parse()?,
            _ => bail!("{argument} is not known; see --help"),
        }
    }
    Ok(Some(options))
}

fn main() -> Result<ExitCode> {
    let Some(options) = options()? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    sandbox::enter()?;
    let start = Instant::now();
    let summary = tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            summary = run(options) => summary,
            // the first process of a namespace gets no signal that it does not ask for
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
