//! `config/COMPATIBILITY.md` is complete and names real tests: every field of the schemas has a row under its kind, every
//! named test exists, and golden cases set the fields of the rows that name them.
//!
//! End-to-end tests build their manifests in Rust, so only their existence is checked; each row needs a golden case
//! that sets its fields.

#[path = "compatibility/named_test.rs"]
mod named_test;
#[path = "compatibility/schema.rs"]
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use named_test::NamedTest;
use nuncio_core::reconcile::module::keys;
use schema::schemas;
use serde_json::Value;

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

/// Cells of the rows of each table, by the heading above it, which is a kind where the table lists fields.
fn rows(page: &str) -> BTreeMap<&str, Vec<Vec<&str>>> {
    let mut rows: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let mut heading = None;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix('#') {
            heading = Some(text.trim_start_matches('#').trim());
        } else if line.starts_with('|')
            && let Some(heading) = heading
        {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let is_head = ["field", "key"].contains(&cells[0]) || cells[0].starts_with("---");
            if !is_head {
                rows.entry(heading).or_default().push(cells);
            }
        }
    }
    rows
}

#[test]
fn every_field_has_a_row() {
    let page = page();
    let rows = rows(&page);
    let mut wrong = Vec::new();
    for (kind, schema) in schemas() {
        let rows = rows.get(kind.as_str()).into_iter().flatten();
        let named: BTreeSet<&str> = rows.flat_map(|cells| quoted(cells[0])).collect();
        let fields = schema.fields();
        for (path, has_below) in &fields {
            let is_top = !path.contains('.');
            if (is_top || !has_below) && !named.contains(path.as_str()) {
                wrong.push(format!("{kind} has no row for the field {path}"));
            }
        }
        for path in named {
            if !fields.contains_key(path) {
                wrong.push(format!("{kind} has a row for the unknown field {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_has_four_cells_and_a_test() {
    let page = page();
    let rows = rows(&page);
    let mut wrong = Vec::new();
    for kind in schemas().keys() {
        for cells in rows.get(kind.as_str()).into_iter().flatten() {
            let is_whole = cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty());
            if !is_whole || quoted(cells[3]).next().is_none() {
                wrong.push(format!("{kind}: {}", cells.join(" | ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_named_test_exists() {
    let page = page();
    let tests: Vec<NamedTest<'_>> = page
        .lines()
        .flat_map(quoted)
        .filter_map(NamedTest::parse)
        .collect();
    let missing: BTreeSet<String> = tests
        .iter()
        .filter(|test| !test.exists())
        .map(ToString::to_string)
        .collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
    assert!(tests.len() > 100, "only {} tests are named", tests.len());
}

#[test]
fn golden_cases_set_the_fields_of_their_rows() {
    let page = page();
    let rows = rows(&page);
    let mut wrong = Vec::new();
    for (kind, schema) in schemas() {
        for cells in rows.get(kind.as_str()).into_iter().flatten() {
            let fields: BTreeSet<&str> = quoted(cells[0]).collect();
            let mut unset = fields.clone();
            for test in quoted(cells[3]).filter_map(NamedTest::parse) {
                let Some(objects) = test.objects(&kind) else {
                    continue;
                };
                let set: BTreeSet<String> = objects
                    .iter()
                    .flat_map(|object| schema.fields_set_by(&object["spec"]))
                    .collect();
                unset.retain(|field| !set.contains(*field));
                if fields.iter().all(|field| !set.contains(*field)) {
                    wrong.push(format!("`{test}` sets none of {kind} {fields:?}"));
                }
            }
            if !unset.is_empty() {
                wrong.push(format!("no golden case of the row sets {kind} {unset:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The keys of a Module are not in its schema.
#[test]
fn every_key_of_the_module_has_a_row_with_a_golden_case() {
    let page = page();
    let rows = rows(&page);
    let mut missing = keys();
    let mut wrong = Vec::new();
    for cells in rows.get("Keys of the Module").into_iter().flatten() {
        if cells.len() != 4 || cells.iter().any(|cell| cell.is_empty()) {
            wrong.push(format!("not four cells: {}", cells.join(" | ")));
            continue;
        }
        let tests = quoted(cells[3]).filter_map(NamedTest::parse);
        let objects = tests.filter_map(|test| test.objects("Module"));
        let objects: Vec<Value> = objects.flatten().collect();
        let is_set = |key: &&str| {
            let set = |object: &Value| !object["spec"]["config"][*key].is_null();
            objects.iter().any(set)
        };
        for key in quoted(cells[0]) {
            if !missing.remove(key) {
                wrong.push(format!("unknown key, or one with two rows: {key}"));
            }
        }
        let unset: Vec<&str> = quoted(cells[0]).filter(|key| !is_set(key)).collect();
        if !unset.is_empty() {
            wrong.push(format!("no golden case of the row sets {unset:?}"));
        }
    }
    wrong.extend(
        missing
            .iter()
            .map(|key| format!("no row for the key {key}")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
