//! `kat-client`: sends queries from JSON, and writes the results as JSON. See `-help`.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result};
use nuncio_kat::client::{
    self,
    arguments::{Arguments, HELP},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough open files.
const FILES: u64 = 999_999;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if arguments.help {
        std::io::stdout().write_all(HELP.as_bytes())?;
        return Ok(());
    }
    allow_many_files();
    let mut input = String::new();
    match &arguments.input {
        Some(file) => {
            let read = std::fs::read_to_string(file);
            input = read.with_context(|| file.display().to_string())?;
        }
        None => {
            std::io::stdin().read_to_string(&mut input)?;
        }
    }
    let queries = serde_json::from_str(&input).context("the queries are not a JSON array")?;
    let limit = std::env::var("KAT_QUERY_LIMIT").ok();
    let limit = limit
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(client::LIMIT);
    let answers = client::run(queries, limit).await?;
    let output = serde_json::to_string_pretty(&answers)?;
    match &arguments.output {
        Some(file) => std::fs::write(file, output).with_context(|| file.display().to_string()),
        None => Ok(std::io::stdout().write_all(output.as_bytes())?),
    }
}

/// Raises the limit on open files, if the system allows it.
fn allow_many_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit {
        current: Some(FILES),
        maximum: Some(hard.map_or(FILES, |hard| hard.max(FILES))),
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        eprintln!("cannot raise the limit on open files: {error}");
    }
}
