//! The root file systems of the images, without a container runtime.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    process::Process,
    sandbox::CONTROL_PLANES,
    wait::until,
    workspace::{nuncio, root, tool},
};
use rustix::process::Signal;

use crate::{
    envoy_pod::{PROMPT, child, exits, ready, unready},
    fixture::LISTENERS,
};

fn assemble(role: &str, directory: &Path) -> Result<()> {
    let output = Command::new(root().join("images/assemble"))
        .arg(role)
        .arg(directory)
        .arg("--binary")
        .arg(nuncio()?)
        .arg("--envoy")
        .arg(tool("envoy")?)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok(())
}

fn run(name: &str, directory: &Path, arguments: &[&str]) -> Result<Process> {
    let directory = directory.display().to_string();
    let arguments = [&[directory.as_str()], arguments].concat();
    // an address that Envoy finds by name, as it finds a Service
    let environment = [("AMBASSADOR_ENVOY_BIND_ADDRESS", "127.0.1.1")];
    Process::start(name, &root().join("images/run"), arguments, &environment)
}

/// Names of all files in a root file system.
fn files(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(directory)?.display().to_string());
            }
        }
    }
    Ok(found)
}

/// Both images run without privileges on a read-only root, find each other by name, and stop.
pub(crate) async fn the_images_serve_without_privileges_and_without_a_shell() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let directory = |role: &str| scratch.path().join(role);
    for role in ["nuncio", "nuncio-envoy"] {
        assemble(role, &directory(role))?;
        let files = files(&directory(role))?;
        let programs: Vec<_> = files.iter().filter(|name| name.contains("bin/")).collect();
        let expected = 1 + usize::from(role == "nuncio-envoy");
        ensure!(programs.len() == expected, "{role} has {programs:?}");
        ensure!(
            files
                .iter()
                .any(|name| name.ends_with("ca-certificates.crt")),
            "{role} trusts no upstream"
        );
        ensure!(
            assemble(role, &directory(role)).is_err(),
            "a directory that is not empty is overwritten"
        );
    }
    // the manifests are of the root file system, which nobody can write to
    let manifests = directory("nuncio").join("etc/manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("m.yaml"), LISTENERS)?;
    let serve = [
        "serve",
        "/etc/manifests",
        "--xds-address",
        "0.0.0.0:8003",
        "--xds-insecure",
    ];
    let mut plane = run("nuncio-image-plane", &directory("nuncio"), &serve)?;
    let xds = format!("{CONTROL_PLANES}:8003");
    let arguments = [
        "envoy",
        "--xds",
        &xds,
        "--xds-insecure",
        "--drain-delay",
        "1",
    ];
    let mut pod = run("nuncio-image-envoy", &directory("nuncio-envoy"), &arguments)?;
    // on all addresses of both families
    for health in ["127.0.0.1:8006", "[::1]:8006"] {
        ready(health).await?;
    }
    until("the listener", || async {
        Ok(tokio::net::TcpStream::connect("127.0.1.1:8080")
            .await
            .map(drop)?)
    })
    .await?;
    // images/run passes no signal on, but it is the first process that they go to, as in a container
    let first = child(&pod)?;
    rustix::process::kill_process(first, Signal::TERM)?;
    unready("127.0.0.1:8006", "stopping").await?;
    exits(&mut pod, PROMPT * 3)?;
    plane.kill();
    Ok(())
}
