//! An Envoy as a child process: its bootstrap is written to a private directory, its log lines are logged here, it is
//! restarted when it exits, and it exits with this process.
//!
//! That holds even when this process is killed: the kernel can kill a process when its parent exits, but the process
//! itself must request it. So the child is first this program ([`attached`]), which does that and then executes Envoy.

use std::{
    convert::Infallible,
    ffi::OsString,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use nuncio_xds::{
    bootstrap::{Bootstrap, Target},
    fleet::Protocol,
};
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long an Envoy may take to exit.
const GRACE: Duration = Duration::from_secs(1);
/// Pauses before restarts; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(5))
    .without_max_times()
    .with_jitter();
/// An Envoy that ran for this long does not crash at startup: the next restart is quick again.
const SETTLED: Duration = Duration::from_secs(30);

/// The Envoy to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Address of the xDS server.
    pub xds: SocketAddr,
    /// Address of its admin interface.
    pub admin: SocketAddr,
    /// Number of worker threads; `None`: the number of cores.
    pub concurrency: Option<u32>,
    /// Seconds for which connections are drained; `None`: Envoy's default.
    pub drain_time: Option<u32>,
}

/// Runs an Envoy until `stop`.
///
/// # Errors
/// A program that cannot be started.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.program.is_file(),
        "no Envoy found at {}",
        settings.program.display()
    );
    let directory =
        tempfile::tempdir().context("cannot create a directory for Envoy's bootstrap")?;
    let bootstrap = directory.path().join("bootstrap.json");
    std::fs::write(&bootstrap, self::bootstrap(&settings).to_json().to_string())
        .context("cannot write Envoy's bootstrap")?;
    let mut pauses = BACKOFF.build();
    loop {
        let started = tokio::time::Instant::now();
        let mut envoy = start(&settings, &bootstrap)
            .with_context(|| format!("cannot start Envoy {}", settings.program.display()))?;
        info!(pid = envoy.id(), admin = %settings.admin, "Envoy started");
        tokio::select! {
            status = envoy.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                warn!(status, "Envoy exited; restarting");
            }
            () = stop.cancelled() => {
                stop_envoy(envoy).await;
                return Ok(());
            }
        }
        if started.elapsed() > SETTLED {
            pauses = BACKOFF.build();
        }
        tokio::select! {
            () = sleep(pauses.next().unwrap_or(SETTLED)) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn bootstrap(settings: &Settings) -> Bootstrap {
    Bootstrap {
        node_id: unique_id(),
        cluster: "nuncio".to_owned(),
        xds: Target {
            host: settings.xds.ip().to_string(),
            port: settings.xds.port(),
        },
        admin: settings.admin,
        ready: None,
        protocol: Protocol::Delta,
        tls: None,
        max_heap_bytes: None,
    }
}

/// ID of an Envoy: the host name with a random suffix, since several Envoys can run on a machine.
#[must_use]
pub fn unique_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}-{:08x}", hostname(), random as u32)
}

/// Host name of this machine or pod.
#[must_use]
pub fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

fn start(settings: &Settings, bootstrap: &Path) -> anyhow::Result<Child> {
    // this program, even if its file was replaced meanwhile
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("nuncio")
        .arg("attached")
        .arg(std::process::id().to_string())
        .arg(&settings.program)
        .arg("--config-path")
        .arg(bootstrap)
        .args(["--log-level", "warning", "--disable-hot-restart"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // a signal from the terminal stops this process, which then stops Envoy
        .process_group(0)
        .kill_on_drop(true);
    if let Some(concurrency) = settings.concurrency {
        command.args(["--concurrency", &concurrency.to_string()]);
    }
    if let Some(seconds) = settings.drain_time {
        command.args(["--drain-time-s", &seconds.to_string()]);
    }
    let mut envoy = command.spawn()?;
    if let Some(output) = envoy.stdout.take() {
        tokio::spawn(forward(output));
    }
    if let Some(output) = envoy.stderr.take() {
        tokio::spawn(forward(output));
    }
    Ok(envoy)
}

/// Executes a program that is killed when `parent`, the process that started this one, exits for any reason. Returns
/// only on errors.
///
/// # Errors
/// A parent that has already exited, a program that cannot be started.
pub fn attached(parent: i32, program: &Path, arguments: &[OsString]) -> anyhow::Result<Infallible> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // if the parent exited before that, this process has another one by now
    anyhow::ensure!(
        rustix::process::getppid() == Pid::from_raw(parent),
        "parent process {parent} has exited"
    );
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Logs the lines of Envoy's log.
async fn forward(output: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        info!(target: "envoy", "{line}");
    }
}

/// Stops an Envoy with SIGTERM, and with SIGKILL if it does not exit in time.
async fn stop_envoy(mut envoy: Child) {
    if let Some(pid) = envoy
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    if timeout(GRACE, envoy.wait()).await.is_err() {
        let _ = envoy.kill().await;
    }
}
