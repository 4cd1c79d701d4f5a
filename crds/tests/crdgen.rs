//! `crdgen` writes the definitions, and `crdgen --check` says where a folder differs from them.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nuncio_crds::KINDS;
use serde_json::Value;

/// Names of the files of definitions, of which there is one for each kind that we define.
fn files() -> Vec<String> {
    let defined = KINDS.iter().filter(|info| info.schema.is_some());
    let mut files: Vec<String> = defined
        .map(|info| format!("bases/{}_{}.yaml", info.group, info.plural))
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_written_passes_the_check() {
    let folder = written("passes");
    assert_eq!(names(&folder, "bases"), files());
    let components = ["served-v1", "served-v2", "stored-v2"];
    let components = components.map(|name| format!("components/{name}"));
    assert_eq!(names(&folder, "components"), components);
    assert_eq!(check(&folder), (true, String::new()));
}

#[test]
fn a_file_that_differs_is_named_with_the_remedy() {
    let folder = written("differs");
    fs::write(folder.join(&files()[1]), "kind: CustomResourceDefinition\n").unwrap();
    let (passed, said) = check(&folder);
    assert!(!passed);
    assert!(
        said.contains(&files()[1]) && said.contains("make manifests"),
        "{said}"
    );
    assert!(!said.contains(&files()[0]), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let folder = written("missing");
    fs::remove_file(folder.join(&files()[2])).unwrap();
    let (passed, said) = check(&folder);
    assert!(!passed);
    assert!(said.contains(&files()[2]), "{said}");
}

#[test]
fn a_file_of_no_kind_is_named() {
    let folder = written("superfluous");
    fs::write(
        folder.join("components/served-v1/getambassador.io_gone.yaml"),
        "",
    )
    .unwrap();
    let (passed, said) = check(&folder);
    assert!(!passed);
    assert!(said.contains("getambassador.io_gone.yaml"), "{said}");
}

#[test]
fn every_definition_is_installed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd/kustomization.yaml");
    let kustomization: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let resources = kustomization["resources"].as_array().unwrap();
    assert_eq!(*resources, files());
}

/// A folder of this name with what `crdgen` writes.
fn written(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("crdgen")
        .join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(crdgen().arg(&folder).status().unwrap().success());
    folder
}

/// Whether the folder passes, and what is said about it.
fn check(folder: &Path) -> (bool, String) {
    let output = crdgen().arg("--check").arg(folder).output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn crdgen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_crdgen"))
}

/// What is in a folder below this one.
fn names(folder: &Path, below: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join(below)).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| format!("{below}/{}", name(entry.unwrap())))
        .collect();
    names.sort();
    names
}
