//! Redaction of sensitive fields. The protos mark them with the annotation `udpa.annotations.sensitive`, so that new messages
//! need no change here. As in Envoy's own config dump, all texts in such a field are replaced, file names included, and
//! numbers are set to zero.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};

use super::{Error, Types};
use crate::pb::google::protobuf::Any;

const ANNOTATION: &str = "udpa.annotations.sensitive";
const REDACTED: &str = "[redacted]";

/// Full names of the fields that the protos mark as sensitive.
pub(super) fn sensitive_fields(pool: &DescriptorPool) -> Result<BTreeSet<String>, Error> {
    let annotation = pool
        .get_extension_by_name(ANNOTATION)
        .ok_or_else(|| Error(format!("unknown annotation {ANNOTATION}")))?;
    Ok(pool
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(|field| field.options().get_extension(&annotation).as_bool() == Some(true))
        .map(|field| field.full_name().to_owned())
        .collect())
}

/// Redacts the sensitive fields of a message, at all levels.
pub(super) fn redact(message: &mut DynamicMessage, types: &Types) -> Result<(), Error> {
    if is_any(message) {
        return embedded(message, types, redact);
    }
    for (field, value) in message.fields_mut() {
        let change = if types.sensitive.contains(field.full_name()) {
            conceal_value
        } else {
            redact_value
        };
        change(value, types)?;
    }
    Ok(())
}

fn redact_value(value: &mut Value, types: &Types) -> Result<(), Error> {
    match value {
        Value::Message(inner) => redact(inner, types),
        Value::List(items) => items
            .iter_mut()
            .try_for_each(|item| redact_value(item, types)),
        Value::Map(entries) => entries
            .values_mut()
            .try_for_each(|entry| redact_value(entry, types)),
        _ => Ok(()),
    }
}

/// Conceals every field of a message.
fn conceal(message: &mut DynamicMessage, types: &Types) -> Result<(), Error> {
    if is_any(message) {
        return embedded(message, types, conceal);
    }
    let descriptor = message.descriptor();
    if descriptor.full_name() == "envoy.config.core.v3.DataSource" {
        message.clear();
        // always as text: bytes would be printed in base64
        message.set_field_by_name("inline_string", Value::String(REDACTED.to_owned()));
        return Ok(());
    }
    message
        .fields_mut()
        .try_for_each(|(_, value)| conceal_value(value, types))
}

fn conceal_value(value: &mut Value, types: &Types) -> Result<(), Error> {
    match value {
        Value::Message(inner) => conceal(inner, types)?,
        Value::List(items) => items
            .iter_mut()
            .try_for_each(|item| conceal_value(item, types))?,
        Value::Map(entries) => entries
            .values_mut()
            .try_for_each(|entry| conceal_value(entry, types))?,
        Value::String(text) => REDACTED.clone_into(text),
        Value::Bytes(bytes) => *bytes = Bytes::from_static(REDACTED.as_bytes()),
        Value::Bool(flag) => *flag = false,
        Value::I32(number) | Value::EnumNumber(number) => *number = 0,
        Value::I64(number) => *number = 0,
        Value::U32(number) => *number = 0,
        Value::U64(number) => *number = 0,
        Value::F32(number) => *number = 0.0,
        Value::F64(number) => *number = 0.0,
    }
    Ok(())
}

fn is_any(message: &DynamicMessage) -> bool {
    message.descriptor().full_name() == "google.protobuf.Any"
}

/// Changes the message in an `Any`.
fn embedded(
    any: &mut DynamicMessage,
    types: &Types,
    change: fn(&mut DynamicMessage, &Types) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut content: Any = any
        .transcode_to()
        .map_err(|source| Error(source.to_string()))?;
    if content.type_url.is_empty() {
        super::NOTHING.clone_into(&mut content.type_url);
    }
    let mut message = types.decode(&content.type_url, &content.value)?;
    change(&mut message, types)?;
    content.value = message.encode_to_vec();
    any.transcode_from(&content)
        .map_err(|source| Error(source.to_string()))
}
