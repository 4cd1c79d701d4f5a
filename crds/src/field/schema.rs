//! Schemas that cannot be derived.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Leaves the description to the field that has this type: of an optional field, the derive keeps that of the type.
pub(crate) fn undescribed(schema: &mut Schema) {
    schema.remove("description");
}

/// Any object; what is in it is kept.
pub(crate) fn untyped(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Conditions as Kubernetes defines them: one per type, so that several writers can share the list.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Accepted, ResolvedRefs or Programmed."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one word for programs."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, in a sentence for people."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The generation of the object that this is about."}
            }
        }
    })
}
