//! An Envoy that `nuncio serve` runs exits with it, also when it is killed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Polls until there is a value.
fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} did not happen"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// A program in place of Envoy: it writes its process ID to a file and keeps running.
fn program(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("envoy");
    let pid = directory.join("pid");
    let script = format!(
        "#!/bin/sh\necho $$ > {0}.new && mv {0}.new {0}\nexec sleep 1000\n",
        pid.display()
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn serve(directory: &Path) -> std::io::Result<Child> {
    command(directory).stderr(Stdio::null()).spawn()
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
    command
        .arg("serve")
        .arg(directory)
        .args([
            "--xds-address",
            "127.0.0.1:0",
            "--health-address",
            "127.0.0.1:0",
            "--envoy-ready-address",
            "127.0.0.1:0",
        ])
        .arg("--envoy")
        .arg(directory.join("envoy"));
    command
}

fn pid(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join("pid"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Whether a process is gone, or a zombie that its new parent has not reaped.
fn has_exited(pid: u32) -> Option<()> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z ").then_some(()),
        Err(_) => Some(()),
    }
}

#[test]
fn an_envoy_does_not_outlive_a_killed_parent() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    program(directory.path())?;
    let mut nuncio = serve(directory.path())?;
    let envoy = eventually("a start", || pid(directory.path()));
    assert_eq!(has_exited(envoy), None);
    nuncio.kill()?;
    nuncio.wait()?;
    eventually("the exit of the child", || has_exited(envoy));
    Ok(())
}

#[test]
fn an_envoy_that_dies_is_restarted_and_exits_with_nuncio_on_sigterm() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    program(directory.path())?;
    let mut nuncio = serve(directory.path())?;
    let first = eventually("a start", || pid(directory.path()));
    kill(first, "-KILL")?;
    let second = eventually("another start", || {
        pid(directory.path()).filter(|pid| *pid != first)
    });
    kill(nuncio.id(), "-HUP")?;
    kill(nuncio.id(), "-TERM")?;
    let status = nuncio.wait()?;
    assert!(status.success(), "{status}");
    eventually("the exit of the child", || has_exited(second));
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_an_error() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    program(directory.path())?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let output = command(directory.path())
        .args(["--envoy-admin-address", &address])
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("--envoy-admin-address"), "{text}");
    Ok(())
}

#[test]
fn an_envoy_that_cannot_start_is_an_error_with_its_last_line() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("envoy");
    fs::write(&path, "#!/bin/sh\necho 'no such port' >&2\nexit 1\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let output = command(directory.path()).output()?;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.contains("Envoy cannot start") && last.ends_with("no such port"),
        "{text}"
    );
    Ok(())
}

fn kill(pid: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()?;
    anyhow::ensure!(status.success(), "kill {signal} {pid}: {status}");
    Ok(())
}
