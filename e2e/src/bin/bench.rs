//! `nuncio-bench`, which `make bench` runs. See `--help`.

use anyhow::Result;
use clap::Parser as _;
use nuncio_e2e::{
    bench::{self, Options},
    sandbox,
};

fn main() -> Result<()> {
    let options = Options::parse();
    if let (Some(address), Some(variant)) = (options.envoys_of, options.variant) {
        let envoys = bench::run_envoys(address, variant);
        return tokio::runtime::Runtime::new()?.block_on(envoys);
    }
    sandbox::enter()?;
    tokio::runtime::Runtime::new()?.block_on(bench::run(&options))
}
