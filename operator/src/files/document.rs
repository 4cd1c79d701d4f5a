//! From the text of a file to reconciled objects, document by document.

use serde_json::Value;

use super::not_an_object;
use crate::{
    change::Reconciled,
    reconcile::{identify, reconcile},
    settings::Settings,
};

/// The objects in a text. Documents are parsed one by one, so that one that is no YAML hides no other.
pub(super) fn documents(file: &str, text: &str, settings: &Settings) -> Vec<Reconciled> {
    split(text)
        .into_iter()
        .enumerate()
        .flat_map(|(index, (line, text))| {
            let place = format!("{file}#{}", index + 1);
            match serde_saphyr::from_str::<Value>(text) {
                Ok(value) => objects(&place, value, settings),
                Err(error) => {
                    let message = format!(
                        "the document that begins in line {line} is no YAML: {}",
                        first_line(&error.to_string())
                    );
                    vec![not_an_object(&place, "NotYaml", &message)]
                }
            }
        })
        .collect()
}

fn objects(place: &str, value: Value, settings: &Settings) -> Vec<Reconciled> {
    if value.is_null() {
        return Vec::new(); // nothing but comments
    }
    if value["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"))
        && value["items"].is_array()
    {
        let Some(Value::Array(items)) = value.get("items").cloned() else {
            return Vec::new();
        };
        let item = |(index, item)| objects(&format!("{place}.{}", index + 1), item, settings);
        return items.into_iter().enumerate().flat_map(item).collect();
    }
    match identify(&value) {
        Ok(kind) => vec![reconcile(kind, value, settings)],
        Err(problem) => {
            let mut report = not_an_object(place, problem.reason, &problem.message);
            report.problems = vec![problem];
            vec![report]
        }
    }
}

/// Documents with the number of their first line. A document ends at a line `---`, wherever the one before it stands:
/// a broken one cannot swallow those behind it.
fn split(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || line.starts_with("--- ") {
            documents.push((first, &text[start..offset]));
            start = offset + if bare == "---" { line.len() } else { 4 };
            first = index + 2;
        }
        offset += line.len();
    }
    documents.push((first, &text[start..]));
    documents.retain(|(_, text)| !text.trim().is_empty());
    documents
}

fn first_line(text: &str) -> &str {
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or(text)
        .trim()
}
