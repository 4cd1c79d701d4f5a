//! Keys of the access log.

use std::collections::BTreeMap;

use nuncio_ir::LogValue;
use serde_json::{Map, Value};

use super::config::Config;
use crate::{
    defaults::access_log::{Log, LogKind},
    reconcile::format,
};

/// Deepest nesting of a JSON format; Envoy parses 100 levels of messages.
const MAX_DEPTH: usize = 16;

/// Paths that are the standard streams of a process.
const OUTPUT: [&str; 3] = ["/dev/fd/1", "/dev/stdout", "/proc/self/fd/1"];
const ERROR: [&str; 3] = ["/dev/fd/2", "/dev/stderr", "/proc/self/fd/2"];

/// The log.
pub(super) fn log(config: &mut Config<'_>) -> Log {
    let kinds = [
        ("text", LogKind::Text),
        ("json", LogKind::Json),
        // Envoy 1.40 makes no difference
        ("typed_json", LogKind::Json),
    ];
    let kind = config.choice("envoy_log_type", &kinds);
    let kind = kind.unwrap_or(LogKind::Text);
    Log {
        path: path(config),
        kind,
        text: text(config, kind),
        fields: fields(config, kind),
    }
}

/// Envoy rejects a listener if it cannot open the file, so that only files are used that it always can open.
fn path(config: &mut Config<'_>) -> Option<&'static str> {
    const KEY: &str = "envoy_log_path";
    let Some(path) = config.text(KEY) else {
        return Some("/dev/stdout");
    };
    if OUTPUT.contains(&path) {
        Some("/dev/stdout")
    } else if ERROR.contains(&path) {
        Some("/dev/stderr")
    } else if path == "/dev/null" {
        None
    } else {
        let fact = "must be /dev/stdout, /dev/stderr or /dev/null";
        config.replace(KEY, fact, "/dev/stdout");
        Some("/dev/stdout")
    }
}

/// The format of a text log.
fn text(config: &mut Config<'_>, kind: LogKind) -> Option<String> {
    const KEY: &str = "envoy_log_format";
    let value = config.value(KEY).filter(|_| kind == LogKind::Text)?;
    let Some(text) = value.as_str() else {
        config.replace(KEY, "must be a text", "the built-in format");
        return None;
    };
    if let Err(fact) = format::check(text, config.envoy()) {
        config.replace(KEY, fact, "the built-in format");
        return None;
    }
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// The format of a JSON log.
fn fields(config: &mut Config<'_>, kind: LogKind) -> Option<BTreeMap<String, LogValue>> {
    const KEY: &str = "envoy_log_format";
    let value = config.value(KEY).filter(|_| kind != LogKind::Text)?;
    let Some(found) = value.as_object() else {
        config.replace(KEY, "must be a map", "the built-in format");
        return None;
    };
    Some(values(config, KEY, found, 0)).filter(|fields| !fields.is_empty())
}

/// The valid fields of a map.
fn values(
    config: &mut Config<'_>,
    at: &str,
    fields: &Map<String, Value>,
    depth: usize,
) -> BTreeMap<String, LogValue> {
    let mut found = BTreeMap::new();
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        let value = match value {
            Value::String(text) => match format::check(text, config.envoy()) {
                Ok(()) => LogValue::Text(text.clone()),
                Err(fact) => {
                    config.ignore(&at, fact);
                    continue;
                }
            },
            Value::Object(inner) if depth < MAX_DEPTH => {
                LogValue::Map(values(config, &at, inner, depth + 1))
            }
            _ => {
                let fact = format!("must be a text, or a map at most {MAX_DEPTH} levels deep");
                config.ignore(&at, fact);
                continue;
            }
        };
        found.insert(name.clone(), value);
    }
    found
}
