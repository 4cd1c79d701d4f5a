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

const FILES: [&str; 7] = [
    "getambassador.io_hosts.yaml",
    "getambassador.io_kubernetesendpointresolvers.yaml",
    "getambassador.io_kubernetesserviceresolvers.yaml",
    "getambassador.io_listeners.yaml",
    "getambassador.io_mappings.yaml",
    "getambassador.io_tcpmappings.yaml",
    "getambassador.io_tlscontexts.yaml",
];

#[test]
fn what_is_written_passes_the_check() {
    let folder = written("passes");
    assert_eq!(names(&folder), FILES);
    assert_eq!(check(&folder), (true, String::new()));
}

#[test]
fn a_file_that_differs_is_named_with_the_remedy() {
    let folder = written("differs");
    fs::write(folder.join(FILES[1]), "kind: CustomResourceDefinition\n").unwrap();
    let (passed, said) = check(&folder);
    assert!(!passed);
    assert!(
        said.contains(FILES[1]) && said.contains("make manifests"),
        "{said}"
    );
    assert!(!said.contains(FILES[0]), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let folder = written("missing");
    fs::remove_file(folder.join(FILES[2])).unwrap();
    let (passed, said) = check(&folder);
    assert!(!passed);
    assert!(said.contains(FILES[2]), "{said}");
}

#[test]
fn a_file_of_no_kind_is_named() {
    let folder = written("superfluous");
    fs::write(folder.join("getambassador.io_gone.yaml"), "").unwrap();
    let (passed, said) = check(&folder);
    assert!(!passed);
    assert!(said.contains("getambassador.io_gone.yaml"), "{said}");
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

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
