//! Schemas that cannot be derived.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Removes the description of a type, so that a field keeps its own: for an optional field, the derive prefers that of the
/// type.
pub(crate) fn undescribed(schema: &mut Schema) {
    schema.remove("description");
}

/// Schema of an arbitrary object, whose fields are kept.
pub(crate) fn untyped(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Schema of conditions as Kubernetes defines them: one per type, so that several writers can share the list.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Type of the condition: Accepted, ResolvedRefs or Programmed."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether the condition holds."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Reason in one word, for programs."},
                "message": {"type": "string", "maxLength": 32768, "description": "Details, for people."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Time of the last change of the status."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "Generation of the object that the condition is about."}
            }
        }
    })
}
