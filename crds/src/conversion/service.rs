//! The address of a service, and whether TLS is originated. In the old versions `tls` is a boolean or the name of a TLSContext;
//! in `v3alpha1` it is a name, and the scheme of the address says the rest. How an old version said it is in `v2ExplicitTLS`.

use serde_json::{Map, Value, json};

use super::schema::{Schema, any, field, remove};

const EXPLICIT: &str = "v2ExplicitTLS";
const SCHEME: &str = "serviceScheme";
const HTTPS: &str = "https://";

/// What becomes of a scheme that has been replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// It is noted.
    Kept,
    /// It is not: TCP has none.
    Dropped,
}

/// The scheme of an address, as it is written, and the rest.
fn split(address: &str) -> (&str, &str) {
    for scheme in [HTTPS, "http://"] {
        if let Some((start, rest)) = address.split_at_checked(scheme.len())
            && start.eq_ignore_ascii_case(scheme)
        {
            return (start, rest);
        }
    }
    ("", address)
}

fn is_https(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case(HTTPS)
}

pub(super) fn to_hub(spec: &mut Map<String, Value>, field: &str, kept: Scheme) {
    let tls = spec.get("tls").cloned();
    let noted = match &tls {
        Some(Value::String(name)) if !name.is_empty() => {
            if kept == Scheme::Kept {
                spec.insert(EXPLICIT.to_owned(), json!({}));
            }
            return;
        }
        None => None,
        Some(Value::Bool(true)) => Some("bool:true"),
        Some(Value::Bool(false)) => Some("bool:false"),
        Some(Value::String(_)) => Some("string"),
        Some(Value::Null) => Some("null"),
        Some(Value::Number(_) | Value::Array(_) | Value::Object(_)) => return,
    };
    spec.remove("tls");
    let mut explicit = Map::new();
    explicit.extend(noted.map(|noted| ("tls".to_owned(), noted.into())));
    if tls == Some(Value::Bool(true))
        && let Some(Value::String(address)) = spec.get_mut(field)
    {
        let (scheme, bare) = split(address);
        if !is_https(scheme) {
            if kept == Scheme::Kept {
                explicit.insert(SCHEME.to_owned(), scheme.into());
            }
            *address = format!("{HTTPS}{bare}");
        }
    }
    if !explicit.is_empty() {
        spec.insert(EXPLICIT.to_owned(), Value::Object(explicit));
    }
}

pub(super) fn from_hub(spec: &mut Map<String, Value>, field: &str, kept: Scheme) {
    let explicit = spec.remove(EXPLICIT).unwrap_or_default();
    let name = match spec.get("tls") {
        None | Some(Value::Null) => "",
        Some(Value::String(name)) => name,
        Some(_) => return,
    };
    let address = spec.get(field).and_then(Value::as_str);
    let (scheme, bare) = split(address.unwrap_or_default());
    let originates = is_https(scheme) || !name.is_empty();
    let tls = if name.is_empty() {
        match explicit["tls"].as_str() {
            Some("null") => Some(Value::Null),
            Some("bool:false") => Some(Value::Bool(false)),
            Some("bool:true") => originates.then_some(Value::Bool(true)),
            Some("string") => Some(Value::String(String::new())),
            _ => None,
        }
    } else {
        Some(name.into())
    };
    let noted = match kept {
        Scheme::Kept => explicit[SCHEME].as_str(),
        Scheme::Dropped => Some(""),
    };
    let says_it = match &tls {
        Some(Value::Bool(says_it)) => *says_it,
        Some(Value::String(name)) => !name.is_empty(),
        _ => false,
    };
    let noted = noted.filter(|noted| says_it || is_https(noted) == originates);
    let address = address
        .and(noted)
        .map(|noted| Value::String(format!("{noted}{bare}")));
    match tls {
        Some(tls) => spec.insert("tls".to_owned(), tls),
        None => spec.remove("tls"),
    };
    if let Some(address) = address {
        spec.insert(field.to_owned(), address);
    }
}

pub(super) fn schema(spec: &mut Schema) {
    if let Some(tls) = field(spec, "tls") {
        any(tls, "A name, or whether to originate TLS");
    }
    remove(spec, EXPLICIT);
}
