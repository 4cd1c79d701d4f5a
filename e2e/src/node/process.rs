//! The process of a container, in namespaces of its own.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use super::command::quoted;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a container is to be run.
#[derive(Debug)]
pub(super) struct Program {
    /// Root file system of the image.
    pub(super) image: PathBuf,
    /// A directory for this run alone.
    pub(super) folder: PathBuf,
    /// The network namespace; none for that of the node.
    pub(super) network: Option<PathBuf>,
    /// Host name.
    pub(super) hostname: String,
    /// Files and directories that the container sees.
    pub(super) mounts: Vec<Mount>,
    /// Whether the root file system is read-only.
    pub(super) is_read_only: bool,
    /// Whether privileges can be gained.
    pub(super) may_gain_privileges: bool,
    /// User, group, and supplementary groups.
    pub(super) user: (u32, u32, Vec<u32>),
    /// The words of the command.
    pub(super) command: Vec<String>,
    /// Environment.
    pub(super) environment: Vec<(String, String)>,
    /// Where its output goes.
    pub(super) log: PathBuf,
}

/// A file or directory that a container sees.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    /// On the node.
    pub(super) source: PathBuf,
    /// In the container.
    pub(super) target: String,
    /// Whether the container cannot write to it.
    pub(super) is_read_only: bool,
}

/// A running container.
pub(super) struct Running {
    exit: watch::Receiver<Option<Exit>>,
    /// Kills it when dropped.
    _waits: AbortOnDrop,
    init: Pid,
    root: PathBuf,
    user: (u32, u32, Vec<u32>),
    environment: Vec<(String, String)>,
}

/// How a container has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// Exit code; 128 and the number of the signal that ended it.
    pub(super) code: i32,
}

