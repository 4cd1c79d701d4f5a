//! From the derived definition of a kind to the one that clusters get: what the types cannot say by themselves.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The definition with our label, an optional `spec`, and no field that may be null.
///
/// Emissary's own schemas are the measure. They take an object without a `spec`, so that what is missing is said in the
/// object's status; and they refuse null, which the derived schema allows for some optional fields and not for others.
pub(crate) fn finished(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    definition.metadata.labels = Some(BTreeMap::from([(
        "app.kubernetes.io/part-of".to_owned(),
        "nuncio".to_owned(),
    )]));
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut();
        if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema.required = None;
            refuse_null(schema);
        }
    }
    definition
}

fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        refuse_null(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        refuse_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
}
