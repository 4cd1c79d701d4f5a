//! A sandbox: Linux namespaces for network, processes and mounts. Every address of pods and Services is local, no packet
//! leaves, temporary files are in memory, and when the first process exits, for whatever reason, the kernel kills all
//! others and discards the files.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{logs, root};

const INSIDE: &str = "NUNCIO_E2E_INSIDE";
const TEST: &str = "NUNCIO_E2E_TEST";

/// A name that resolves to [`REPLICAS`], as a headless Service resolves to its pods.
pub const CONTROL_PLANES: &str = "nuncio.test";
/// Addresses of replicas that are found by name.
pub const REPLICAS: [&str; 2] = ["10.244.8.1", "10.244.8.2"];

/// Ensures that this program runs in a sandbox: restarts it in one if necessary.
///
/// # Errors
/// The namespaces cannot be created, or `unshare`, `ip` or `mount` is missing.
pub fn enter() -> Result<()> {
    let files = root().join("target/e2e-files");
    if env::var_os(INSIDE).is_some() {
        return prepare(&files);
    }
    fs::create_dir_all(&files)
        .with_context(|| format!("cannot create the folder {}", files.display()))?;
    let mut command = unshare();
    if !rustix::process::getuid().is_root() {
        command.arg("--map-root-user");
    }
    let error = command
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("TMPDIR", files)
        .exec();
    Err(error).context("cannot run unshare (package util-linux)")
}

/// Makes this address the only name server of the sandbox.
///
/// # Errors
/// The file that names it cannot be replaced.
pub fn resolve_with(name_server: &str) -> Result<()> {
    let path = env::temp_dir().join("resolv.conf");
    fs::write(&path, format!("nameserver {name_server}\n"))?;
    mount(
        &["--bind", &path.to_string_lossy()],
        Path::new("/etc/resolv.conf"),
    )
}

/// The one test that this program was started for by [`run_test`], in a sandbox of its own.
#[must_use]
pub fn test() -> Option<String> {
    env::var(TEST).ok()
}

/// Runs this program again, in a sandbox within this one, for one test only. Returns what it prints as its result.
///
/// # Errors
/// The test fails; the error is what the program prints.
pub fn run_test(name: &str) -> Result<String> {
    let output = unshare()
        .arg(env::current_exe()?)
        .env(TEST, name)
        .stdin(Stdio::null())
        .output()
        .context("cannot run unshare (package util-linux)")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]);
    command
}

fn prepare(files: &Path) -> Result<()> {
    run("ip link set lo up", "iproute2")?;
    run("ip route add local 10.96.0.0/16 dev lo", "iproute2")?;
    run("ip route add local 10.244.0.0/16 dev lo", "iproute2")?;
    ensure!(
        std::net::UdpSocket::bind("10.244.255.254:0").is_ok(),
        "pod addresses are not local in this network namespace"
    );
    mount(&["-t", "tmpfs", "tmpfs"], files)?;
    let hosts = hosts_file(files)?;
    mount(
        &["--bind", &hosts.to_string_lossy()],
        Path::new("/etc/hosts"),
    )?;
    if test().is_some() {
        return Ok(());
    }
    let old = logs()?;
    fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))
}

fn hosts_file(files: &Path) -> Result<PathBuf> {
    let path = files.join("hosts");
    let replicas = REPLICAS.map(|address| format!("{address} {CONTROL_PLANES}\n"));
    fs::write(&path, format!("127.0.0.1 localhost\n{}", replicas.concat()))?;
    Ok(path)
}

fn mount(arguments: &[&str], target: &Path) -> Result<()> {
    let mut command = Command::new("mount");
    command.args(arguments).arg(target);
    succeed(command, "mount")
}

fn run(line: &str, package: &str) -> Result<()> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    succeed(command, package)
}

fn succeed(mut command: Command, package: &str) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?} (package {package})"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
