//! Objects that do not pass the schema: those that a file can hold, and an apiserver with another schema.

use serde_json::Value;

use super::value::Author;

/// Changes something of a value so that it is probably none that the schema has.
pub(super) fn spoil(value: &mut Value, author: &mut Author<'_>) {
    let deeper = author.random.percent(70);
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = &names[author.random.below(names.len())];
            if author.random.percent(15) {
                fields.remove(name);
            } else if let Some(field) = fields.get_mut(name) {
                spoil(field, author);
            }
        }
        Value::Object(fields) if author.random.percent(50) => {
            let name = author
                .random
                .pick(&["unknown", "", "spec", "a.b", "é", "0"]);
            let anything = author.anything(2);
            fields.insert(name.to_owned(), anything);
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let place = author.random.below(items.len());
            spoil(&mut items[place], author);
        }
        _ => *value = author.anything(3),
    }
}
