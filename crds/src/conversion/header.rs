//! Conditions of a Mapping on headers and query parameters. In the old versions `true` is any value; in `v3alpha1` that is the
//! regular expression `.*`.

use serde_json::{Map, Value};

use super::schema::{Schema, any, field, remove, values};

const ANY: &str = ".*";

/// Exact values, regular expressions, and the names that were `true`.
pub(super) const FIELDS: [[&str; 3]; 2] = [
    ["headers", "regex_headers", "v2BoolHeaders"],
    [
        "query_parameters",
        "regex_query_parameters",
        "v2BoolQueryParameters",
    ],
];

pub(super) fn to_hub(spec: &mut Map<String, Value>, [exact, regex, names]: [&str; 3]) {
    let Some(Value::Object(values)) = spec.get_mut(exact) else {
        return;
    };
    let was_empty = values.is_empty();
    let any = values.iter().filter(|(_, value)| **value == true);
    let any: Vec<String> = any.map(|(name, _)| name.clone()).collect();
    values.retain(|_, value| !matches!(value, Value::Bool(_) | Value::Null));
    if values.is_empty() && !was_empty {
        spec.remove(exact);
    }
    if any.is_empty() {
        return;
    }
    let patterns = spec.entry(regex).or_insert_with(|| Map::new().into());
    if let Value::Object(patterns) = patterns {
        for name in &any {
            patterns.entry(name).or_insert_with(|| ANY.into());
        }
        spec.insert(names.to_owned(), any.into());
    }
}

pub(super) fn from_hub(spec: &mut Map<String, Value>, [exact, regex, names]: [&str; 3]) {
    let Some(Value::Array(names)) = spec.remove(names) else {
        return;
    };
    for name in names.iter().filter_map(Value::as_str) {
        let is_exact = spec
            .get(exact)
            .is_some_and(|values| values.get(name).is_some());
        let Some(Value::Object(patterns)) = spec.get_mut(regex) else {
            return;
        };
        if is_exact || !patterns.contains_key(name) {
            continue;
        }
        if patterns.get(name).is_some_and(|pattern| pattern == ANY) {
            patterns.remove(name);
        }
        if patterns.is_empty() {
            spec.remove(regex);
        }
        let values = spec.entry(exact).or_insert_with(|| Map::new().into());
        if let Value::Object(values) = values {
            values.insert(name.to_owned(), Value::Bool(true));
        }
    }
}

/// Paths within `spec` of conditions that the hub does not have: old versions take `false` and null, which mean nothing.
pub(super) fn lost(spec: &Map<String, Value>, [exact, ..]: [&str; 3]) -> Vec<String> {
    let values = spec.get(exact).and_then(Value::as_object);
    let lost = values.into_iter().flatten();
    lost.filter(|(_, value)| **value == false || value.is_null())
        .map(|(name, _)| format!("{exact}.{name}"))
        .collect()
}

pub(super) fn schema(spec: &mut Schema, [exact, _, names]: [&str; 3]) {
    if let Some(value) = field(spec, exact).and_then(values) {
        any(value, "A value, or `true` for any value");
    }
    remove(spec, names);
}
