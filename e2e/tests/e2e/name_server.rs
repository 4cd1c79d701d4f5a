//! A name server that never answers.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, client::get, gateway::stops, sandbox, wait::until};
use rustix::process::Signal;
use tokio::net::UdpSocket;

use super::serve::{HTTP, gone, samples, serve};

/// Longest time that a name without an answer may add to a start, or to a change that does not use it.
const BOUND: Duration = Duration::from_secs(6);

pub(crate) async fn a_name_without_an_answer_holds_up_nothing() -> Result<()> {
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    let queries = silent_server().await?;
    sandbox::resolve_with("127.0.0.1")?;
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    samples(path)?;
    mapping(path, "steady", "127.0.0.1:9101")?;
    let start = Instant::now();
    let mut without = serve(path)?;
    answers("/steady/", 200).await?;
    let usual = start.elapsed();
    stops(&mut without, Signal::TERM)?;
    gone().await?;

    mapping(path, "silent", "silent.example:80")?;
    let start = Instant::now();
    let mut serving = serve(path)?;
    answers("/steady/", 200).await?;
    let took = start.elapsed();
    eprintln!("a start took {took:?}, and {usual:?} without the name");
    ensure!(
        took < usual + BOUND,
        "a start took {took:?}, usually {usual:?}"
    );
    ensure!(queries.load(Ordering::Relaxed) > 0, "no name was asked for");
    // reached, but without an address
    answers("/silent/", 503).await?;

    // a new name together with a change that does not use it
    mapping(path, "silent-too", "silent-too.example:80")?;
    mapping(path, "other", "127.0.0.1:9101")?;
    let start = Instant::now();
    answers("/other/", 200).await?;
    let took = start.elapsed();
    eprintln!("a change took {took:?}");
    ensure!(took < BOUND, "a change took {took:?}");
    stops(&mut serving, Signal::TERM)?;
    gone().await
}

/// Counts the queries that it does not answer.
async fn silent_server() -> Result<Arc<AtomicU64>> {
    let socket = UdpSocket::bind("127.0.0.1:53").await?;
    let queries = Arc::new(AtomicU64::new(0));
    let counter = queries.clone();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while socket.recv_from(&mut query).await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(queries)
}

fn mapping(directory: &Path, name: &str, service: &str) -> Result<()> {
    let text = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{hostname: '*', prefix: /{name}/, service: '{service}'}}\n"
    );
    fs::write(directory.join(format!("{name}.yaml")), text)?;
    Ok(())
}

async fn answers(path: &str, status: u16) -> Result<()> {
    until(path, || async {
        let answer = get(HTTP, "localhost", path).await?;
        ensure!(answer.status == status, "status {}", answer.status);
        Ok(())
    })
    .await
}
