//! From the derived definition of a kind to the one that clusters get: what the types cannot say by themselves.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The definition with our label, an optional `spec`, and no field that is nullable.
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
            drop_null(schema);
        }
    }
    definition
}

fn drop_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        drop_null(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_null(values);
    }
}
