//! Tables in Markdown, written to standard output row by row.
#![expect(clippy::print_stdout, reason = "the results of the benchmark")]

/// Starts a table with this title. Numbers stand to the right, except in columns of `texts`.
pub(super) fn head(title: &str, columns: &[&str], texts: &[&str]) {
    let rules: Vec<&str> = columns
        .iter()
        .map(|column| {
            if texts.contains(column) {
                "---"
            } else {
                "---:"
            }
        })
        .collect();
    println!("\n{title}\n");
    println!("| {} |", columns.join(" | "));
    println!("| {} |", rules.join(" | "));
}

/// Adds a row.
pub(super) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}
