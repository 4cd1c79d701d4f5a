//! From the derived definition of a kind to the one that clusters get: what the types cannot express.
//!
//! `kubectl get` shows of every kind with a status whether Envoys have it, and one short reason. A column shows the first
//! match of its path only, and paths know no "or"; but the reason of a condition with nothing to report is its own type
//! (`Accepted`, `ResolvedRefs`, `Programmed`). So `reason != type` finds the first condition that matters, be it false
//! (`Invalid`, `ServiceNotFound`, `Pending`) or true with a warning (`PartiallyInvalid`), and finds nothing where all is
//! well. No further field of status is needed, and `status.reason` of a Mapping keeps the text that Emissary's tools read.
//! The message of that condition is as long as a sentence, so only `-o wide` shows it.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::{
    conversion::{self, ApiVersion},
    kind::Status,
};

/// Columns of every kind with a status, after its own: name, type, path, and 1 for `-o wide` only.
const STATUS_COLUMNS: [(&str, &str, &str, i32); 4] = [
    (
        "Programmed",
        "string",
        r#".status.conditions[?(@.type=="Programmed")].status"#,
        0,
    ),
    (
        "Reason",
        "string",
        ".status.conditions[?(@.reason!=@.type)].reason",
        0,
    ),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    (
        "Message",
        "string",
        ".status.conditions[?(@.reason!=@.type)].message",
        1,
    ),
];

/// The definition with our label, the columns of its status, an optional `spec`, descriptions without line breaks, and no
/// nullable field.
///
/// Emissary's own schemas are the measure. They accept an object without a `spec`, so that its status can report what is
/// missing. And nothing in them is nullable: the apiserver then drops every null, whereas with the derived schema it would
/// store null in optional fields and reject it in lists and maps.
pub(crate) fn finished(
    mut definition: CustomResourceDefinition,
    status: Status,
) -> CustomResourceDefinition {
    definition.metadata.labels = Some(BTreeMap::from([(
        "app.kubernetes.io/part-of".to_owned(),
        "nuncio".to_owned(),
    )]));
    for version in &mut definition.spec.versions {
        if status != Status::None {
            let columns = version.additional_printer_columns.get_or_insert_default();
            columns.extend(STATUS_COLUMNS.map(column));
        }
        let schema = version.schema.as_mut();
        if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema.required = None;
            for_each_node(schema, &mut |node| {
                drop_null(node);
                join_lines(node);
            });
        }
    }
    definition
}

/// A version of a kind, made of `v3alpha1`: other names and shapes of fields in `spec`, and in the columns that show them.
pub(crate) fn old(
    kind: &str,
    version: ApiVersion,
    mut definition: CustomResourceDefinitionVersion,
) -> CustomResourceDefinitionVersion {
    definition.name = version.name().to_owned();
    definition.storage = false;
    let schema = definition.schema.as_mut();
    let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
        return definition;
    };
    let properties = schema.properties.get_or_insert_default();
    if let Some(spec) = properties.get_mut("spec") {
        conversion::old_schema(kind, spec);
        if let Some(columns) = &mut definition.additional_printer_columns {
            columns.retain(|column| is_of(column, spec));
            for column in columns {
                // the only column for the host name, and not one for an old field beside it
                if column.json_path == ".spec.host" {
                    column.priority = None;
                }
            }
        }
        for_each_node(spec, &mut |node| {
            if let Some(description) = &mut node.description {
                *description = conversion::old_description(kind, description);
            }
        });
    }
    definition
}

/// Whether a column shows a field of this spec, or something else than a spec.
fn is_of(column: &CustomResourceColumnDefinition, spec: &JSONSchemaProps) -> bool {
    let path = column.json_path.strip_prefix(".spec.");
    let field = path.and_then(|path| path.split(['.', '[']).next());
    let fields = spec.properties.as_ref();
    field.is_none_or(|field| fields.is_some_and(|fields| fields.contains_key(field)))
}

fn column((name, kind, path, priority): (&str, &str, &str, i32)) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: kind.to_owned(),
        json_path: path.to_owned(),
        priority: (priority > 0).then_some(priority),
        ..CustomResourceColumnDefinition::default()
    }
}

fn drop_null(node: &mut JSONSchemaProps) {
    node.nullable = None;
    if let Some(values) = &mut node.enum_ {
        values.retain(|value| !value.0.is_null());
    }
}

/// Line breaks of the source have no meaning for readers: `kubectl explain` wraps the text itself.
fn join_lines(node: &mut JSONSchemaProps) {
    if let Some(description) = &mut node.description {
        *description = description.replace('\n', " ");
    }
}

fn for_each_node(node: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(node);
    for property in node.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        for_each_node(property, change);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut node.items {
        for_each_node(items, change);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut node.additional_properties {
        for_each_node(values, change);
    }
}
