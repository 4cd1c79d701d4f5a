//! `nuncio envoy`: from its certificate to its last request.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    certificate_server::CertificateServer,
    client::get,
    control_plane::page,
    process::Process,
    wait::until,
    workspace::{nuncio, tool},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::fixture::{LISTENERS, host, mapping};

/// Longest time that an Envoy pod without open requests takes to exit.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);
/// Hostname of what is served.
pub(crate) const HOST: &str = "edge.example";

/// A control plane for one Envoy pod, whose listeners bind to this address of the loopback interface.
pub(crate) fn control_plane(ip: &str, manifests: &Path, flags: &[&str]) -> Result<Process> {
    let manifests = manifests.display().to_string();
    let (xds, health) = (format!("{ip}:8003"), format!("{ip}:8877"));
    let arguments = [
        "serve",
        &manifests,
        "--xds-address",
        &xds,
        "--health-address",
        &health,
    ];
    let environment = [("AMBASSADOR_ENVOY_BIND_ADDRESS", ip)];
    let arguments = [&arguments, flags].concat();
    Process::start(
        &format!("nuncio-serve-{ip}"),
        &nuncio()?,
        arguments,
        &environment,
    )
}

/// An Envoy pod with this address of the loopback interface.
pub(crate) fn envoy_pod(ip: &str, flags: &[&str]) -> Result<Process> {
    let (xds, listen) = (format!("{ip}:8003"), format!("{ip}:8006"));
    let envoy = tool("envoy")?.display().to_string();
    let arguments = [
        "envoy",
        "--xds",
        &xds,
        "--listen",
        &listen,
        "--envoy",
        &envoy,
        "--concurrency",
        "1",
    ];
    let environment = [("POD_NAME", ip), ("POD_NAMESPACE", "edge")];
    let arguments = [&arguments, flags].concat();
    Process::start(
        &format!("nuncio-envoy-{ip}"),
        &nuncio()?,
        arguments,
        &environment,
    )
}

/// The process ID of the first child of a process, such as the Envoy of a pod.
pub(crate) fn child(parent: &Process) -> Result<Pid> {
    // each thread has its own children
    for thread in fs::read_dir(format!("/proc/{}/task", parent.pid()))? {
        let children = fs::read_to_string(thread?.path().join("children"))?;
        if let Some(child) = children.split_whitespace().next() {
            return Pid::from_raw(child.parse()?).context("no process ID");
        }
    }
    bail!("it has no children")
}

/// Waits until a readiness probe fails with a text like this.
pub(crate) async fn unready(health: &str, reason: &str) -> Result<()> {
    until(reason, || async {
        let answer = get(health, "localhost", "/ready").await?;
        ensure!(
            answer.status == 503 && answer.body.contains(reason),
            "{} {}",
            answer.status,
            answer.body
        );
        Ok(())
    })
    .await
}

pub(crate) async fn ready(health: &str) -> Result<()> {
    until("readiness", || async {
        page(health, "/ready").await.map(drop)
    })
    .await
}

/// Waits until a process exits with status 0.
pub(crate) fn exits(pod: &mut Process, patience: Duration) -> Result<()> {
    let status = pod.exit(patience);
    ensure!(
        status.is_some_and(|status| status.success()),
        "it exits with {status:?}; see {}",
        pod.log.display()
    );
    Ok(())
}

/// A number in the metrics of a pod.
pub(crate) async fn metric(health: &str, line: &str) -> Result<u64> {
    let page = page(health, "/metrics").await?;
    let value = page
        .lines()
        .find_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no metric {line}"))?;
    Ok(value.parse::<f64>()? as u64)
}

/// Everything that a pod needs arrives late and one by one; then certificates change all the time, and each is used.
/// Waits until Envoy has a stream, or none.
async fn connected(health: &str, expected: bool) -> Result<()> {
    until("the stream", || async {
        let connected = metric(health, "envoy_control_plane_connected_state{}").await?;
        ensure!(connected == u64::from(expected), "connected: {connected}");
        Ok(())
    })
    .await
}

