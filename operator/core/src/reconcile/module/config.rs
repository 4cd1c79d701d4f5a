//! Reads keys of a map that no schema has checked. A wrong value affects its key alone: it gets a problem with its path
//! and with what is used instead, and so does each key that nobody has read.
//!
//! Texts stand for booleans and numbers, too: the values of environment variables are texts.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use nuncio_ir::EnvoyVersion;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    object::Kind,
    reconcile::{duration, ignored, outcome, parse, replaced},
    report::{Problem, Reason},
};

/// Texts that mean true and false, in lower case.
const TRUE: [&str; 6] = ["y", "yes", "t", "true", "on", "1"];
const FALSE: [&str; 6] = ["n", "no", "f", "false", "off", "0"];

/// A map, with the keys that have been read and the problems that were found.
pub(super) struct Config<'a> {
    fields: &'a Map<String, Value>,
    path: String,
    envoy: EnvoyVersion,
    read: BTreeSet<&'a str>,
    problems: Vec<Problem>,
}

impl<'a> Config<'a> {
    pub(super) fn new(
        fields: &'a Map<String, Value>,
        path: impl Into<String>,
        envoy: EnvoyVersion,
    ) -> Self {
        Self {
            fields,
            path: path.into(),
            envoy,
            read: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// The problems that were found, with one for each key that nobody has read.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let fields = self.fields.keys();
        let unknown = fields.filter(|key| !self.read.contains(key.as_str()));
        for key in unknown {
            let path = self.path(key);
            let message = format!("unknown field {path}; ignored");
            let problem = Problem::ignored(Reason::UNKNOWN_FIELD, path, message);
            self.problems.push(problem);
        }
        self.problems
    }

    /// The keys that have been read, whether they are there or not.
    pub(super) fn read(&self) -> impl Iterator<Item = &'a str> {
        self.read.iter().copied()
    }

    /// Envoys of this version and later have to accept it.
    pub(super) const fn envoy(&self) -> EnvoyVersion {
        self.envoy
    }

    /// The path of a key.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn report_all(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// Reports that the value of a key is ignored.
    pub(super) fn ignore(&mut self, key: &str, fact: impl Display) {
        let problem = ignored(self.path(key), fact);
        self.problems.push(problem);
    }

    /// Reports what is used instead of the value of a key.
    pub(super) fn replace(&mut self, key: &str, fact: impl Display, instead: impl Display) {
        let problem = replaced(self.path(key), fact, instead);
        self.problems.push(problem);
    }

    /// Reports that a key has no effect, and why.
    pub(super) fn without_effect(&mut self, key: &'static str, reason: impl Display) {
        if self.value(key).is_some() {
            let message = format!("no effect: {reason}");
            let problem = Problem::notice(Reason::WITHOUT_EFFECT, self.path(key), message);
            self.problems.push(problem);
        }
    }

    /// All keys with their values; none of them is unknown.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.read.extend(self.fields.keys().map(String::as_str));
        self.fields.iter()
    }

    /// A value; null is the same as none.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read.insert(key);
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.optional_boolean(key, &default).unwrap_or(default)
    }

    /// A boolean, and what is used instead of a wrong one.
    pub(super) fn optional_boolean(
        &mut self,
        key: &'static str,
        instead: &dyn Display,
    ) -> Option<bool> {
        let value = self.value(key)?;
        let found = boolean(value);
        if found.is_none() {
            self.replace(key, "must be true or false", instead);
        }
        found
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.value(key)?;
        let found = value.as_str();
        if found.is_none() {
            self.ignore(key, "must be a text");
        }
        found.filter(|text| !text.is_empty())
    }

    /// One of several texts; `None` without one, or with another one, instead of which the first is used.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let value = self.value(key)?;
        let text = value.as_str().unwrap_or_default();
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let fact = format!("must be one of {}", names.join(", "));
            self.replace(key, fact, choices[0].0);
        }
        found.map(|(_, choice)| *choice)
    }

    /// An integer within limits.
    pub(super) fn number(&mut self, key: &'static str, limits: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let found = number::<u32>(value).filter(|number| limits.contains(number));
        if found.is_none() {
            let (least, most) = limits.into_inner();
            self.ignore(key, format!("must be an integer from {least} to {most}"));
        }
        found
    }

    /// A time in milliseconds.
    pub(super) fn milliseconds(
        &mut self,
        key: &'static str,
        instead: &dyn Display,
    ) -> Option<Duration> {
        let value = self.value(key)?;
        let Some(found) = number(value) else {
            self.replace(key, "must be a number of milliseconds", instead);
            return None;
        };
        let path = self.path(key);
        Some(duration::milliseconds(&path, found, &mut self.problems))
    }

    /// A map.
    pub(super) fn map(&mut self, key: &'static str) -> Option<&'a Map<String, Value>> {
        let value = self.value(key)?;
        let found = value.as_object();
        if found.is_none() {
            self.ignore(key, "must be a map");
        }
        found
    }

    /// Reads the keys of a map.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let fields = self.map(key)?;
        let mut section = Config::new(fields, self.path(key), self.envoy);
        let found = read(&mut section);
        self.problems.extend(section.finish());
        Some(found)
    }

    /// The texts of a list; a text alone stands for a list of it.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let items = match value {
            Value::String(text) => return Some(vec![text.clone()]),
            Value::Array(items) => items,
            _ => {
                self.ignore(key, "must be a list of texts");
                return None;
            }
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.ignore(&format!("{key}[{index}]"), "must be a text"),
            }
        }
        Some(texts)
    }

    /// The value of a key in the type that fields of other objects have.
    pub(super) fn typed<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let value = self.value(key)?.clone();
        self.convert(key, value)
    }

    /// A value in the type that fields of other objects have.
    pub(super) fn convert<T: DeserializeOwned>(&mut self, key: &str, value: Value) -> Option<T> {
        match parse::object(value, Kind::Module, &self.path(key)) {
            Ok((found, unknown)) => {
                self.problems.extend(unknown);
                Some(found)
            }
            Err(problem) => {
                let end = format!("; {}", outcome(Kind::Module));
                let fact = problem.message.trim_end_matches(&end);
                let message = format!("{fact}; {key} is ignored");
                let reason = Reason::PARTIALLY_INVALID;
                let problem = Problem::ignored(reason, problem.path, message);
                self.problems.push(problem);
                None
            }
        }
    }
}

fn boolean(value: &Value) -> Option<bool> {
    let text = match value {
        Value::Bool(found) => return Some(*found),
        Value::String(text) => text.to_ascii_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if TRUE.contains(&text.as_str()) {
        return Some(true);
    }
    FALSE.contains(&text.as_str()).then_some(false)
}

/// An integer, which may be written as a text.
pub(super) fn number<T: FromStr + TryFrom<u64>>(value: &Value) -> Option<T> {
    match value {
        Value::Number(number) => T::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
