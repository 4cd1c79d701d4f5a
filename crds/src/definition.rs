//! From the derived definition of a kind to the one that clusters get: what the types cannot say by themselves.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The definition with our label, an optional `spec`, descriptions without line breaks, and no field that is nullable.
///
/// Emissary's own schemas are the measure. They take an object without a `spec`, so that what is missing is said in the
/// object's status. And nothing in them is nullable: the apiserver then drops every null, whereas the derived schema
/// has it stored in optional fields and refused in lists and maps.
pub(crate) fn finished(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    definition.metadata.labels = Some(BTreeMap::from([(
        "app.kubernetes.io/part-of".to_owned(),
        "nuncio".to_owned(),
    )]));
    for version in &mut definition.spec.versions {
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

fn drop_null(node: &mut JSONSchemaProps) {
    node.nullable = None;
    if let Some(values) = &mut node.enum_ {
        values.retain(|value| !value.0.is_null());
    }
}

/// Source lines are no lines for readers: `kubectl explain` breaks them by itself.
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
