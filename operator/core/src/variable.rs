//! Environment variables in a Module, in the address of a ConsulResolver, and in manifests from files: `$NAME` and `${NAME}` of
//! variables that are set are replaced by their values. Nowhere else: who may write a Mapping in a cluster must not read the environment of the operator.

use std::borrow::Cow;

use serde_json::Value;

use crate::settings::Variables;

/// Replaces variables in every text.
pub(crate) fn expand(value: &mut Value, variables: &Variables) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(expanded) = expanded(text, variables) {
                *text = expanded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| expand(item, variables)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| expand(field, variables)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with values; what names no variable stays as it is.
#[must_use]
pub fn expanded<'a>(text: &'a str, variables: &Variables) -> Cow<'a, str> {
    let mut result = String::new();
    let mut rest = text;
    let mut copied = 0;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let (name, length) = name(after);
        let start = text.len() - rest.len() + at;
        match variables.get(name) {
            Some(value) => {
                result.push_str(&text[copied..start]);
                result.push_str(value);
                copied = start + 1 + length;
                rest = &text[copied..];
            }
            None => rest = after,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    result.push_str(&text[copied..]);
    Cow::Owned(result)
}

/// The name after a dollar sign, and how long it is with its braces; empty: it is none.
fn name(text: &str) -> (&str, usize) {
    let end = |text: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        text.bytes().take_while(|byte| is_part(*byte)).count()
    };
    let Some(inside) = text.strip_prefix('{') else {
        let end = end(text);
        return (&text[..end], end);
    };
    let end = end(inside);
    if inside[end..].starts_with('}') {
        (&inside[..end], end + 2)
    } else {
        ("", 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_that_are_set_are_replaced() {
        let variables: Variables = [("A", "one"), ("B_2", "$A"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (text, expected) in [
            ("$A", "one"),
            ("x${A}y$B_2", "xoney$A"),
            ("$AB", "$AB"),
            ("${A", "${A"),
            ("${A-}", "${A-}"),
            ("$", "$"),
            ("$$A", "$one"),
            ("é$A é", "éone é"),
            ("$A:$B_2", "one:$A"),
            ("http://${A}.x:${B_2}", "http://one.x:$A"),
            ("$UNSET:${UNSET}", "$UNSET:${UNSET}"),
            ("[$EMPTY]", "[]"),
            ("${}", "${}"),
            ("^/a$", "^/a$"),
        ] {
            assert_eq!(expanded(text, &variables), expected, "{text}");
        }
        let mut value = json!({"$A": [1, "$A", {"a": "${A}"}]});
        expand(&mut value, &variables);
        assert_eq!(value, json!({"$A": [1, "one", {"a": "one"}]}));
    }
}
