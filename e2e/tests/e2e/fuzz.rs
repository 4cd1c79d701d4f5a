//! A few batches of the fuzzer, so that it keeps working; `make fuzz` runs as many as there is time for.

use anyhow::{Result, ensure};
use nuncio_e2e::fuzz::{Options, run};
use tokio::{runtime::Handle, task::spawn_blocking};

pub(crate) async fn every_object_is_served_or_reported() -> Result<()> {
    let options = Options {
        seconds: 60,
        seed: 1,
        batches: 40,
        findings: 3,
    };
    // on its own thread: the future is not Send
    let runtime = Handle::current();
    let summary = spawn_blocking(move || runtime.block_on(run(&options))).await??;
    ensure!(
        summary.findings.is_empty(),
        "{}",
        summary.findings.join("\n")
    );
    ensure!(
        summary.in_service > summary.objects / 10 && summary.resources > 0,
        "hardly anything is served: {summary:?}"
    );
    Ok(())
}
