//! The process of an Envoy, which does not outlive this one: its log lines are logged here.
//!
//! That holds even when this process is killed: the kernel can kill a process when its parent exits, but the process
//! itself must request it. So the child is first this program ([`attached`]), which does that and then executes Envoy.

use std::{
    convert::Infallible,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};
use tracing::{info, warn};

/// How long an Envoy may take to exit.
const GRACE: Duration = Duration::from_secs(1);
/// A longer line of Envoy's log is logged in pieces.
const LINE_BYTES: u64 = 8 << 10;

/// What is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Path of Envoy.
    pub path: PathBuf,
    /// Number of worker threads; `None`: the number of cores.
    pub concurrency: Option<u32>,
    /// Seconds for which connections of a removed or replaced listener are drained; `None`: Envoy's default.
    pub drain_time: Option<u32>,
}

/// A running Envoy. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Child,
    last_line: watch::Receiver<String>,
}

impl Program {
    /// Starts an Envoy with this bootstrap.
    pub(crate) fn start(&self, bootstrap: &Path) -> anyhow::Result<Envoy> {
        // this program, even if its file was replaced meanwhile
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("nuncio")
            .arg("attached")
            .arg(std::process::id().to_string())
            .arg(&self.path)
            .arg("--config-path")
            .arg(bootstrap)
            .args(["--log-level", "warning", "--disable-hot-restart"])
            .stdin(Stdio::null())
            // access logs, as they are
            .stdout(Stdio::inherit())
            .stderr(Stdio::piped())
            // a signal from the terminal stops this process, which then stops Envoy
            .process_group(0)
            .kill_on_drop(true);
        if let Some(concurrency) = self.concurrency {
            command.args(["--concurrency", &concurrency.to_string()]);
        }
        if let Some(seconds) = self.drain_time {
            command.args(["--drain-time-s", &seconds.to_string()]);
        }
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start Envoy {}", self.path.display()))?;
        let (line, last_line) = watch::channel(String::new());
        if let Some(output) = process.stderr.take() {
            tokio::spawn(forward(output, line));
        }
        Ok(Envoy { process, last_line })
    }
}

impl Envoy {
    /// Process ID, until it has exited.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits until it exits.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// The last line of its log, once it has exited.
    pub(crate) async fn last_line(&mut self) -> String {
        let line = &mut self.last_line;
        let complete = async { while line.changed().await.is_ok() {} };
        let _ = timeout(GRACE, complete).await;
        self.last_line.borrow().clone()
    }

    /// Stops it with SIGTERM, and with SIGKILL if it does not exit in time.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if timeout(GRACE, self.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
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
