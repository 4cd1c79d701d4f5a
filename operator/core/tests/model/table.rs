//! What is compared: the routes of each hostname, in matching order, and what a request gets of them.

use std::{cell::RefCell, collections::BTreeMap};

use regex::Regex;

/// A path that is neither redirected to https nor rejected.
const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// The routes of one hostname.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// A name, or a glob with a wildcard at one end; either may have a port.
    pub(crate) domain: String,
    pub(crate) insecure: Answer,
    pub(crate) entries: Vec<Entry>,
}

/// What is done with requests that are not secure, as all are here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Route,
    Redirect,
    Reject,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) path: Text,
    pub(crate) case_sensitive: bool,
    pub(crate) authority: Option<Text>,
    /// Sorted by name, then exact ones first: their order does not change what they match.
    pub(crate) headers: Vec<(String, Text)>,
    pub(crate) query: Vec<(String, Text)>,
    /// Requests whose random number is below.
    pub(crate) below: u32,
    pub(crate) to: To,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Text {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(String),
}

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum To {
    /// The service of the Mapping with this number, and that of another, which gets copies.
    Service(usize, Option<usize>),
    /// The client is sent to the host of the Mapping with this number.
    Redirect(usize),
    /// 503
    Unavailable,
    /// Redirect to https
    Https,
    /// 404
    Nothing,
}

/// A request. Its random number decides between shares.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) authority: &'static str,
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) query: Vec<(&'static str, &'static str)>,
    pub(crate) random: u32,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) | Self::Regex(text) => text,
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => text == expected,
            Self::Prefix(start) => text.starts_with(start),
            Self::Suffix(end) => text.len() > end.len() && text.ends_with(end),
            Self::Regex(pattern) => is_match(pattern, text),
        }
    }

    /// The same, regardless of case. Envoy compares regexes as they are.
    fn matches_any_case(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        match self {
            Self::Exact(expected) => lower == expected.to_ascii_lowercase(),
            Self::Prefix(start) => lower.starts_with(&start.to_ascii_lowercase()),
            Self::Suffix(end) => {
                lower.len() > end.len() && lower.ends_with(&end.to_ascii_lowercase())
            }
            Self::Regex(_) => self.matches(text),
        }
    }
}

impl Entry {
    fn matches(&self, request: &Request) -> bool {
        let path = if self.case_sensitive {
            self.path.matches(request.path)
        } else {
            self.path.matches_any_case(request.path)
        };
        let authority = self
            .authority
            .as_ref()
            .is_none_or(|expected| expected.matches_any_case(request.authority));
        let headers = self.headers.iter().all(|(name, expected)| {
            request
                .header(name)
                .is_some_and(|value| expected.matches(value))
        });
        let query = self.query.iter().all(|(name, expected)| {
            let found = request.query.iter().find(|(of, _)| of == name);
            found.is_some_and(|(_, value)| expected.matches(value))
        });
        path && authority && headers && query && request.random < self.below
    }

    fn is_acme_challenge(&self) -> bool {
        self.path == Text::Prefix(ACME_CHALLENGE.to_owned())
    }
}

impl Request {
    fn header(&self, name: &str) -> Option<&'static str> {
        match name {
            ":method" => Some(self.method),
            ":authority" => Some(self.authority),
            _ => self
                .headers
                .iter()
                .find(|(of, _)| *of == name)
                .map(|(_, value)| *value),
        }
    }

    /// The name that chooses the Host (decision 14).
    fn name(&self) -> String {
        let (name, _) = name_and_port(self.authority);
        name.trim_end_matches('.').to_ascii_lowercase()
    }

    fn port(&self) -> Option<&'static str> {
        name_and_port(self.authority).1
    }
}

/// Whether the whole text matches.
fn is_match(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<BTreeMap<String, Regex>> = const { RefCell::new(BTreeMap::new()) };
    }
    COMPILED.with_borrow_mut(|compiled| {
        let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| {
            let whole = format!("^(?:{pattern})$");
            Regex::new(&whole).expect("only valid patterns are served")
        });
        regex.is_match(text)
    })
}

/// What this request gets.
pub(crate) fn evaluate(tables: &[Table], request: &Request) -> To {
    let Some(table) = choose(tables, &request.name(), request.port()) else {
        return To::Nothing;
    };
    for entry in &table.entries {
        if !entry.matches(request) {
            continue;
        }
        match table.insecure {
            _ if entry.is_acme_challenge() => return entry.to,
            Answer::Route => return entry.to,
            Answer::Redirect => return To::Https,
            Answer::Reject => {}
        }
    }
    To::Nothing
}

fn name_and_port(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    }
}

/// The table of a name: the exact one, else that with the longest suffix, else that with the longest prefix, else `*`. A
/// hostname with a port is only for that port, and there comes before the same one without (decision 14).
fn choose<'a>(tables: &'a [Table], name: &str, port: Option<&str>) -> Option<&'a Table> {
    let mut best: Option<((u8, usize, bool), &Table)> = None;
    for table in tables {
        let (glob, only) = name_and_port(&table.domain);
        let kind = if glob == "*" {
            0
        } else if let Some(end) = glob.strip_prefix('*') {
            if name.len() <= end.len() || !name.ends_with(end) {
                continue;
            }
            2
        } else if let Some(start) = glob.strip_suffix('*') {
            if name.len() <= start.len() || !name.starts_with(start) {
                continue;
            }
            1
        } else if glob == name {
            3
        } else {
            continue;
        };
        if only.is_some() && only != port {
            continue;
        }
        let rank = (kind, glob.len(), only.is_some());
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, table));
        }
    }
    best.map(|(_, table)| table)
}
