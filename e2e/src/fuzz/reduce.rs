//! From a batch to what of it is needed to show what is wrong.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::batch::Object;

/// Longest time for one reduction.
const LIMIT: Duration = Duration::from_secs(60);

/// A place in an object: names of fields and numbers of items.
type Place = Vec<String>;

/// Takes away objects, and then parts of them, as long as the same is still wrong.
pub(super) async fn reduce(
    mut objects: Vec<Object>,
    mut shows: impl AsyncFnMut(&[Object]) -> Result<bool>,
) -> Result<Vec<Object>> {
    let end = Instant::now() + LIMIT;
    objects = fewer(objects, end, &mut shows).await?;
    for number in 0..objects.len() {
        let mut index = 0;
        while let Some(place) = places(&objects[number].value["spec"]).get(index)
            && Instant::now() < end
        {
            let mut less = None;
            for value in smaller(&objects[number].value["spec"], place) {
                let mut fewer = objects.clone();
                fewer[number].value["spec"] = value;
                if shows(&fewer).await? {
                    less = Some(fewer);
                    break;
                }
            }
            match less {
                Some(fewer) => objects = fewer,
                None => index += 1,
            }
        }
    }
    // what was referred to by a field that is gone can go too
    fewer(objects, end, &mut shows).await
}

/// Takes away objects, many at a time at first.
async fn fewer(
    mut objects: Vec<Object>,
    end: Instant,
    shows: &mut impl AsyncFnMut(&[Object]) -> Result<bool>,
) -> Result<Vec<Object>> {
    let mut size = objects.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < objects.len() && Instant::now() < end {
            let mut fewer = objects.clone();
            fewer.drain(start..(start + size).min(objects.len()));
            if shows(&fewer).await? {
                objects = fewer;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    Ok(objects)
}

/// Every place of a value, what is outside before what is inside it.
fn places(value: &Value) -> Vec<Place> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let mut found = Vec::new();
    for (name, value) in inside {
        found.push(vec![name.clone()]);
        found.extend(
            places(value)
                .into_iter()
                .map(|place| [vec![name.clone()], place].concat()),
        );
    }
    found
}

/// The value without what is at a place, and with halves of a long text there.
fn smaller(value: &Value, place: &[String]) -> Vec<Value> {
    let mut without = value.clone();
    edit(&mut without, place, None);
    let mut found = vec![without];
    let text = place.iter().try_fold(value, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    });
    if let Some(Value::String(text)) = text
        && text.chars().count() > 16
    {
        let characters: Vec<char> = text.chars().collect();
        for half in characters.chunks(characters.len().div_ceil(2)) {
            let mut shorter = value.clone();
            edit(&mut shorter, place, Some(half.iter().collect()));
            found.push(shorter);
        }
    }
    found
}

/// Replaces the text at a place, or takes away what is there.
fn edit(value: &mut Value, place: &[String], text: Option<String>) {
    let Some((name, rest)) = place.split_first() else {
        if let Some(text) = text {
            *value = Value::String(text);
        }
        return;
    };
    let is_removed = rest.is_empty() && text.is_none();
    match value {
        Value::Object(fields) if is_removed => drop(fields.remove(name)),
        Value::Object(fields) => {
            if let Some(field) = fields.get_mut(name) {
                edit(field, rest, text);
            }
        }
        Value::Array(items) => {
            let Ok(index) = name.parse::<usize>() else {
                return;
            };
            if is_removed {
                items.remove(index);
            } else {
                edit(&mut items[index], rest, text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use nuncio_core::object::Kind;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_is_not_needed_is_taken_away() {
        let objects: Vec<Object> = (0..20)
            .map(|number| Object {
                kind: Kind::Mapping,
                value: json!({"spec": {"a": number, "b": [1, {"c": format!("{}!", "x".repeat(100))}]}}),
            })
            .collect();
        let shows = async |objects: &[Object]| {
            let is_it = |object: &Object| object.value["spec"]["b"].to_string().contains('!');
            Ok(objects.iter().any(is_it))
        };
        let reduced = reduce(objects, shows).await.unwrap();
        assert_eq!(reduced.len(), 1);
        let text = reduced[0].value["spec"].to_string();
        assert!(
            text.starts_with(r#"{"b":[{"c":""#) && text.len() < 40,
            "{text}"
        );
    }
}
