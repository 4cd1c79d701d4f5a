//! Lua scripts are checked: Envoy rejects one that it cannot load, and every change of a listener while it has such a script.
//!
//! A script is accepted if LuaJIT 2.1, which Envoy uses, compiles it. There is no tree: [`token`] makes tokens, [`parse`] and
//! [`expression`] follow the grammar, and [`scope`] keeps what a jump may refer to. Where versions and builds of LuaJIT differ,
//! the script is accepted. So are scripts that exceed what its virtual machine can number (constants, registers, upvalues), and
//! of course those that load and fail later: at their top level, or with a request.
//!
//! Scripts may be hostile: nesting is limited as in LuaJIT, which bounds the stack, and the time is in proportion to the length.
//! `scripts_are_checked_as_in_envoy` of `e2e` compares the verdicts with those of Envoy.

mod expression;
mod number;
mod parse;
mod scope;
mod token;

/// Why a script is rejected, and where.
#[derive(Debug)]
struct Flaw {
    /// Offset in the script.
    at: usize,
    fact: String,
}

impl Flaw {
    fn new(at: usize, fact: impl Into<String>) -> Self {
        let fact = fact.into();
        Self { at, fact }
    }
}

/// Checks a script.
///
/// # Errors
/// The line, and why Envoy cannot load the script.
pub fn check(script: &str) -> Result<(), String> {
    // Envoy hands it over as a C string
    let script = script.split('\0').next().unwrap_or_default();
    parse::script(script).map_err(|Flaw { at, fact }| {
        let line = line(script, at);
        format!("syntax error in line {line}: {fact}")
    })
}

/// The line of an offset, counted as in LuaJIT: two different line ends in a row are one.
fn line(script: &str, at: usize) -> usize {
    let is_end = |byte: u8| byte == b'\n' || byte == b'\r';
    let mut bytes = script.bytes().take(at).peekable();
    let mut line = 1;
    while let Some(byte) = bytes.next() {
        if is_end(byte) {
            line += 1;
            bytes.next_if(|next| is_end(*next) && *next != byte);
        }
    }
    line
}

#[cfg(test)]
mod tests;
