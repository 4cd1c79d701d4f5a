//! Fields with another name, and those that take a string or a list.

use serde_json::{Map, Value};

/// Gives a field another name.
pub(super) fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

/// Makes a list of one item out of a string.
pub(super) fn list(map: &mut Map<String, Value>, field: &str) {
    if let Some(value @ Value::String(_)) = map.get_mut(field) {
        *value = Value::Array(vec![value.take()]);
    }
}

/// The object in a field.
pub(super) fn object<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field)?.as_object_mut()
}
