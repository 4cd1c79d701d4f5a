//! The command line of `kat-client`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// What `-help` prints.
pub const HELP: &str = "\
kat-client [-input FILE] [-output FILE]: send the queries of a JSON array, and write the array with the results

  -input FILE      the queries, instead of stdin
  -output FILE     the results, instead of stdout
  KAT_QUERY_LIMIT  number of queries in flight (default 25)

TLS is 1.2 and 1.3. minTLSv below v1.2 sets no bound; a query whose maxTLSv, cipherSuites or ecdhCurves leave nothing
supported gets an error. There are no suites without forward secrecy and no CurveP521. wss: works like ws:.
";

/// The parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Where the queries are; stdin by default.
    pub input: Option<PathBuf>,
    /// Where the results go; stdout by default.
    pub output: Option<PathBuf>,
    /// Whether only help is wanted.
    pub help: bool,
}

impl Arguments {
    /// Reads the arguments after the name of the program, which are written as Go programs have them.
    ///
    /// # Errors
    /// A flag that does not exist, or that has no value.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Self::default();
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix('-') else {
                bail!("unexpected argument {argument}: only flags are supported");
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = flag.split_once('=').unzip();
            let mut value = || {
                let value = value.map(str::to_owned).or_else(|| rest.next());
                value
                    .map(PathBuf::from)
                    .with_context(|| format!("{argument} needs a value"))
            };
            match name.unwrap_or(flag) {
                "input" => parsed.input = Some(value()?),
                "output" => parsed.output = Some(value()?),
                "h" | "help" => parsed.help = true,
                _ => bail!("unknown flag {argument}"),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_written_as_in_go() {
        for line in ["-input a -output b", "--input=a -output=b"] {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.input, Some("a".into()), "{line}");
            assert_eq!(arguments.output, Some("b".into()), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in ["-inputs a", "-input", "a"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
