//! An Envoy as a child process: its bootstrap is written to a private folder, its log goes through ours, it is started
//! again when it dies, and it does not outlive us.
//!
//! Not even when we are killed: the kernel can end a process with its parent, but the process has to ask for it
//! itself. So the child is first ourselves ([`attached`]), which asks and then becomes the Envoy.

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

/// How long an Envoy may take to end.
const GRACE: Duration = Duration::from_secs(1);
/// Pauses before restarts; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(5))
    .without_max_times()
    .with_jitter();
/// An Envoy that has run for so long is not caught in a loop.
const SETTLED: Duration = Duration::from_secs(30);

/// Which Envoy to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Where our ADS server listens.
    pub xds: SocketAddr,
    /// Where its admin interface listens.
    pub admin: SocketAddr,
    /// Number of worker threads; none: as many as cores.
    pub concurrency: Option<u32>,
    /// Seconds in which connections are drained; none: Envoy's default.
    pub drain_time: Option<u32>,
}

/// Runs an Envoy until `stop`.
///
/// # Errors
/// A program that cannot be started.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.program.is_file(),
        "there is no Envoy at {}",
        settings.program.display()
    );
    let folder = tempfile::tempdir().context("cannot make a folder for Envoy's bootstrap")?;
    let bootstrap = folder.path().join("bootstrap.json");
    std::fs::write(&bootstrap, self::bootstrap(&settings).to_json().to_string())
        .context("cannot write Envoy's bootstrap")?;
    let mut pauses = BACKOFF.build();
    loop {
        let started = tokio::time::Instant::now();
        let mut envoy = start(&settings, &bootstrap)
            .with_context(|| format!("cannot start Envoy {}", settings.program.display()))?;
        info!(pid = envoy.id(), admin = %settings.admin, "Envoy is started");
        tokio::select! {
            status = envoy.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                warn!(status, "Envoy has ended; it is started again");
            }
            () = stop.cancelled() => {
                end(envoy).await;
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
        node_id: format!("{}-{}", hostname(), std::process::id()),
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

/// Name of this machine, or of the pod.
#[must_use]
pub fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

fn start(settings: &Settings, bootstrap: &Path) -> anyhow::Result<Child> {
    // the program that we are, even if its file has been replaced since
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
        // a signal from the terminal is for us; Envoy is ended in its turn
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

/// Becomes another program that is killed when `parent`, which has started us, ends in whatever way. Comes back only
/// with an error.
///
/// # Errors
/// A parent that has ended already, a program that cannot be started.
pub fn attached(parent: i32, program: &Path, arguments: &[OsString]) -> anyhow::Result<Infallible> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // if it has ended before that we have another parent by now
    anyhow::ensure!(
        rustix::process::getppid() == Pid::from_raw(parent),
        "process {parent}, which has started this one, has ended"
    );
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Takes the lines of its log into ours.
async fn forward(output: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        info!(target: "envoy", "{line}");
    }
}

/// Ends an Envoy: politely, then for certain.
async fn end(mut envoy: Child) {
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
