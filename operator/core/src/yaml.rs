//! Texts with several YAML documents, which are parsed one by one, so that an invalid one hides no other.

/// Documents with the number of their first line. A line `---` always ends a document: an unclosed quote or bracket
/// cannot swallow the documents that follow.
#[must_use]
pub fn split(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || line.starts_with("--- ") {
            documents.extend(text.get(start..offset).map(|text| (first, text)));
            start = offset + if bare == "---" { line.len() } else { 4 };
            first = index + 2;
        }
        offset += line.len();
    }
    documents.extend(text.get(start..).map(|text| (first, text)));
    documents.retain(|(_, text)| !text.trim().is_empty());
    documents
}

/// The error of the document that begins in this line of its text.
#[must_use]
pub fn invalid(first: usize, error: &serde_saphyr::Error) -> String {
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
