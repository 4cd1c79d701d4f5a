//! Child processes whose output goes to files; they are killed when dropped.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::workspace;

/// Lines of a log that are shown with a failure.
const TAIL: usize = 12;

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Process {
    /// Starts a program. `name` is that of its log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let log = workspace::logs()?.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // only this program handles Ctrl-C, and then kills all others
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal and waits; whether the process exited within `patience`, else it is killed.
    pub fn stop(&mut self, signal: Signal, patience: Duration) -> bool {
        self.signal(signal);
        let start = Instant::now();
        while start.elapsed() < patience {
            if !self.is_running() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        false
    }

    /// Waits for its end; `None` if it runs longer than `patience`.
    pub fn exit(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// CPU time so far, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .into_iter()
            .flatten()
            .flatten();
        let nanoseconds: u64 = tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Duration::from_nanos(nanoseconds).as_secs_f64()
    }

    /// Resident memory, in MiB.
    #[must_use]
    pub fn memory_mib(&self) -> f64 {
        kilobytes(&format!("/proc/{}/status", self.pid()), "VmRSS:") / 1024.0
    }

    /// CPU time of its first thread so far, in seconds. In Envoy this thread handles configuration.
    #[must_use]
    pub fn main_thread_cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{0}/task/{0}/schedstat", self.pid());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        let nanoseconds = stat.split(' ').next().and_then(|text| text.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default()).as_secs_f64()
    }

    /// Proportional set size, in MiB: shared memory is divided among its users.
    #[must_use]
    pub fn proportional_memory_mib(&self) -> f64 {
        kilobytes(&format!("/proc/{}/smaps_rollup", self.pid()), "Pss:") / 1024.0
    }
}

/// A number of kilobytes in a file of `/proc`.
fn kilobytes(path: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or_default()
}

/// The last lines of the logs of Nuncio and Envoy whose names have one of these words, for a failure.
#[must_use]
pub fn tails(words: &[&str]) -> String {
    let entries = workspace::logs().and_then(|folder| Ok(std::fs::read_dir(folder)?));
    let mut logs: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|log| {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            (name.starts_with("nuncio") || name.starts_with("envoy"))
                && words.iter().any(|word| name.contains(word))
        })
        .collect();
    logs.sort();
    let tail = |log: &PathBuf| {
        let bytes = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL);
        format!(
            "  --- {}\n  {}\n",
            log.display(),
            lines[from..].join("\n  ")
        )
    };
    logs.iter().map(tail).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
