//! From the text of a file to reconciled objects, document by document.

use serde_json::Value;

use super::not_an_object;
use nuncio_core::{
    change::Reconciled,
    reconcile::{identify, reconcile},
    report::Reason,
    settings::Settings,
    variable::expanded,
};

/// The objects in a text. Documents are parsed one by one, so that an invalid one hides no other. Variables are replaced
/// before, so that `port: $PORT` is a number.
pub(super) fn documents(file: &str, text: &str, settings: &Settings) -> Vec<Reconciled> {
    split(text)
        .into_iter()
        .enumerate()
        .flat_map(|(index, (line, text))| {
            let place = format!("{file}#{}", index + 1);
            match parse(&expanded(text, &settings.variables)) {
                Ok(value) => objects(&place, value, settings),
                Err(error) => {
                    let message = not_yaml(line, &error);
                    vec![not_an_object(&place, Reason::NOT_YAML, &message)]
                }
            }
        })
        .collect()
}

/// One document. The parser's default limits protect from hostile input; they are raised for lists of thousands of
/// objects.
fn parse(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 8_000_000, max_events: 32_000_000 },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn objects(place: &str, value: Value, settings: &Settings) -> Vec<Reconciled> {
    if value.is_null() {
        return Vec::new(); // only comments
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
        Ok(kind) => {
            let found = reconcile(kind, value, settings);
            let elsewhere = settings
                .single_namespace
                .as_deref()
                .is_some_and(|only| only != &*found.object.namespace);
            if elsewhere { Vec::new() } else { vec![found] }
        }
        Err(problem) => {
            let mut report = not_an_object(place, problem.reason, &problem.message);
            report.problems = vec![problem];
            vec![report]
        }
    }
}

/// Documents with the number of their first line. A line `---` always ends a document: an unclosed quote or bracket
/// cannot swallow the documents that follow.
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

/// The error of the document that begins in this line of its file.
fn not_yaml(first: usize, error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = first_line(&text);
    // the parser counts lines from the start of the document
    let Some(location) = error.location() else {
        return format!("invalid YAML in the document at line {first}: {text}");
    };
    let line = first as u64 + location.line().saturating_sub(1);
    let column = location.column();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text, |(text, _place)| text);
    format!("invalid YAML at line {line}, column {column}: {text}")
}

fn first_line(text: &str) -> &str {
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or(text)
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let found = documents("a.yaml", text, &Settings::default());
        found
            .iter()
            .flat_map(|found| &found.problems)
            .map(|p| p.message.clone())
            .collect()
    }

    #[test]
    fn an_error_has_its_line_in_the_file() {
        for text in [
            "# one\n---\nkind: x\nspec: {a: [1, 2\n",
            "# one\n---\nkind: x\nspec: a: b\n",
        ] {
            assert!(
                message(text).starts_with("invalid YAML at line 4, column "),
                "{}",
                message(text)
            );
        }
    }

    #[test]
    fn variables_are_replaced_before_a_document_is_parsed() {
        let settings = Settings {
            variables: [("PORT".to_owned(), "8080".to_owned())].into(),
            ..Settings::default()
        };
        let listener = |port: &str| {
            let text = format!(
                "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: '$PORT$X'}}\nspec: {{port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}"
            );
            documents("a.yaml", &text, &settings)
        };
        let found = listener("${PORT}");
        assert_eq!(found, listener("8080"));
        assert_eq!(&*found[0].object.name, "8080$X");
        assert!(found[0].fragment.is_some(), "{:?}", found[0].problems);
    }

    #[test]
    fn a_list_of_many_thousand_objects_is_within_the_limits() {
        let list = format!("items: [{}]", "1,".repeat(300_000));
        assert_eq!(
            parse(&list).unwrap()["items"].as_array().map(Vec::len),
            Some(300_000)
        );
    }

    #[test]
    fn an_alias_bomb_is_rejected() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{},", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(
            message(&text).contains("invalid YAML"),
            "{}",
            message(&text)
        );
    }
}
