//! Paths of the workspace, its tools and its logs.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::sandbox;

/// The root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// A program that `e2e/tools/install` has installed.
///
/// # Errors
/// It is missing: a failure, not a reason to skip a test.
pub fn tool(name: &str) -> Result<PathBuf> {
    installed(&format!("bin/{name}"))
}

/// The library that moves the clock of a process, libfaketime.
///
/// # Errors
/// It is missing.
pub fn faketime() -> Result<PathBuf> {
    installed("lib/libfaketimeMT.so.1")
}

fn installed(name: &str) -> Result<PathBuf> {
    let path = root().join(".tools").join(name);
    ensure!(
        path.is_file(),
        "{} is missing: run `make tools`",
        path.display()
    );
    Ok(path)
}

/// The binary `nuncio`: the path in the variable `NUNCIO`, or the one beside this program.
///
/// # Errors
/// It is missing.
pub fn nuncio() -> Result<PathBuf> {
    let path = match std::env::var_os("NUNCIO") {
        Some(path) => PathBuf::from(path),
        None => beside("nuncio")?,
    };
    ensure!(
        path.is_file(),
        "the binary nuncio is missing: run `cargo build -p nuncio`, or set NUNCIO"
    );
    Ok(path)
}

/// The binary `kat-server`, beside this program.
///
/// # Errors
/// It is missing.
pub fn kat_server() -> Result<PathBuf> {
    let path = beside("kat-server")?;
    ensure!(
        path.is_file(),
        "the binary kat-server is missing: run `cargo build -p nuncio-kat`"
    );
    Ok(path)
}

/// A binary beside this program, or in the folder above; no file if there is none.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    Ok(folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_default())
}

/// The folder for the logs of a run. Each program has its own, and so does each test with its own sandbox.
///
/// # Errors
/// The folder cannot be created.
pub fn logs() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let name = own.file_stem().unwrap_or_default().to_string_lossy();
    // Cargo appends a hash to the names of test binaries
    let name = match name.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name,
        _ => &name,
    };
    let mut path = root().join("target/e2e-logs").join(name);
    if let Some(test) = sandbox::test() {
        path.push(test.replace("::", "-"));
    }
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
