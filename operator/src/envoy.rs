//! An Envoy as a child process: its bootstrap is written to a private directory, its log lines are logged here, it is
//! restarted when it exits, and it exits with this process, after its open requests.
//!
//! That holds even when this process is killed: the kernel can kill a process when its parent exits, but the process
//! itself must request it. So the child is first this program ([`attached`]), which does that and then executes Envoy.

use std::{
    convert::Infallible,
    ffi::OsString,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use nuncio_xds::{
    bootstrap::{Bootstrap, MAX_CONNECTIONS},
    fleet::Protocol,
    socket::Address,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

mod admin;
mod drain;
mod memory;

/// How long an Envoy may take to exit.
const GRACE: Duration = Duration::from_secs(1);
/// How long requests that are open when the process stops may take.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Pauses before restarts after the first one, which is at once; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(5))
    .without_max_times()
    .with_jitter();
/// An Envoy that ran for this long does not crash at startup: the next restart is at once again.
const SETTLED: Duration = Duration::from_secs(30);
/// A longer line of Envoy's log is logged in pieces.
const LINE_BYTES: u64 = 8 << 10;

/// The Envoy to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Address of the xDS server.
    pub xds: Address,
    /// Address of its admin interface; `None`: a private Unix socket.
    pub admin: Option<Address>,
    /// Address of readiness and statistics.
    pub ready: SocketAddr,
    /// Number of worker threads; `None`: the number of cores.
    pub concurrency: Option<u32>,
    /// Seconds for which connections are drained; `None`: Envoy's default.
    pub drain_time: Option<u32>,
    /// Heap limit in bytes; `None`: 90 % of the memory of the container or machine.
    pub max_heap_bytes: Option<u64>,
    /// Maximum number of connections from clients; `None`: as many as its file descriptors allow, up to [`MAX_CONNECTIONS`].
    pub max_connections: Option<NonZeroU32>,
}

/// Runs an Envoy until `stop`. `directory` is for its files and sockets; nobody else may read it.
///
/// # Errors
/// A program that cannot be started, or that cannot use its settings, such as a port that is taken.
pub async fn run(
    settings: Settings,
    directory: TempDir,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.program.is_file(),
        "no Envoy found at {}",
        settings.program.display()
    );
    let bootstrap = self::bootstrap(&settings, directory.path());
    let path = directory.path().join("bootstrap.json");
    std::fs::write(&path, bootstrap.to_json().to_string())
        .context("cannot write Envoy's bootstrap")?;
    free(settings.ready, "--envoy-ready-address")?;
    if let Some(Address::Tcp(admin)) = settings.admin {
        free(admin, "--envoy-admin-address")?;
    }
    let mut is_first = true;
    let mut pauses: Option<ExponentialBackoff> = None;
    loop {
        let started = tokio::time::Instant::now();
        let (mut envoy, last_line) = start(&settings, &path)
            .with_context(|| format!("cannot start Envoy {}", settings.program.display()))?;
        info!(pid = envoy.id(), admin = %bootstrap.admin, ready = %settings.ready, "Envoy started");
        tokio::select! {
            status = envoy.wait() => {
                let status = status?;
                // a crash is a signal; Envoy itself exits with an error only when it cannot start
                anyhow::ensure!(
                    !is_first || is_clean(status),
                    "Envoy cannot start ({status}): {}",
                    last(last_line).await
                );
                warn!(%status, "Envoy exited; restarting");
            }
            () = stop.cancelled() => {
                stop_envoy(envoy, &bootstrap.admin).await;
                return Ok(());
            }
        }
        is_first = false;
        if started.elapsed() > SETTLED {
            pauses = None;
        }
        let pause = match &mut pauses {
            None => Duration::ZERO,
            Some(pauses) => pauses.next().unwrap_or(SETTLED),
        };
        pauses.get_or_insert_with(|| BACKOFF.build());
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Whether a process was ended by a signal or by itself without an error.
fn is_clean(status: ExitStatus) -> bool {
    status.code().is_none_or(|code| code == 0)
}

/// Envoy would share a port with another Envoy, and exit because of another program.
fn free(address: SocketAddr, flag: &str) -> anyhow::Result<()> {
    TcpListener::bind(address).map(drop).with_context(|| {
        format!("Envoy cannot listen on {address}; set another address with {flag}")
    })
}

fn bootstrap(settings: &Settings, directory: &Path) -> Bootstrap {
    let admin = || Address::Unix(directory.join("admin.sock"));
    Bootstrap {
        node_id: unique_id(),
        cluster: "nuncio".to_owned(),
        xds: settings.xds.clone().into(),
        admin: settings.admin.clone().unwrap_or_else(admin),
        ready: Some(settings.ready),
        protocol: Protocol::Delta,
        tls: None,
        max_heap_bytes: settings.max_heap_bytes.or_else(memory::heap_limit),
        max_connections: settings
            .max_connections
            .unwrap_or_else(|| connection_limit(getrlimit(Resource::Nofile).maximum)),
    }
}

/// Half of the file descriptors, since a connection from a client can need one to an upstream, and at most
/// [`MAX_CONNECTIONS`].
fn connection_limit(descriptors: Option<u64>) -> NonZeroU32 {
    let half = descriptors.and_then(|descriptors| u32::try_from(descriptors / 2).ok());
    half.map_or(MAX_CONNECTIONS, |half| {
        let half = NonZeroU32::new(half).unwrap_or(NonZeroU32::MIN);
        half.min(MAX_CONNECTIONS)
    })
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

/// Starts an Envoy; also returns the last line of its log.
fn start(
    settings: &Settings,
    bootstrap: &Path,
) -> anyhow::Result<(Child, watch::Receiver<String>)> {
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
    let (line, last_line) = watch::channel(String::new());
    if let Some(output) = envoy.stdout.take() {
        tokio::spawn(forward(output, line.clone()));
    }
    if let Some(output) = envoy.stderr.take() {
        tokio::spawn(forward(output, line));
    }
    Ok((envoy, last_line))
}

/// The last line of the log of a process that has exited.
async fn last(mut line: watch::Receiver<String>) -> String {
    let complete = async { while line.changed().await.is_ok() {} };
    let _ = timeout(GRACE, complete).await;
    line.borrow().clone()
}

/// Raises the limit of file descriptors to what is allowed: Envoy aborts when it runs out of them.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "cannot raise the limit of file descriptors");
    }
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
    raise_descriptor_limit();
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Logs the lines of Envoy's log.
async fn forward(output: impl AsyncRead + Unpin, last_line: watch::Sender<String>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = (&mut output)
            .take(LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await;
        if !read.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        if line.is_empty() {
            continue;
        }
        info!(target: "envoy", "{line}");
        last_line.send_replace(line);
    }
}

/// Stops an Envoy after its open requests with SIGTERM, and with SIGKILL if it does not exit in time.
async fn stop_envoy(mut envoy: Child, admin: &Address) {
    tokio::select! {
        drained = timeout(DRAIN, drain::drain(admin)) => match drained {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = format!("{error:#}"), "Envoy cannot be drained"),
            Err(_elapsed) => warn!(limit = ?DRAIN, "requests are still open; stopping Envoy"),
        },
        _ = envoy.wait() => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_descriptors_to_upstreams() {
        let limit = |descriptors| connection_limit(descriptors).get();
        assert_eq!(limit(Some(1024)), 512);
        assert_eq!(limit(Some(1 << 20)), 50_000);
        assert_eq!(limit(Some(u64::MAX)), 50_000);
        assert_eq!(limit(None), 50_000);
        assert_eq!(limit(Some(1)), 1);
    }
}
