//! Files that Envoy watches, and files of others.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

/// Where a private directory is made: in memory, in the pods of the kustomize directory.
const RUN: &str = "/run/nuncio";

/// A directory that only this user can read.
#[derive(Debug)]
pub(super) enum Directory {
    /// One that stays.
    Given(PathBuf),
    /// One that is removed when this process exits.
    Own(TempDir),
}

impl Directory {
    /// Makes a directory private, or makes a new one.
    pub(super) fn open(given: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = given else {
            let mut builder = tempfile::Builder::new();
            builder
                .prefix("nuncio-envoy-")
                .permissions(Permissions::from_mode(0o700));
            let directory = builder.tempdir_in(RUN).or_else(|_| builder.tempdir());
            return Ok(Self::Own(
                directory.context("cannot create a private directory")?,
            ));
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(|| {
            format!(
                "cannot make {} private; use a directory in it",
                path.display()
            )
        })?;
        Ok(Self::Given(path.to_owned()))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Own(directory) => directory.path(),
        }
    }
}

/// The text of a file of someone else.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Replaces a file by a rename, so that who reads it gets all of the old or all of the new one. Only this user can read it.
pub(super) fn replace(path: &Path, content: &Value) -> anyhow::Result<()> {
    let write = || {
        let folder = path.parent().unwrap_or(path);
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(content.to_string().as_bytes())?;
        file.persist(path).map_err(|error| error.error)
    };
    write()
        .map(drop)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn directories_and_files_are_private() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        for directory in [
            Directory::open(Some(&path)).unwrap(),
            Directory::open(None).unwrap(),
        ] {
            assert_eq!(mode(directory.path()), 0o700);
            let file = directory.path().join("x.json");
            replace(&file, &Value::from(1)).unwrap();
            replace(&file, &Value::from(2)).unwrap();
            assert_eq!(mode(&file), 0o600);
            assert_eq!(read(&file).unwrap(), "2");
            let entries = fs::read_dir(directory.path()).unwrap().count();
            assert_eq!(entries, 1, "nothing else is left");
        }
        assert!(path.exists());
    }
}
