//! Directories with manifests that `nuncio operator` reads beside the cluster: those that come before the objects of the
//! cluster, and those that are served until it has been listed.

use std::path::{Path, PathBuf};

use nuncio_core::{
    change::{Change, Source},
    settings::Settings,
};
use tracing::warn;

use crate::files::{self, Directory, Form};

/// Directory of all others, if `AMBASSADOR_CONFIG_BASE_DIR` is not set.
const BASE: &str = "/ambassador";
/// Name of the static configuration in it, if `AMBASSADOR_CONFIG_DIR` is not set.
const FALLBACK: &str = "ambassador-config";

/// The directories that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories {
    /// Objects that come before those of the cluster.
    pub init: Option<PathBuf>,
    /// Objects that are served until the cluster has been listed.
    pub fallback: Option<PathBuf>,
}

impl Directories {
    /// Those that exist of `init`, and of what the environment names.
    pub fn of(init: &Path, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let fallback = variable("AMBASSADOR_CONFIG_DIR").map_or_else(
            || {
                let base = variable("AMBASSADOR_CONFIG_BASE_DIR");
                let base = base.or_else(|| variable("ambassador_root"));
                PathBuf::from(base.unwrap_or_else(|| BASE.to_owned())).join(FALLBACK)
            },
            PathBuf::from,
        );
        let existing = |path: PathBuf| path.is_dir().then_some(path);
        Self {
            init: existing(init.to_owned()),
            fallback: existing(fallback),
        }
    }

    /// The objects that come before those of the cluster.
    #[must_use]
    pub fn init(&self) -> Option<Directory> {
        self.init.as_ref().map(|path| Directory {
            path: path.clone(),
            source: Source::InitConfig,
            form: Form::Yaml,
        })
    }

    /// The objects that a fleet serves until the cluster has been listed.
    #[must_use]
    pub fn fallback(&self, settings: &Settings) -> Vec<Change> {
        let Some(path) = &self.fallback else {
            return Vec::new();
        };
        let directory = Directory {
            path: path.clone(),
            source: Source::Api,
            form: Form::Flat,
        };
        let changes = files::load(&directory, settings).unwrap_or_else(|error| {
            warn!(directory = %path.display(), error = format!("{error:#}"), "static configuration ignored");
            Vec::new()
        });
        for change in &changes {
            let Change::Replace(_, _, all) = change else {
                continue;
            };
            for found in all {
                for problem in &found.problems {
                    warn!(object = %found.object, field = problem.path, problem = problem.message, "problem in the static configuration");
                }
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_directories_that_exist_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("init")).unwrap();
        fs::create_dir(path(FALLBACK)).unwrap();
        fs::create_dir(path("other")).unwrap();
        let of = |name: &str, variables: &[(&str, PathBuf)]| {
            Directories::of(&path(name), |wanted| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| value.display().to_string())
            })
        };
        let base = ("AMBASSADOR_CONFIG_BASE_DIR", root.path().to_owned());
        let found = of("init", std::slice::from_ref(&base));
        assert_eq!(found.init, Some(path("init")));
        assert_eq!(found.fallback, Some(path(FALLBACK)));
        let found = of("missing", &[base, ("AMBASSADOR_CONFIG_DIR", path("other"))]);
        assert_eq!(found.init, None);
        assert_eq!(found.fallback, Some(path("other")));
        assert_eq!(of("missing", &[]), Directories::default());
    }

    #[test]
    fn static_configuration_is_flat() {
        let root = tempfile::tempdir().unwrap();
        let text = "---\nkind: Pragma\nsource: a\n---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nname: a\nhostname: '*'\nprefix: /\nservice: a\n---\nkind: Mapping\nname: b\n";
        fs::write(root.path().join("a.YAML"), text).unwrap();
        fs::write(root.path().join("b.yml"), text).unwrap();
        let directories = Directories {
            init: None,
            fallback: Some(root.path().to_owned()),
        };
        let changes = directories.fallback(&Settings::default());
        let found = changes.iter().flat_map(|change| match change {
            Change::Replace(_, _, all) => all.as_slice(),
            _other => &[],
        });
        let found: Vec<_> = found
            .map(|found| (found.object.to_string(), found.fragment.is_some()))
            .collect();
        let expected = [
            ("Mapping default/a".to_owned(), true),
            ("a.YAML#3".to_owned(), false),
        ];
        assert_eq!(found, expected);
    }
}
