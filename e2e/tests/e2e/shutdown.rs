//! `nuncio serve` stops after its open requests.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    client::get,
    process::Process,
    wait::until,
    workspace::{nuncio, tool},
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
};

use super::serve::{HTTP, samples};

const REQUESTS: usize = 20;

/// A backend that answers `/slow` only once it is released, and counts such requests.
async fn backend(
    listener: TcpListener,
    slow: watch::Sender<usize>,
    released: watch::Receiver<bool>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (slow, mut released) = (slow.clone(), released.clone());
        tokio::spawn(async move {
            let mut head = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut head).await {
                if head[..length].starts_with(b"GET /slow") {
                    slow.send_modify(|count| *count += 1);
                    let _ = released.wait_for(|released| *released).await;
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await;
            }
        });
    }
}

pub(crate) async fn open_requests_end_before_serve_does() -> Result<()> {
    let directory = tempfile::tempdir()?;
    samples(directory.path())?;
    fs::write(
        directory.path().join("m.yaml"),
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: m}\nspec: {hostname: '*', prefix: /, service: '127.0.0.1:9101'}\n",
    )?;
    let (slow, mut open) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:9101").await?;
    tokio::spawn(backend(listener, slow, released));
    let envoy = tool("envoy")?.display().to_string();
    let directory = directory.path().display().to_string();
    let arguments = ["serve", &directory, "--envoy", &envoy];
    let mut serve = Process::start("nuncio-serve-stop", &nuncio()?, arguments, &[])?;
    until("the gateway", || async {
        let answer = get(HTTP, "localhost", "/").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await?;
    // reading files again does not stop it
    serve.signal(Signal::HUP);
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        requests.spawn(async { get(HTTP, "localhost", "/slow").await });
    }
    open.wait_for(|open| *open == REQUESTS).await?;
    serve.signal(Signal::TERM);
    until("the end of new connections", || async {
        ensure!(
            tokio::net::TcpStream::connect(HTTP).await.is_err(),
            "it listens"
        );
        Ok(())
    })
    .await?;
    ensure!(serve.is_running(), "it does not wait");
    release.send_replace(true);
    while let Some(answer) = requests.join_next().await {
        let answer = answer??;
        ensure!(answer.status == 200, "status {}", answer.status);
    }
    let status = serve.exit(Duration::from_secs(10));
    ensure!(
        status.is_some_and(|status| status.success()),
        "it ends with {status:?}"
    );
    Ok(())
}
