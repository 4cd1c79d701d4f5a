//! `config/COMPATIBILITY.md` is complete and names real things: every field of the schemas has a row under its kind, and
//! every test that is named exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Folders with the sources of unit and property tests.
const SOURCES: [&str; 4] = ["crds", "xds", "operator", "e2e/src"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file of this repository")
}

fn page() -> String {
    read(&workspace().join("config/COMPATIBILITY.md"))
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Cells of the rows of each table of fields, by the kind that is its heading.
fn rows(page: &str) -> BTreeMap<&str, Vec<Vec<&str>>> {
    let mut rows: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let mut kind = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            kind = Some(heading.trim_start_matches('#').trim());
        } else if line.starts_with('|')
            && let Some(kind) = kind
        {
            let cells = line.trim_matches('|').split('|').map(str::trim).collect();
            rows.entry(kind).or_default().push(cells);
        }
    }
    rows
}

/// Paths of the fields below a schema; those of list items and map values as if they were below the field itself.
/// Whether a field has others below it is the value.
fn fields(schema: &Value, path: &str, found: &mut BTreeMap<String, bool>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let before = found.len();
        if name != "matchExpressions" {
            fields(field, &path, found);
        }
        found.insert(path, found.len() > before);
    }
    for below in [&schema["items"], &schema["additionalProperties"]] {
        if below.is_object() {
            fields(below, path, found);
        }
    }
}

/// Fields of each kind.
fn schemas() -> BTreeMap<String, BTreeMap<String, bool>> {
    let folder = workspace().join("config/crd/bases");
    let files = fs::read_dir(folder).expect("a folder of this repository");
    files
        .map(|file| {
            let text = read(&file.expect("a file of it").path());
            let definition: Value = serde_saphyr::from_str(&text).expect("YAML");
            let spec = &definition["spec"];
            let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            let mut found = BTreeMap::new();
            fields(schema, "", &mut found);
            (
                spec["names"]["kind"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                found,
            )
        })
        .collect()
}

#[test]
fn every_field_has_a_row() {
    let page = page();
    let rows = rows(&page);
    let mut wrong = Vec::new();
    for (kind, fields) in schemas() {
        let none = Vec::new();
        let rows = rows.get(kind.as_str()).unwrap_or(&none);
        let named: BTreeSet<&str> = rows.iter().flat_map(|cells| quoted(cells[0])).collect();
        for (path, has_below) in &fields {
            let is_top = !path.contains('.');
            if (is_top || !has_below) && !named.contains(path.as_str()) {
                wrong.push(format!("{kind} has the field {path}, and the page no row"));
            }
        }
        for path in named {
            if !fields.contains_key(path) {
                wrong.push(format!("{kind} has no field {path}, and the page a row"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_says_what_the_field_does_and_which_test_shows_it() {
    let page = page();
    let rows = rows(&page);
    let mut wrong = Vec::new();
    for kind in schemas().keys() {
        for cells in rows.get(kind.as_str()).into_iter().flatten() {
            let is_head = cells[0] == "field" || cells[0].starts_with("---");
            let is_whole = cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty());
            if !is_head && (!is_whole || quoted(cells[3]).next().is_none()) {
                wrong.push(format!("{kind}: {}", cells.join(" | ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let promised = page.to_lowercase();
    assert!(!promised.contains("not yet"), "the page says what is");
}

#[test]
fn every_test_that_is_named_exists() {
    let page = page();
    let list = read(&workspace().join("e2e/tests/e2e.rs"));
    let sources = sources();
    let mut wrong = Vec::new();
    let mut number = 0;
    let lines = page.lines().filter(|line| line.starts_with('|'));
    for name in lines.flat_map(quoted) {
        let Some((sort, test)) = name.split_once(' ') else {
            continue;
        };
        let exists = match sort {
            "golden" => golden(test).exists(),
            "e2e" => list.contains(&format!("    {test},")),
            "test" => {
                let function = test.rsplit("::").next().unwrap_or_default();
                sources.contains(&format!("fn {function}("))
            }
            _ => continue,
        };
        number += 1;
        if !exists {
            wrong.push(format!("there is no test `{name}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(number > 100, "only {number} tests are named");
}

#[test]
fn one_of_the_tests_of_a_row_sets_its_fields() {
    let page = page();
    let rows = rows(&page);
    let mut wrong = Vec::new();
    for kind in schemas().keys() {
        for cells in rows.get(kind.as_str()).into_iter().flatten() {
            let inputs: Vec<String> = quoted(cells.last().copied().unwrap_or_default())
                .filter_map(input)
                .collect();
            for path in quoted(cells[0]) {
                let field = format!("{}: ", path.rsplit('.').next().unwrap_or_default());
                if !inputs.iter().any(|input| input.contains(&field)) {
                    wrong.push(format!("{kind}: no test of the row sets {path}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The input of a golden case.
fn golden(case: &str) -> PathBuf {
    workspace().join(format!("operator/tests/testdata/{case}.in.yaml"))
}

/// The text that has the manifests of a test; none of a test without any.
fn input(name: &str) -> Option<String> {
    let (sort, test) = name.split_once(' ')?;
    let path = match sort {
        "golden" => golden(test),
        "e2e" => {
            let module = test.split("::").next()?;
            workspace().join(format!("e2e/tests/e2e/{module}.rs"))
        }
        _ => return None,
    };
    fs::read_to_string(path).ok()
}

/// All sources in one text.
fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|name| workspace().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of this repository") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    text
}