pub(crate) async fn certificates_rotate_without_closing_the_stream() -> Result<()> {
    const IP: &str = "127.0.1.1";
    const HEALTH: &str = "127.0.1.1:8006";
    const CONNECTIONS: &str =
        r#"envoy_cluster_upstream_cx_total{envoy_cluster_name="xds_cluster"}"#;
    let lifetime = Duration::from_secs(12);
    let _backend = Backend::start("127.0.0.1:9101", "one").await?;
    let directory = tempfile::tempdir()?;
    let authority = Arc::new(Authority::new()?);
    let own = authority.issue(&[IP])?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (ca, token) = (
        directory.path().join("ca.crt"),
        directory.path().join("token"),
    );
    let (ca, token) = (ca.display().to_string(), token.display().to_string());
    let mut pod = envoy_pod(IP, &["--ca", &ca, "--token", &token])?;
    unready(HEALTH, "ca.crt: No such file").await?;
    file("ca.crt", &authority.pem())?;
    unready(HEALTH, "token: No such file").await?;
    file("token", "a token")?;
    unready(HEALTH, "Connection refused").await?;
    let server = CertificateServer::start((IP, 8004), authority.clone(), lifetime).await?;
    unready(HEALTH, "connection to the control plane").await?;

    let manifests = tempfile::tempdir()?;
    let route = [
        host("edge", HOST, ""),
        mapping("m", HOST, "/", "127.0.0.1:9101", ""),
    ];
    fs::write(
        manifests.path().join("m.yaml"),
        [LISTENERS, "---\n", &route.concat()].concat(),
    )?;
    let flags = [
        "--xds-tls-cert",
        &file("tls.crt", &own.chain)?,
        "--xds-tls-key",
        &file("tls.key", &own.key)?,
        "--xds-tls-client-ca",
        &ca,
    ];
    let mut plane = control_plane(IP, manifests.path(), &flags)?;
    ready(HEALTH).await?;
    // it tried before the control plane was there
    let connections = metric(HEALTH, CONNECTIONS).await?;
    let issued = server.issued();
    until("a renewal", || async {
        ensure!(server.issued() > issued, "{} issued", server.issued());
        Ok(())
    })
    .await?;
    ensure!(
        metric(HEALTH, CONNECTIONS).await? == connections,
        "a renewal closes the connection"
    );
    // when its certificate expires the connection ends, and the next one has the renewed certificate
    until("the next connection", || async {
        let made = metric(HEALTH, CONNECTIONS).await?;
        ensure!(made > connections, "{made} connections");
        Ok(())
    })
    .await?;
    connected(HEALTH, true).await?;
    plane.kill();
    connected(HEALTH, false).await?;
    ready(HEALTH).await?;
    let answer = get("127.0.1.1:8080", HOST, "/").await?;
    ensure!(answer.status == 200, "nothing is served meanwhile");
    plane = control_plane(IP, manifests.path(), &flags)?;
    connected(HEALTH, true).await?;
    pod.signal(Signal::TERM);
    exits(&mut pod, PROMPT * 3)?;
    plane.kill();
    Ok(())
}

/// A pod that has never been ready has no clients to wait for.
pub(crate) async fn sigterm_at_odd_moments_is_obeyed() -> Result<()> {
    const IP: &str = "127.0.1.1";
    const HEALTH: &str = "127.0.1.1:8006";
    // at once, without a certificate, and without a configuration
    let never = ["--ca", "/nowhere/ca.crt", "--drain-delay", "30"];
    for reason in [None, Some("ca.crt")] {
        let mut pod = envoy_pod(IP, &never)?;
        match reason {
            Some(reason) => unready(HEALTH, reason).await?,
            None => {
                until("its port", || async {
                    Ok(TcpStream::connect(HEALTH).await.map(drop)?)
                })
                .await?;
            }
        }
        pod.signal(Signal::TERM);
        exits(&mut pod, PROMPT)?;
    }
    let mut pod = envoy_pod(IP, &["--xds-insecure", "--drain-delay", "30"])?;
    unready(HEALTH, "connection to the control plane").await?;
    pod.signal(Signal::TERM);
    exits(&mut pod, PROMPT)?;

    let manifests = tempfile::tempdir()?;
    fs::write(manifests.path().join("m.yaml"), LISTENERS)?;
    let _plane = control_plane(IP, manifests.path(), &[])?;
    // twice, while it drains
    let mut pod = envoy_pod(IP, &["--xds-insecure", "--drain-delay", "30"])?;
    ready(HEALTH).await?;
    pod.signal(Signal::TERM);
    unready(HEALTH, "stopping").await?;
    ensure!(pod.is_running(), "it does not drain");
    pod.signal(Signal::TERM);
    exits(&mut pod, PROMPT)?;
    Ok(())
}

/// An Envoy that hangs is not ready, and does not keep the pod from stopping; one that crashes takes the pod with it.
pub(crate) async fn an_envoy_that_hangs_or_crashes_is_noticed() -> Result<()> {
    const IP: &str = "127.0.1.1";
    const HEALTH: &str = "127.0.1.1:8006";
    let manifests = tempfile::tempdir()?;
    fs::write(manifests.path().join("m.yaml"), LISTENERS)?;
    let _plane = control_plane(IP, manifests.path(), &[])?;
    let flags = [
        "--xds-insecure",
        "--drain-delay",
        "1",
        "--drain-timeout",
        "2",
    ];
    let mut pod = envoy_pod(IP, &flags)?;
    ready(HEALTH).await?;
    let envoy = child(&pod)?;
    kill_process(envoy, Signal::STOP)?;
    unready(HEALTH, "Envoy has not responded").await?;
    ensure!(
        metric(HEALTH, "nuncio_envoy_up").await? == 0,
        "it is not up"
    );
    kill_process(envoy, Signal::CONT)?;
    ready(HEALTH).await?;
    kill_process(envoy, Signal::STOP)?;
    pod.signal(Signal::TERM);
    exits(&mut pod, PROMPT * 2)?;

    let mut pod = envoy_pod(IP, &flags)?;
    ready(HEALTH).await?;
    kill_process(child(&pod)?, Signal::SEGV)?;
    let status = pod.exit(PROMPT).context("it goes on without Envoy")?;
    ensure!(status.code() == Some(1), "it exits with {status}");
    let log = fs::read_to_string(&pod.log)?;
    let last = log.lines().last().unwrap_or_default();
    ensure!(
        last.contains("nuncio: Envoy: Envoy exited (signal: 11"),
        "{last}"
    );
    Ok(())
}
