//! Steps through schemas, beside those through values: the schema of `v1` and `v2` is made of that of `v3alpha1` by the files
//! that convert values, so that neither can be changed without the other.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Schema of a value.
pub(super) type Schema = JSONSchemaProps;

/// The schema of a field.
pub(super) fn field<'a>(object: &'a mut Schema, name: &str) -> Option<&'a mut Schema> {
    object.properties.as_mut()?.get_mut(name)
}

/// The schema of the values of a map.
pub(super) fn values(map: &mut Schema) -> Option<&mut Schema> {
    match map.additional_properties.as_mut()? {
        JSONSchemaPropsOrBool::Schema(values) => Some(values),
        JSONSchemaPropsOrBool::Bool(_) => None,
    }
}

/// The schema of the items of a list.
pub(super) fn items(list: &mut Schema) -> Option<&mut Schema> {
    match list.items.as_mut()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// Gives a field another name.
pub(super) fn rename(object: &mut Schema, from: &str, to: &str) {
    if let Some(properties) = &mut object.properties
        && let Some(field) = properties.remove(from)
    {
        properties.insert(to.to_owned(), field);
    }
}

/// Removes a field.
pub(super) fn remove(object: &mut Schema, name: &str) {
    if let Some(properties) = &mut object.properties {
        properties.remove(name);
    }
}

/// Allows any value, null too, because a schema for Kubernetes cannot have a choice of types. The description says what is
/// expected, and a reconciler reports everything else.
pub(super) fn any(node: &mut Schema, expected: &str) {
    let description = match &node.description {
        Some(description) => format!("{description} {expected}."),
        None => format!("{expected}."),
    };
    *node = Schema {
        description: Some(description),
        nullable: Some(true),
        x_kubernetes_preserve_unknown_fields: Some(true),
        ..Schema::default()
    };
}
