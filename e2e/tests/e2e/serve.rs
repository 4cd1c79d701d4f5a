//! Without a cluster: a directory of manifests, and the demo.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::get,
    control_plane::page,
    gateway::{metric, stops},
    process::Process,
    wait::until,
    workspace::{nuncio, root, tool},
};
use rustix::process::Signal;

const HEALTH: &str = "127.0.0.1:8877";
const ADMIN: &str = "127.0.0.1:8001";
pub(crate) const READY: &str = "127.0.0.1:8006";
pub(crate) const HTTP: &str = "127.0.0.1:8080";

/// The Listener and the Host of the samples.
pub(crate) fn samples(directory: &Path) -> Result<()> {
    for name in ["listener.yaml", "host.yaml"] {
        fs::copy(
            root().join("config/samples").join(name),
            directory.join(name),
        )?;
    }
    Ok(())
}

/// Serves a directory to an Envoy whose admin interface is open.
pub(crate) fn serve(directory: &Path) -> Result<Process> {
    serve_with(directory, &["--envoy-admin-address", ADMIN], &[])
}

/// Serves a directory to an Envoy, with these flags and this environment.
pub(crate) fn serve_with(
    directory: &Path,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Process> {
    let directory = directory.display().to_string();
    let envoy = tool("envoy")?.display().to_string();
    let arguments = [
        &[
            "serve",
            &directory,
            "--envoy",
            &envoy,
            "--envoy-concurrency",
            "1",
        ],
        flags,
    ]
    .concat();
    Process::start("nuncio-serve", &nuncio()?, arguments, environment)
}

/// Waits until a path is answered with this status, and a body that begins like this.
pub(crate) async fn answers(path: &str, status: u16, body: &str) -> Result<()> {
    until(path, || async {
        let answer = get(HTTP, "localhost", path).await?;
        ensure!(
            answer.status == status && answer.body.starts_with(body),
            "{} {}",
            answer.status,
            answer.body
        );
        Ok(())
    })
    .await
}

/// Waits until Envoy has exited.
pub(crate) async fn gone() -> Result<()> {
    until("the end of Envoy", || async {
        ensure!(
            tokio::net::TcpStream::connect(READY).await.is_err(),
            "Envoy is still running"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn the_demo_answers_and_stops_cleanly() -> Result<()> {
    let envoy = tool("envoy")?.display().to_string();
    let mut demo = Process::start("nuncio-demo", &nuncio()?, ["demo", "--envoy", &envoy], &[])?;
    for (path, body) in [
        ("/hello/space", "\"/space\""),
        ("/keep/this", "\"/keep/this\""),
        ("/quote/", "\"backend\""),
    ] {
        until(path, || async {
            let answer = get(HTTP, "localhost", path).await?;
            ensure!(
                answer.status == 200 && answer.body.contains(body),
                "{} {}",
                answer.status,
                answer.body
            );
            Ok(())
        })
        .await?;
    }
    stops(&mut demo, Signal::INT)?;
    gone().await
}

pub(crate) async fn edits_of_files_reach_traffic() -> Result<()> {
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    let _two = Backend::start("127.0.0.1:9102", "two").await?;
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    samples(path)?;
    let mapping = |prefix: &str, port: u16| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: m}}\nspec: {{hostname: '*', prefix: {prefix}, service: '127.0.0.1:{port}'}}\n"
        )
    };
    fs::write(path.join("m.yaml"), mapping("/a/", 9101))?;
    let mut serve = serve(path)?;
    answers("/a/", 200, "one").await?;
    fs::write(path.join("m.yaml"), mapping("/a/", 9102))?;
    answers("/a/", 200, "two").await?;
    fs::write(path.join(".m.new"), mapping("/b/", 9101))?;
    fs::rename(path.join(".m.new"), path.join("m.yaml"))?;
    answers("/b/", 200, "one").await?;
    answers("/a/", 404, "").await?;
    // a file that does not parse affects no other
    fs::write(path.join("broken.yaml"), "kind: [")?;
    fs::write(
        path.join("c.yaml"),
        mapping("/c/", 9102).replace("name: m", "name: c"),
    )?;
    answers("/c/", 200, "two").await?;
    answers("/b/", 200, "one").await?;
    fs::remove_file(path.join("m.yaml"))?;
    answers("/b/", 404, "").await?;
    stops(&mut serve, Signal::TERM)?;
    gone().await
}

pub(crate) async fn every_golden_input_is_accepted_by_envoy() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut serve = serve(directory.path())?;
    until("Envoy", || async { page(ADMIN, "/ready").await.map(drop) }).await?;
    let mut inputs: Vec<_> = walk(&root().join("operator/tests/testdata"))?;
    inputs.sort();
    ensure!(inputs.len() > 20, "only {} inputs are found", inputs.len());
    for (turn, input) in inputs.into_iter().enumerate() {
        let publishes = metric(HEALTH, "nuncio_publishes_total").await?;
        fs::copy(&input, directory.path().join(".new"))?;
        fs::rename(
            directory.path().join(".new"),
            directory.path().join("input.yaml"),
        )?;
        // two inputs can come to the same
        let port = 20_000 + turn;
        fs::write(
            directory.path().join("turn.yaml"),
            format!(
                "{{apiVersion: getambassador.io/v3alpha1, kind: TCPMapping, metadata: {{name: turn}}, spec: {{port: {port}, service: '127.0.0.1:9'}}}}"
            ),
        )?;
        until(&input.display().to_string(), || async {
            ensure!(
                metric(HEALTH, "nuncio_publishes_total").await? > publishes,
                "not published"
            );
            Ok(())
        })
        .await?;
        answered().await?;
        let rejected = rejections().await?;
        ensure!(rejected == 0, "Envoy rejects {}", input.display());
    }
    // once this is served, Envoy has answered everything before it
    fs::remove_file(directory.path().join("input.yaml"))?;
    samples(directory.path())?;
    fs::copy(
        root().join("config/samples/mappings.yaml"),
        directory.path().join("mappings.yaml"),
    )?;
    let _backend = Backend::start("127.0.0.1:9001", "hello").await?;
    until("the samples", || async {
        let answer = get(HTTP, "localhost", "/hello/").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await?;
    answered().await?;
    let rejected = rejections().await?;
    ensure!(rejected == 0, "Envoy rejects the last input");
    stops(&mut serve, Signal::TERM)?;
    gone().await
}

/// Waits until every response has been answered.
async fn answered() -> Result<()> {
    until("Envoy's answers", || async {
        let page = page(HEALTH, "/metrics").await?;
        let sum = |name: &str, labels: [&str; 2]| -> f64 {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines
                .filter(|line| labels.iter().any(|label| line.contains(label)))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        let answers = sum(
            "nuncio_xds_requests_total",
            [r#"kind="ack""#, r#"kind="nack""#],
        );
        let responses = sum("nuncio_xds_pushes_total", ["type=", "type="]);
        ensure!(
            responses > 0.0 && (answers - responses).abs() < 0.1,
            "{responses} responses, {answers} answers"
        );
        Ok(())
    })
    .await
}

/// Number of updates that Envoy has rejected.
async fn rejections() -> Result<u64> {
    let stats = page(ADMIN, "/stats?filter=update_rejected").await?;
    Ok(stats
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
}

fn walk(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(walk(&path)?);
        } else if path.to_string_lossy().ends_with(".in.yaml") {
            found.push(path);
        }
    }
    Ok(found)
}

pub(crate) async fn rendering_an_invalid_object_fails() -> Result<()> {
    let render = |directory: &Path| {
        Command::new(nuncio()?)
            .arg("render")
            .arg(directory)
            .args(["-o", "json"])
            .output()
            .map_err(anyhow::Error::from)
    };
    let good = render(&root().join("config/samples"))?;
    ensure!(
        good.status.success(),
        "the samples are invalid: {}",
        String::from_utf8_lossy(&good.stdout)
    );
    let json: serde_json::Value = serde_json::from_slice(&good.stdout)?;
    ensure!(
        json["resources"]["listeners"]["tcp-8080"]["address"]["socket_address"]["port_value"]
            == 8080,
        "{json}"
    );
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("a.yaml"), "kind: [")?;
    let bad = render(directory.path())?;
    ensure!(bad.status.code() == Some(1), "exit status {}", bad.status);
    let json: serde_json::Value = serde_json::from_slice(&bad.stdout)?;
    ensure!(
        json["reports"]["a.yaml#1"]["problems"][0]["reason"] == "NotYaml",
        "{json}"
    );
    Ok(())
}

pub(crate) async fn an_address_other_than_loopback_needs_tls() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let output = Command::new(nuncio()?)
        .arg("serve")
        .arg(directory.path())
        .args(["--xds-address", "0.0.0.0:8003"])
        .output()?;
    ensure!(!output.status.success(), "it started");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        text.contains("--xds-tls-cert") && text.contains("--xds-insecure"),
        "{text}"
    );
    Ok(())
}
