use std::time::{Duration, Instant};

use serde::Deserialize;

use super::check;

#[derive(Deserialize)]
struct Scripts {
    loads: Vec<String>,
    fails: Vec<(String, String)>,
}

fn scripts() -> Scripts {
    serde_saphyr::from_str(include_str!("../../../tests/testdata/lua.yaml")).unwrap()
}

#[test]
fn scripts_that_luajit_loads_are_accepted() {
    for script in scripts().loads {
        assert_eq!(check(&script), Ok(()), "{script}");
    }
}

#[test]
fn others_are_reported_with_their_line() {
    for (script, message) in scripts().fails {
        let found = check(&script).unwrap_err();
        assert!(found.starts_with("syntax error in line "), "{found}");
        assert!(found.contains(&message), "{script:?}: {found}");
    }
}

#[test]
fn a_script_ends_where_its_c_string_does() {
    assert_eq!(check("x = 1\0)"), Ok(()));
    assert!(check("x = \0 1").is_err());
}

/// `before`, again and again, around a middle.
fn nested(before: &str, middle: &str, after: &str, count: usize) -> String {
    before.repeat(count) + middle + &after.repeat(count)
}

#[test]
fn nesting_is_limited_as_in_luajit() {
    for (before, after, most) in [
        ("do ", " end", 198),
        ("if x then ", " end", 198),
        ("while x do ", " end", 198),
        ("f(function() ", " end)", 99),
    ] {
        let script = |count| nested(before, "", after, count);
        assert_eq!(check(&script(most)), Ok(()), "{before}");
        assert!(check(&script(most + 1)).is_err(), "{before}");
    }
    for (before, after) in [
        ("(", ")"),
        ("{", "}"),
        ("not ", ""),
        ("- ", ""),
        ("f(", ")"),
    ] {
        let script = |count| format!("x = {}", nested(before, "1", after, count));
        assert_eq!(check(&script(197)), Ok(()), "{before}");
        let found = check(&script(198)).unwrap_err();
        assert!(found.contains("more than 200 levels"), "{found}");
    }
    for operator in ["..", "^"] {
        let script = |count| format!("x = {}1", format!("1 {operator} ").repeat(count));
        assert_eq!(check(&script(197)), Ok(()), "{operator}");
        assert!(check(&script(198)).is_err(), "{operator}");
        let left = format!("x = {}1", "1 + ".repeat(100_000));
        assert_eq!(check(&left), Ok(()), "it does not nest");
    }
}

#[test]
fn hostile_scripts_take_neither_stack_nor_time() {
    const COUNT: usize = 100_000;
    let started = Instant::now();
    for part in [
        "(",
        "{",
        "[",
        "[=",
        "[[",
        "--[[",
        "not ",
        "-",
        "do ",
        "if x then ",
        "f(function() ",
        "x = {",
        "x = function() ",
        "while x do ",
        "repeat ",
        "::a:: ",
        "goto a ",
        "a, ",
        "local a ",
        "f",
        "f'",
        "\\",
        "'\\",
        "\"\\u{",
        "1 .. ",
        "0x",
        "1e",
        "{a,",
        "{a='",
        "x = {a='', ",
        "end ",
        ")",
        "\n",
        "::l",
        "é",
        "elseif x then ",
    ] {
        for before in ["", "x = ", "x = '"] {
            let _ = check(&format!("{before}{}", part.repeat(COUNT)));
        }
    }
    for pieces in [
        |n: usize| format!("::l{n}:: "),
        |n: usize| format!("goto l{n} "),
        |n: usize| format!("do goto l{n} end "),
    ] {
        let script: String = (0..COUNT).map(pieces).collect();
        let _ = check(&script);
    }
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_function_has_at_most_200_local_variables() {
    assert_eq!(check(&"local x ".repeat(200)), Ok(()));
    let found = check(&"local x ".repeat(201)).unwrap_err();
    assert!(found.contains("more than 200 local variables"), "{found}");
    assert_eq!(
        check(&format!(
            "{}do {} end",
            "local x ".repeat(199),
            "do local y end ".repeat(9)
        )),
        Ok(())
    );
}

#[test]
fn damaged_scripts_are_no_reason_to_panic() {
    for script in scripts().loads {
        for (at, _) in script.char_indices() {
            let _ = check(&script[..at]);
            let _ = check(&script[at..]);
        }
    }
}
