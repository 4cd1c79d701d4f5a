//! Reads patterns as JSON strings, one a line, and prints the size of each one's program, or `!` and what is wrong with
//! it. `e2e/tools/re2/compare` compares this with RE2 itself.

#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::io::{self, BufRead};

use nuncio_core::reconcile::regex::program_size;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in io::stdin().lock().lines() {
        let pattern: String = serde_json::from_str(&line?)?;
        match program_size(&pattern) {
            Ok(size) => println!("{size}"),
            Err(flaw) => println!("!{flaw}"),
        }
    }
    Ok(())
}
