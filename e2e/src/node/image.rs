//! Container images: a directory with a root file system, and what an image configures beside it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// A container image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The root file system. Containers see it as the lower layer of an overlay.
    pub root: PathBuf,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
    /// `USER`: user and group.
    pub user: (u32, u32),
}

/// Images by name, without registry; one with a tag in its name is meant by that tag alone, others by every tag.
#[derive(Clone, Debug, Default)]
pub struct Images(BTreeMap<String, Image>);

impl Images {
    /// Adds an image.
    #[must_use]
    pub fn with(mut self, name: &str, image: Image) -> Self {
        self.0.insert(name.to_owned(), image);
        self
    }

    /// The image with a name as Pods write it: `REGISTRY/NAME:TAG@DIGEST`.
    pub(super) fn find(&self, reference: &str) -> Option<&Image> {
        let last = reference.rsplit('/').next().unwrap_or_default();
        let tagged = last.split('@').next().unwrap_or_default();
        let name = tagged.split(':').next().unwrap_or_default();
        self.0.get(tagged).or_else(|| self.0.get(name))
    }
}

impl Image {
    /// An image with these programs in `/bin`, and the shared libraries that they need. It runs the first of them.
    ///
    /// # Errors
    /// A program is missing, or the directory cannot be written.
    pub fn of_programs(root: &Path, programs: &[&Path]) -> Result<Self> {
        let mut entrypoint = Vec::new();
        for program in programs {
            let name = program.file_name().context("not a program")?;
            let target = Path::new("bin").join(name);
            copy(program, &root.join(&target))?;
            entrypoint.push(format!("/{}", target.display()));
            for library in libraries(program)? {
                let path = Path::new(&library);
                copy(path, &root.join(path.strip_prefix("/")?))?;
            }
        }
        entrypoint.truncate(1);
        Ok(Self {
            root: root.to_owned(),
            entrypoint,
            command: Vec::new(),
            user: (65532, 65532),
        })
    }
}

impl Image {
    /// An image of this project, assembled by `images/assemble`, with what the Dockerfile configures beside the files.
    ///
    /// # Errors
    /// It cannot be assembled, or the Dockerfile has no such stage.
    pub fn assemble(role: &str, root: &Path, nuncio: &Path, envoy: &Path) -> Result<Self> {
        let output = Command::new(workspace::root().join("images/assemble"))
            .arg(role)
            .arg(root)
            .arg("--binary")
            .arg(nuncio)
            .arg("--envoy")
            .arg(envoy)
            .output()
            .context("cannot run images/assemble")?;
        ensure!(
            output.status.success(),
            "images/assemble {role}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let dockerfile = fs::read_to_string(workspace::root().join("Dockerfile"))?;
        configured(&dockerfile, role, root)
            .with_context(|| format!("stage {role} of the Dockerfile"))
    }
}

impl Image {
    /// This image with its Envoy behind a shell that starts it without `LD_PRELOAD`: Envoy hangs with libfaketime.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn without_preload(&self, root: &Path) -> Result<Self> {
        const ENVOY: &str = "usr/local/bin/envoy";
        let mut copy_all = Command::new("cp");
        let status = copy_all.arg("-al").arg(&self.root).arg(root).status()?;
        ensure!(status.success(), "cannot copy {}", self.root.display());
        let shell = Path::new("/bin/sh");
        for file in libraries(shell)?.iter().map(Path::new).chain([shell]) {
            let target = root.join(file.strip_prefix("/")?);
            if !target.exists() {
                copy(file, &target)?;
            }
        }
        let moved = root.join(format!("{ENVOY}.real"));
        fs::rename(root.join(ENVOY), moved)?;
        let script = format!("#!/bin/sh\nunset LD_PRELOAD\nexec /{ENVOY}.real \"$@\"\n");
        fs::write(root.join(ENVOY), script)?;
        fs::set_permissions(root.join(ENVOY), fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            root: root.to_owned(),
            ..self.clone()
        })
    }
}

/// The image of a stage of a Dockerfile, whose lists are all JSON.
fn configured(dockerfile: &str, stage: &str, root: &Path) -> Result<Image> {
    let start = format!(" AS {stage}");
    let lines = dockerfile
        .lines()
        .skip_while(|line| !line.ends_with(&start));
    let lines = lines.skip(1).take_while(|line| !line.starts_with("FROM "));
    let find = |word: &str| lines.clone().find_map(|line| line.strip_prefix(word));
    let list = |word: &str| -> Result<Vec<String>> {
        let text = find(word).with_context(|| format!("no {word}"))?;
        Ok(serde_json::from_str(text)?)
    };
    let user = find("USER ").and_then(|user| user.split_once(':'));
    let (user, group) = user.context("no USER with a group")?;
    Ok(Image {
        root: root.to_owned(),
        entrypoint: list("ENTRYPOINT ")?,
        command: list("CMD ")?,
        user: (user.parse()?, group.parse()?),
    })
}

/// The shared libraries of a program, the dynamic linker included.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context("cannot run ldd (package libc-bin)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(|word| word.trim_end_matches(':').to_owned())
        .filter(|path| Path::new(path) != program)
        .collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    ensure!(from.is_file(), "{} is missing", from.display());
    fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
    // a link costs no memory, but works within one file system only
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_of_a_dockerfile_is_read() {
        let dockerfile = "FROM a AS other\nUSER 1:2\nFROM scratch AS one\nCOPY x y\nUSER 3:4\n\
                          ENTRYPOINT [\"/a\"]\nCMD [\"b\", \"c\"]\nFROM one AS next\nUSER 5:6\n";
        let image = configured(dockerfile, "one", Path::new("/")).unwrap();
        assert_eq!(image.user, (3, 4));
        assert_eq!(image.entrypoint, ["/a"]);
        assert_eq!(image.command, ["b", "c"]);
        assert!(configured(dockerfile, "none", Path::new("/")).is_err());
    }

    #[test]
    fn an_image_is_found_by_name_and_by_tag_where_that_matters() {
        let image = |root: &str| Image {
            root: root.into(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: (0, 0),
        };
        let images = Images::default()
            .with("nuncio", image("any"))
            .with("nuncio:older", image("older"));
        for reference in [
            "nuncio",
            "nuncio:1",
            "localhost:5000/a/nuncio:1@sha256:00",
            "nuncio@sha256:00",
        ] {
            assert_eq!(images.find(reference).unwrap().root, Path::new("any"));
        }
        let older = images.find("localhost:5000/a/nuncio:older@sha256:00");
        assert_eq!(older.unwrap().root, Path::new("older"));
        assert!(images.find("nuncio-envoy:1").is_none());
    }
}
