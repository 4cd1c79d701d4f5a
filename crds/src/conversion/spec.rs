//! What differs between the versions, by kind.

use serde_json::{Map, Value};

use super::{
    added_header, ambassador_id, cors, header, hostname, label,
    name::{list, object, rename},
    schema::{self, Schema, any, field},
    service::{self, Scheme},
    tag,
};

type Spec = Map<String, Value>;

/// Fields with another name: kind, object within `spec`, name in the old versions, name in the hub.
const RENAMED: [(&str, &str, &str, &str); 15] = [
    ("AuthService", "", "v3StatsName", "stats_name"),
    ("AuthService", "", "v3CircuitBreakers", "circuit_breakers"),
    ("Host", "tls", "v3CRLSecret", "crl_secret"),
    ("LogService", "", "v3ProtocolVersion", "protocol_version"),
    ("LogService", "", "v3StatsName", "stats_name"),
    ("Mapping", "", "v3StatsName", "stats_name"),
    ("Mapping", "", "v3health_checks", "health_checks"),
    ("RateLimitService", "", "v3GRPC", "grpc"),
    ("RateLimitService", "", "v3StatsName", "stats_name"),
    ("TCPMapping", "", "v3StatsName", "stats_name"),
    ("TLSContext", "", "v3CRLSecret", "crl_secret"),
    ("TracingService", "", "v3CustomTags", "custom_tags"),
    ("TracingService", "", "v3StatsName", "stats_name"),
    (
        "TracingService",
        "config",
        "v3PropagationModes",
        "propagation_modes",
    ),
    ("Host", "", "selector", "mappingSelector"),
];

/// Fields of a Mapping that take a string or a list in the old versions.
const LISTS: [&str; 2] = ["remove_request_headers", "remove_response_headers"];

/// The address of a service: kind, field, and what becomes of its scheme.
const SERVICES: [(&str, &str, Scheme); 4] = [
    ("AuthService", "auth_service", Scheme::Kept),
    ("Mapping", "service", Scheme::Kept),
    ("RateLimitService", "service", Scheme::Kept),
    ("TCPMapping", "service", Scheme::Dropped),
];

/// From `v1` and `v2` to `v3alpha1`.
pub(super) fn to_hub(kind: &str, spec: &mut Spec) {
    ambassador_id::to_hub(spec);
    renamed(kind, spec, rename);
    for (_, field, scheme) in services(kind) {
        service::to_hub(spec, field, scheme);
    }
    match kind {
        "Host" => ambassador_id::more_to_hub(spec),
        "TracingService" => tag::convert(spec),
        "Mapping" => {
            hostname::to_hub(spec);
            cors::to_hub(spec);
            for field in LISTS {
                list(spec, field);
            }
            for fields in header::FIELDS {
                header::to_hub(spec, fields);
            }
            for field in added_header::FIELDS {
                added_header::to_hub(spec, field);
            }
            label::to_hub(spec);
        }
        _ => {}
    }
}

/// From `v3alpha1` to `v1` and `v2`.
pub(super) fn from_hub(kind: &str, spec: &mut Spec) {
    ambassador_id::from_hub(spec);
    // under the names of the hub
    match kind {
        "Host" => {
            ambassador_id::more_from_hub(spec);
            if !is_set(spec, "mappingSelector") {
                rename(spec, "selector", "mappingSelector");
            }
        }
        "TracingService" => tag::convert(spec),
        _ => {}
    }
    renamed(kind, spec, |map, old, new| rename(map, new, old));
    for (_, field, scheme) in services(kind) {
        service::from_hub(spec, field, scheme);
    }
    if kind == "Mapping" {
        hostname::from_hub(spec);
        cors::from_hub(spec);
        for fields in header::FIELDS {
            header::from_hub(spec, fields);
        }
        for field in added_header::FIELDS {
            added_header::from_hub(spec, field);
        }
        label::from_hub(spec);
    }
}

/// Corrects what has come back to a spec of `v1` or `v2`.
pub(super) fn restored_to_old(kind: &str, spec: &mut Spec) {
    if kind == "Host" {
        ambassador_id::more_restored(spec);
    }
}

/// From the schema of `v3alpha1` to that of `v1` and `v2`.
pub(super) fn schema(kind: &str, spec: &mut Schema) {
    ambassador_id::schema(spec);
    for (_, within, old, new) in RENAMED.iter().filter(|(of, ..)| *of == kind) {
        let object = match *within {
            "" => Some(&mut *spec),
            within => field(spec, within),
        };
        if let Some(object) = object {
            schema::rename(object, new, old);
        }
    }
    if services(kind).next().is_some() {
        service::schema(spec);
    }
    match kind {
        "Host" => ambassador_id::more_schema(spec),
        "Mapping" => {
            hostname::schema(spec);
            cors::schema(spec);
            for name in LISTS {
                if let Some(list) = field(spec, name) {
                    any(list, "A list, or one of them");
                }
            }
            for fields in header::FIELDS {
                header::schema(spec, fields);
            }
            for field in added_header::FIELDS {
                added_header::schema(spec, field);
            }
            label::schema(spec);
        }
        // the old versions take a Module without settings
        "Module" => spec.required = None,
        _ => {}
    }
}

/// Paths within a spec of `v1` or `v2` of what has no meaning, and does not become a part of the hub's.
pub(super) fn lost(kind: &str, spec: &Spec) -> Vec<String> {
    match kind {
        "Mapping" => {
            let lost = header::FIELDS.into_iter();
            lost.flat_map(|fields| header::lost(spec, fields)).collect()
        }
        _ => Vec::new(),
    }
}

/// A path within a spec of the hub, with the names of the old versions.
pub(super) fn old_path(kind: &str, path: &str) -> String {
    let mut rows = RENAMED.iter().filter(|(of, ..)| *of == kind);
    let renamed = rows.find_map(|(_, within, old, new)| {
        let rest = match *within {
            "" => path,
            within => path.strip_prefix(within)?.strip_prefix('.')?,
        };
        let start = path.strip_suffix(rest)?;
        Some(format!("{start}{old}{}", below(rest, new)?))
    });
    match renamed {
        Some(renamed) => renamed,
        None if kind == "Mapping" => hostname::old_path(path),
        None => path.to_owned(),
    }
}

/// The rest of a path that starts with this field.
pub(super) fn below<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(field)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// A description with the names of the old versions.
pub(super) fn renamed_in(kind: &str, description: &str) -> String {
    let rows = RENAMED.iter().filter(|(of, ..)| *of == kind);
    rows.fold(description.to_owned(), |text, (_, _, old, new)| {
        text.replace(&format!("`{new}`"), &format!("`{old}`"))
    })
}

fn services(kind: &str) -> impl Iterator<Item = (&'static str, &'static str, Scheme)> {
    SERVICES.into_iter().filter(move |(of, ..)| *of == kind)
}

fn renamed(kind: &str, spec: &mut Spec, rename: impl Fn(&mut Spec, &str, &str)) {
    let rows = RENAMED.iter().filter(|(of, ..)| *of == kind);
    for (_, within, old, new) in rows {
        let map = match *within {
            "" => Some(&mut *spec),
            within => object(spec, within),
        };
        if let Some(map) = map {
            rename(map, old, new);
        }
    }
}

fn is_set(spec: &Spec, field: &str) -> bool {
    !matches!(spec.get(field), None | Some(Value::Null))
}
