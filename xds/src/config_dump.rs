//! From an encoded resource to JSON as people know it from Envoy's config dump: names as the protos spell them, nested
//! messages readable, and nothing of a private key.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ReflectMessage as _, SerializeOptions, Value as Field,
};
use serde_json::Value;

use crate::Resource;

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.binpb"));

static POOL: LazyLock<Result<DescriptorPool, Error>> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).map_err(|source| Error(format!("descriptors: {source}")))
});

const REDACTED: &str = "[redacted]";

/// Why a resource cannot be shown.
#[derive(Clone, Debug, thiserror::Error)]
#[error("message cannot be shown as JSON: {0}")]
pub struct Error(String);

/// The resource as JSON.
///
/// # Errors
/// Bytes that are no message of its type, or an embedded message whose type is not known here.
pub fn to_json(resource: &Resource) -> Result<Value, Error> {
    let type_url = resource.kind.type_url();
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let pool = POOL.as_ref().map_err(Clone::clone)?;
    let descriptor = pool
        .get_message_by_name(name)
        .ok_or_else(|| Error(format!("{name} is not known")))?;
    let mut message = DynamicMessage::decode(descriptor, resource.body.clone())
        .map_err(|source| Error(source.to_string()))?;
    redact(&mut message);
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| Error(source.to_string()))
}

/// Replaces what is secret: private keys and passwords are data sources under fields of these names.
fn redact(message: &mut DynamicMessage) {
    let fields: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        let secret = matches!(
            field.name(),
            "private_key" | "password" | "private_key_provider"
        );
        match message.get_field_mut(&field) {
            Field::Message(inner) if secret => {
                if let Some(text) = inner.descriptor().get_field_by_name("inline_string") {
                    inner.clear();
                    inner.set_field(&text, Field::String(REDACTED.to_owned()));
                } else {
                    inner.clear();
                }
            }
            Field::Message(inner) => redact(inner),
            Field::List(items) => items.iter_mut().for_each(redact_value),
            Field::Map(entries) => entries.values_mut().for_each(redact_value),
            _ => {}
        }
    }
}

fn redact_value(value: &mut Field) {
    if let Field::Message(inner) = value {
        redact(inner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ResourceType, Unit, ir, render};

    #[test]
    fn keys_are_redacted_and_certificates_are_not() {
        let name: Arc<str> = "default/a".into();
        let mut gateway = ir::Ir::default();
        gateway.secrets.insert(
            name.clone(),
            Arc::new(ir::Secret {
                name: name.clone(),
                certificate_chain: "the certificate".into(),
                private_key: "the key".into(),
            }),
        );
        let resource = render(&Unit::Secret(name), &gateway).unwrap();
        let json = to_json(&resource).unwrap();
        assert_eq!(
            json["tls_certificate"]["certificate_chain"]["inline_string"],
            "the certificate"
        );
        assert_eq!(
            json["tls_certificate"]["private_key"]["inline_string"],
            REDACTED
        );
        assert!(!json.to_string().contains("the key"));
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error() {
        let resource = Resource::new(ResourceType::Cluster, "a", vec![0xff, 0xff].into());
        assert!(to_json(&resource).is_err());
    }
}
