//! A directory whose files change all at once, as a kubelet does it: they are links into `..data`, which is a link to a
//! directory that is replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

/// Files by their path in the directory.
pub(super) type Files = BTreeMap<String, File>;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
    /// The owner; none is root.
    pub(super) user: Option<u32>,
}

impl File {
    pub(super) fn new(content: Vec<u8>, mode: u32) -> Self {
        Self {
            content,
            mode,
            user: None,
        }
    }
}

/// Such a directory.
pub(super) struct AtomicFolder {
    path: PathBuf,
    files: Option<Files>,
    number: u64,
}

impl AtomicFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: None,
            number: 0,
        }
    }

    /// Makes these the files, for this group if there is one. Equal files are left alone.
    pub(super) fn write(&mut self, files: Files, group: Option<u32>) -> Result<()> {
        if self.files.as_ref() == Some(&files) {
            return Ok(());
        }
        fs::create_dir_all(&self.path)?;
        let old = format!("..{}", self.number);
        self.number += 1;
        let new = format!("..{}", self.number);
        for (name, file) in &files {
            let path = self.path.join(&new).join(name);
            fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
            fs::write(&path, &file.content)?;
            let mode = file.mode | group.map_or(0, |_| 0o440);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            chown(&path, file.user, group)?;
        }
        fs::create_dir_all(self.path.join(&new))?;
        let link = self.path.join("..data_tmp");
        let _ = fs::remove_file(&link);
        symlink(&new, &link)?;
        fs::rename(&link, self.path.join("..data"))?;
        self.link(&files)?;
        let _ = fs::remove_dir_all(self.path.join(old));
        self.files = Some(files);
        Ok(())
    }

    /// Links what the user sees, and removes the links of what is gone.
    fn link(&self, files: &Files) -> Result<()> {
        let first = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
        let names: BTreeSet<String> = files.keys().map(|name| first(name)).collect();
        let old = self.files.iter().flat_map(|files| files.keys());
        for name in old.map(|name| first(name)) {
            if !names.contains(&name) {
                let _ = fs::remove_file(self.path.join(name));
            }
        }
        for name in names {
            let path = self.path.join(&name);
            if path.symlink_metadata().is_err() {
                symlink(PathBuf::from("..data").join(&name), path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &[(&str, &str)]) -> Files {
        let files = contents.iter();
        files
            .map(|(name, content)| {
                (
                    (*name).to_owned(),
                    File::new(content.as_bytes().into(), 0o644),
                )
            })
            .collect()
    }

    #[test]
    fn files_come_change_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        let read = |name: &str| fs::read_to_string(path.join(name)).ok();
        let mut volume = AtomicFolder::new(path.clone());
        let first = files(&[("a", "1"), ("deep/b", "2")]);
        volume.write(first.clone(), None).unwrap();
        assert_eq!(read("a").as_deref(), Some("1"));
        assert_eq!(read("deep/b").as_deref(), Some("2"));
        let target = fs::read_link(path.join("..data")).unwrap();
        volume.write(first, None).unwrap();
        assert_eq!(fs::read_link(path.join("..data")).unwrap(), target);
        volume
            .write(files(&[("a", "3"), ("c", "4")]), None)
            .unwrap();
        assert_eq!(read("a").as_deref(), Some("3"));
        assert_eq!(read("c").as_deref(), Some("4"));
        assert!(path.join("deep").symlink_metadata().is_err());
        assert_eq!(
            fs::read_dir(&path).unwrap().count(),
            4,
            "a, c, ..data and its target"
        );
    }
}
