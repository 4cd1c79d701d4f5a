//! Every object of the golden inputs means the same in each API version, mistakes included.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::{fs, path::Path};

use nuncio_core::{
    change::Reconciled,
    object::Kind,
    reconcile::{identify, reconcile},
    settings::Settings,
};
use nuncio_crds::conversion::{ApiVersion, convert};
use serde_json::Value;

#[test]
fn an_object_means_the_same_in_each_version() {
    let mut compared = 0;
    for (place, object) in objects() {
        let Ok(kind) = identify(&object) else {
            continue;
        };
        let version = object["apiVersion"].as_str().and_then(ApiVersion::parse);
        // an object that is wrong as a whole stays so
        let is_whole = object["spec"].is_object();
        if version != Some(ApiVersion::V3Alpha1) || !is_whole {
            continue;
        }
        let expected = read(kind, object.clone());
        for old in [ApiVersion::V1, ApiVersion::V2] {
            if !old.has(kind.name()) {
                continue;
            }
            let converted = convert(object.clone(), old).unwrap();
            assert_eq!(identify(&converted), Ok(kind), "{place}");
            let found = read(kind, converted);
            assert_eq!(found.fragment, expected.fragment, "{place} as {old}");
            assert_eq!(messages(&found), messages(&expected), "{place} as {old}");
            compared += 1;
        }
    }
    assert!(compared > 1000, "only {compared} objects were compared");
}

/// Paths differ where fields have another name.
fn messages(found: &Reconciled) -> Vec<&str> {
    let problems = found.problems.iter();
    problems.map(|problem| problem.message.as_str()).collect()
}

fn read(kind: Kind, object: Value) -> Reconciled {
    reconcile(kind, object, &Settings::default())
}

/// All objects that can be parsed, with their places: those of golden cases, one of each kind with every field, and samples.
fn objects() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = |folder: &Path| {
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let areas = files(&root.join("operator/tests/testdata"));
    let golden = areas.iter().flat_map(|area| files(area));
    let golden = golden.filter(|path| path.to_string_lossy().ends_with(".in.yaml"));
    let others = ["crds/tests/testdata", "config/samples"];
    let others = others.iter().flat_map(|folder| files(&root.join(folder)));
    let inputs = golden.chain(others);
    let mut objects = Vec::new();
    for path in inputs {
        let text = fs::read_to_string(&path).unwrap();
        for (index, document) in text.split("\n---").enumerate() {
            if let Ok(object) = serde_saphyr::from_str(document) {
                objects.push((format!("{}#{}", path.display(), index + 1), object));
            }
        }
    }
    objects
}
