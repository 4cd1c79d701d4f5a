//! The arguments of operators, in brackets. An empty argument is the same as none.

use nuncio_ir::EnvoyVersion;
use serde::{Deserialize, Deserializer};

use super::operator;
use crate::reconcile::is_header_name;

/// The form of an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// No argument.
    None,
    /// An optional text that has no effect if Envoy does not know it.
    Ignored,
    /// An optional format of a time.
    Time,
    /// A header name, or two with a question mark between them.
    Header,
    /// A text that is not empty.
    Text,
    /// As [`Self::Text`], for operators that do not shorten their text.
    Key,
    /// An optional `WQ` or `NQ`, with or without the query, and where the path comes from.
    Path,
    /// An optional `ORIG` or `DECODED`.
    Query,
    /// An optional format of a gRPC status.
    Status,
    /// Two points in time, and an optional unit.
    Duration,
    /// An optional order of server name and host, and where the host comes from.
    ServerName,
    /// A kind of metadata, and keys.
    Metadata,
    /// A key, and an optional form.
    FilterState,
    /// JSON with a list of operators, the first of which that has a value is used.
    Coalesce,
}

impl Argument {
    /// Whether an operator with such an argument can shorten its text.
    pub(super) const fn allows_length(self) -> bool {
        match self {
            Self::Header
            | Self::Text
            | Self::Path
            | Self::Query
            | Self::Metadata
            | Self::FilterState
            | Self::Coalesce => true,
            Self::None
            | Self::Ignored
            | Self::Time
            | Self::Key
            | Self::Status
            | Self::Duration
            | Self::ServerName => false,
        }
    }

    /// Checks an argument.
    ///
    /// # Errors
    /// What Envoy would reject.
    pub(super) fn check(self, text: &str, envoy: EnvoyVersion) -> Result<(), String> {
        let mut parts = text.split(':');
        let mut part = || parts.next().unwrap_or_default();
        match self {
            Self::Ignored => Ok(()),
            Self::None if text.is_empty() => Ok(()),
            Self::None => Err("must be empty".to_owned()),
            Self::Time if !has_line_end(text) => Ok(()),
            Self::Time => Err("must not contain line ends".to_owned()),
            Self::Header => header_choice(text),
            Self::Text | Self::Key if !text.is_empty() => Ok(()),
            Self::Text | Self::Key => Err("must not be empty".to_owned()),
            Self::Path => {
                one_of(part(), &["", "WQ", "NQ"])?;
                one_of(part(), &["", "ORIG", "PATH", "ORIG_OR_PATH"])
            }
            Self::Query => one_of(text, &["", "ORIG", "DECODED"]),
            Self::Status => one_of(text, &["", "CAMEL_STRING", "SNAKE_STRING", "NUMBER"]),
            Self::Duration => match (part(), parts.next(), parts.next(), parts.next()) {
                (_, Some(_), unit, None) => one_of(unit.unwrap_or("ms"), &["ms", "us", "ns"]),
                _ => Err("use start:end or start:end:unit".to_owned()),
            },
            Self::ServerName => {
                one_of(part(), &["", "SNI_ONLY", "SNI_FIRST", "HOST_FIRST"])?;
                one_of(part(), &["", "ORIG", "HOST", "ORIG_OR_HOST"])
            }
            Self::Metadata => one_of(part(), &METADATA),
            Self::FilterState => match (part(), part(), part()) {
                ("", _, _) => Err("the key must not be empty".to_owned()),
                (_, "FIELD", "") => Err("FIELD must be followed by a name".to_owned()),
                (_, "FIELD", _) => Ok(()),
                (_, form, "") => one_of(form, &["", "PLAIN", "TYPED", "FIELD"]),
                (_, _, name) => Err(format!("unexpected {name:?}")),
            },
            Self::Coalesce => coalesce(text, envoy),
        }
    }
}

/// Kinds of metadata.
const METADATA: [&str; 7] = [
    "DYNAMIC",
    "CLUSTER",
    "ROUTE",
    "UPSTREAM_HOST",
    "LISTENER",
    "LISTENER_FILTER_CHAIN",
    "VIRTUAL_HOST",
];

fn one_of(text: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&text) {
        return Ok(());
    }
    let known: Vec<&str> = known
        .iter()
        .copied()
        .filter(|one| !one.is_empty())
        .collect();
    Err(format!("{text:?} must be one of {}", known.join(", ")))
}

/// Whether the format of a time has a conversion to a line end, `%n`, in any of its forms: headers must not have one.
fn has_line_end(format: &str) -> bool {
    let conversions = format.split('%').skip(1);
    let is_form = |character: char| "-_0^#123456789EO".contains(character);
    conversions
        .map(|conversion| conversion.trim_start_matches(is_form))
        .any(|conversion| conversion.starts_with('n'))
}

fn header_choice(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let names: Vec<&str> = text.split('?').collect();
    if names.len() > 2 {
        return Err("only one alternative is supported".to_owned());
    }
    let is_name =
        |name: &&str| name.is_empty() || is_header_name(name.strip_prefix(':').unwrap_or(name));
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!("invalid header name {name:?}")),
        None => Ok(()),
    }
}

/// The argument of `COALESCE`. A field that occurs twice is an error, so that Envoy cannot read another one.
#[derive(Deserialize)]
struct Choice {
    operators: Vec<Operator>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Operator {
    Name(String),
    Call {
        command: String,
        #[serde(default, deserialize_with = "present")]
        param: Option<String>,
        #[serde(default, deserialize_with = "present")]
        max_length: Option<i64>,
    },
}

/// A value that must not be null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn coalesce(text: &str, envoy: EnvoyVersion) -> Result<(), String> {
    let choice: Choice = serde_json::from_str(text)
        .map_err(|error| format!("must be JSON as {{\"operators\": [\"PATH\"]}}: {error}"))?;
    if choice.operators.is_empty() {
        return Err("operators must not be empty".to_owned());
    }
    choice.operators.iter().try_for_each(|called| match called {
        Operator::Name(name) => operator::check(name, "", false, envoy),
        Operator::Call {
            max_length: Some(..=0),
            ..
        } => Err("max_length must be at least 1".to_owned()),
        Operator::Call {
            command,
            param,
            max_length,
        } => operator::check(
            command,
            param.as_deref().unwrap_or_default(),
            max_length.is_some(),
            envoy,
        ),
    })
}
