//! The name of a test on the page → the golden case or the function that it means.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{read, workspace};

/// Folders with the sources of unit tests.
const SOURCES: [&str; 3] = ["crds/src", "xds", "operator"];

pub(crate) enum NamedTest<'a> {
    /// `golden AREA/CASE`
    Golden(&'a str),
    /// `e2e MODULE::NAME`
    EndToEnd { module: &'a str, function: &'a str },
    /// `test MODULE::NAME`
    Unit { module: &'a str, function: &'a str },
}

impl<'a> NamedTest<'a> {
    /// None for text that does not name a test.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (sort, name) = text.split_once(' ')?;
        match (sort, name.split_once("::")) {
            ("golden", None) => Some(Self::Golden(name)),
            ("e2e", Some((module, function))) => Some(Self::EndToEnd { module, function }),
            ("test", Some((module, function))) => Some(Self::Unit { module, function }),
            _ => None,
        }
    }

    pub(crate) fn exists(&self) -> bool {
        match self {
            Self::Golden(case) => input(case).exists() && output(case).exists(),
            // A function that the runner does not list is dead code, which is an error of the lints.
            Self::EndToEnd { module, function } => {
                let folder = workspace().join("e2e/tests/e2e");
                let mut files = vec![folder.join(format!("{module}.rs"))];
                if folder.join(module).is_dir() {
                    files.extend(sources(&folder.join(module)));
                }
                files.into_iter().any(|file| {
                    let text = fs::read_to_string(file);
                    text.is_ok_and(|text| declaration(&text, function).is_some())
                })
            }
            Self::Unit { module, function } => SOURCES.iter().any(|folder| {
                let files = sources(&workspace().join(folder));
                let mut files = files.iter().filter(|file| is_module(file, module));
                files.any(|file| is_unit_test(&read(file), function))
            }),
        }
    }

    /// The objects of a kind in the input of a golden case; none for other tests.
    pub(crate) fn objects(&self, kind: &str) -> Option<Vec<Value>> {
        let Self::Golden(case) = self else {
            return None;
        };
        let text = fs::read_to_string(input(case)).ok()?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).expect("a case that shows a field is YAML");
        let is_of_kind = |object: &Value| {
            object["apiVersion"] == "getambassador.io/v3alpha1" && object["kind"] == kind
        };
        Some(documents.into_iter().filter(is_of_kind).collect())
    }
}

impl fmt::Display for NamedTest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Golden(case) => write!(f, "golden {case}"),
            Self::EndToEnd { module, function } => write!(f, "e2e {module}::{function}"),
            Self::Unit { module, function } => write!(f, "test {module}::{function}"),
        }
    }
}

fn input(case: &str) -> PathBuf {
    workspace().join(format!("operator/tests/testdata/{case}.in.yaml"))
}

fn output(case: &str) -> PathBuf {
    workspace().join(format!("operator/tests/testdata/{case}.out.yaml"))
}

/// Index of the line that declares a function.
fn declaration(text: &str, function: &str) -> Option<usize> {
    let starts = ["fn ", "async fn ", "pub(crate) fn ", "pub(crate) async fn "];
    text.lines().position(|line| {
        let mut rests = starts
            .iter()
            .filter_map(|start| line.trim().strip_prefix(start));
        rests.any(|rest| {
            rest.strip_prefix(function)
                .is_some_and(|rest| rest.starts_with('('))
        })
    })
}

/// Whether a function has the attribute of a test among those right above it.
fn is_unit_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    declaration(text, function).is_some_and(|index| {
        let above = lines[..index].iter().rev();
        above
            .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// Whether a file is that of a module or of its tests.
fn is_module(file: &Path, module: &str) -> bool {
    let stem = file.file_stem().unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    stem == module || (stem == "tests" && folder == module)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of this repository") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
