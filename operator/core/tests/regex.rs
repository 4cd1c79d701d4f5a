//! Regular expressions: the same verdicts and sizes as RE2's, at a cost that is linear in the pattern's length.

use nuncio_core::reconcile::regex::{Flaw, MAX_PROGRAM_SIZE, program_size};

/// RE2's verdicts; the file says how they are made.
const TABLE: &str = include_str!("testdata/regex/re2.tsv");

#[test]
fn verdicts_and_sizes_are_those_of_re2() {
    let mut patterns = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let (pattern, verdict) = line.split_once('\t').unwrap();
        let pattern: String = serde_json::from_str(pattern).unwrap();
        let ours = program_size(&pattern);
        match verdict.parse::<usize>() {
            Ok(size) if size <= MAX_PROGRAM_SIZE => assert_eq!(ours, Ok(size), "{pattern}"),
            Ok(size) => assert_eq!(ours, Err(Flaw::TooLarge(size)), "{pattern}"),
            Err(_) => assert!(
                !matches!(ours, Ok(_) | Err(Flaw::TooLarge(_)) | Err(Flaw::TooComplex)),
                "{pattern}: RE2 says {verdict}, ours is {ours:?}"
            ),
        }
        patterns += 1;
    }
    assert!(patterns > 250, "{patterns} patterns");
}

/// A quadratic step takes minutes for one of these, and expanding counts takes a gigabyte.
#[test]
fn hostile_patterns_cost_little() {
    let many = 30_000;
    let nest = |open: &str, close: &str| open.repeat(many) + &close.repeat(many);
    let comb: Vec<String> = (1..300).map(|length| "a".repeat(length)).collect();
    let reversed: Vec<String> = comb.iter().rev().cloned().collect();
    let verdicts = [
        (nest("(?:", ")"), Ok(4)),
        (nest("(?:", "a*)"), Ok(5)),
        (nest("(?:a*", ")"), Ok(5)),
        (nest("(?:(?:)", ")"), Ok(4)),
        (nest("(", ")"), Err(Flaw::TooLarge(2 * many))),
        (nest("(?:a", ")"), Err(Flaw::TooLarge(many))),
        (nest("(?:", "|x*)"), Err(Flaw::TooComplex)),
        (nest("(?:|x*", ")"), Err(Flaw::TooLarge(many))),
        (nest("(?:|", ")"), Err(Flaw::TooComplex)),
        ("(".repeat(many), Err(Flaw::OpenGroup)),
        ("[[:".repeat(many), Err(Flaw::OpenClass)),
        ("(?P<".repeat(many), Err(Flaw::GroupName)),
        (format!("[{}]", "a-z".repeat(many)), Ok(5)),
        ("a{1000}".repeat(many), Err(Flaw::TooLarge(1000 * many))),
        (
            "^{2}".repeat(many) + &"x|^".repeat(many),
            Err(Flaw::TooLarge(many + 3)),
        ),
        ("((a{100}){100}){100}".to_owned(), Err(Flaw::RepeatSize)),
        ("(?:|){1000}".repeat(9), Ok(4)),
        (comb.join("|"), Ok(601)),
        (reversed.join("|"), Ok(601)),
    ];
    for (pattern, verdict) in verdicts {
        let start: String = pattern.chars().take(20).collect();
        assert_eq!(program_size(&pattern), verdict, "{start}…");
    }
}