impl Program {
    /// Starts it, and returns once the program of the image runs.
    pub(super) async fn start(&self) -> Result<Running> {
        for name in ["upper", "work", "root"] {
            std::fs::create_dir_all(self.folder.join(name))?;
        }
        let output = File::options().create(true).append(true).open(&self.log)?;
        let mut words = Vec::new();
        if let Some(network) = &self.network {
            words = vec!["nsenter".to_owned(), format!("--net={}", network.display())];
        }
        let unshare = [
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child",
        ];
        words.extend(unshare.map(str::to_owned));
        words.extend(["sh", "-ec", &self.script()].map(str::to_owned));
        let child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", PATH)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a container")?;
        self.entered(child).await
    }

    /// Waits until the first process is past the preparation, so that it has the signals.
    async fn entered(&self, mut outer: Child) -> Result<Running> {
        loop {
            if let Some(status) = outer.try_wait()? {
                bail!("{status}; see {}", self.log.display());
            }
            if let Some(init) = first_child(outer.id())
                && is_inside(init)
            {
                let (sender, exit) = watch::channel(None);
                let waits = tokio::spawn(async move {
                    let exit = Exit::of(outer.wait().await);
                    sender.send_replace(Some(exit));
                });
                return Ok(Running {
                    exit,
                    _waits: AbortOnDrop(waits),
                    init,
                    root: PathBuf::from(format!("/proc/{}/root", init.as_raw_nonzero())),
                    user: self.user.clone(),
                    environment: self.environment.clone(),
                });
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// What makes the mounts and then becomes the program.
    fn script(&self) -> String {
        let root = self.folder.join("root").display().to_string();
        let mut lines = vec![
            format!("hostname {}", quoted(&self.hostname)),
            format!("cd {}", quoted(&self.folder.display().to_string())),
            format!(
                "mount -t overlay -o lowerdir={},upperdir=upper,workdir=work overlay root",
                self.image.display()
            ),
            "mkdir -p root/dev root/proc root/sys root/etc".to_owned(),
            "mount -t proc proc root/proc".to_owned(),
            "mount -t sysfs -o ro sysfs root/sys".to_owned(),
            "mount -t tmpfs -o mode=755 tmpfs root/dev".to_owned(),
            "for d in null zero full random urandom; do : > root/dev/$d; mount --bind /dev/$d root/dev/$d; done".to_owned(),
            "mkdir -m 1777 root/dev/shm; ln -s /proc/self/fd root/dev/fd; ln -s fd/1 root/dev/stdout; ln -s fd/2 root/dev/stderr".to_owned(),
        ];
        for mount in &self.mounts {
            let target = quoted(&format!("root{}", mount.target));
            lines.push(if mount.source.is_dir() {
                format!("mkdir -p {target}")
            } else {
                let folder = Path::new(&mount.target).parent().unwrap_or(Path::new("/"));
                let folder = quoted(&format!("root{}", folder.display()));
                format!("mkdir -p {folder}; [ -e {target} ] || : > {target}")
            });
            let source = quoted(&mount.source.display().to_string());
            lines.push(format!("mount --bind {source} {target}"));
            if mount.is_read_only {
                lines.push(format!("mount -o remount,ro,bind {target}"));
            }
        }
        if self.is_read_only {
            lines.push("mount -o remount,ro,bind root".to_owned());
        }
        let program = self.command.iter().map(|word| quoted(word));
        let program = program.collect::<Vec<_>>().join(" ");
        lines.push(format!(
            "exec {}chroot {} {} {program}",
            if self.may_gain_privileges {
                ""
            } else {
                "setpriv --no-new-privs "
            },
            become_user(&self.user),
            quoted(&root)
        ));
        lines.join("\n")
    }
}

impl Running {
    /// Its first process.
    pub(super) fn process(&self) -> Pid {
        self.init
    }

    /// Waits for its end.
    pub(super) async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await;
        exit.ok()
            .and_then(|exit| *exit)
            .unwrap_or(Exit { code: 255 })
    }

    /// Sends a signal to its first process. The end of that process, which SIGKILL forces, ends all others.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.init, signal);
    }

    /// Runs a command beside it, in its namespaces.
    pub(super) async fn execute(&self, command: &[String]) -> Result<()> {
        let target = self.init.as_raw_nonzero().to_string();
        let program = command.iter().map(|word| quoted(word));
        let script = format!(
            "exec setpriv --no-new-privs chroot {} {} {}",
            become_user(&self.user),
            quoted(&self.root.display().to_string()),
            program.collect::<Vec<_>>().join(" ")
        );
        // the mounts of the container hold no shell: the script runs with those of the node
        let output = Command::new("nsenter")
            .args(["--target", &target, "--net", "--pid", "--uts", "--ipc"])
            .args(["sh", "-ec", &script])
            .env_clear()
            .env("PATH", PATH)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

impl Exit {
    fn of(status: std::io::Result<ExitStatus>) -> Self {
        let code = status.map_or(255, |status| {
            let signal = || 128 + status.signal().unwrap_or_default();
            status.code().unwrap_or_else(signal)
        });
        Self { code }
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn become_user((user, group, others): &(u32, u32, Vec<u32>)) -> String {
    let groups: Vec<String> = others.iter().map(u32::to_string).collect();
    format!(
        "--userspec={user}:{group} --groups={}",
        quoted(&groups.join(","))
    )
}

/// The process in the new process namespace; none before it exists.
fn first_child(outer: Option<u32>) -> Option<Pid> {
    let outer = outer?;
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
    let first = children.ok()?.split_whitespace().next()?.parse().ok()?;
    Pid::from_raw(first)
}

/// Whether a process has entered its root file system.
fn is_inside(pid: Pid) -> bool {
    let root = std::fs::read_link(format!("/proc/{}/root", pid.as_raw_nonzero()));
    root.is_ok_and(|root| root != Path::new("/"))
}

/// Whether an address answers.
pub(super) async fn connects(address: Ipv4Addr, port: u16) -> Result<()> {
    tokio::net::TcpStream::connect((address, port)).await?;
    Ok(())
}
