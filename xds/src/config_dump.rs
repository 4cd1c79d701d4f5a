//! Conversion of encoded resources to JSON like Envoy's config dump: with the field names of the protos and with embedded
//! messages decoded. Fields that the protos mark as sensitive are redacted.

use std::{collections::BTreeSet, sync::LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::Resource;

mod redact;

static TYPES: LazyLock<Result<Types, Error>> = LazyLock::new(Types::load);

/// A resource that cannot be converted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to convert message to JSON: {0}")]
pub struct Error(String);

/// The resource as JSON, with `[redacted]` instead of keys, passwords and other sensitive values.
///
/// # Errors
/// The resource is not a message of its type, or has an embedded message of an unknown type.
pub fn to_json(resource: &Resource) -> Result<Value, Error> {
    let types = TYPES.as_ref().map_err(Clone::clone)?;
    let mut message = types.decode(resource.kind.type_url(), &resource.body)?;
    redact::redact(&mut message, types)?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| Error(source.to_string()))?;
    restore_nothing(&mut json);
    Ok(json)
}

/// Type of what stands for an empty `Any`, which the serializer rejects and Envoy has a meaning for.
const NOTHING: &str = "type.googleapis.com/google.protobuf.Struct";

fn restore_nothing(json: &mut Value) {
    match json {
        Value::Object(fields) if fields.get("@type").is_some_and(|found| found == NOTHING) => {
            fields.clear();
        }
        Value::Object(fields) => fields.values_mut().for_each(restore_nothing),
        Value::Array(items) => items.iter_mut().for_each(restore_nothing),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Descriptors of messages.
struct Types {
    pool: DescriptorPool,
    /// Full names of sensitive fields.
    sensitive: BTreeSet<String>,
}

impl Types {
    fn load() -> Result<Self, Error> {
        let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.binpb"));
        let pool = DescriptorPool::decode(&descriptors[..])
            .map_err(|source| Error(format!("descriptors: {source}")))?;
        let sensitive = redact::sensitive_fields(&pool)?;
        Ok(Self { pool, sensitive })
    }

    /// Decodes the value of an `Any`.
    fn decode(&self, type_url: &str, value: &[u8]) -> Result<DynamicMessage, Error> {
        let name = type_url.rsplit('/').next().unwrap_or(type_url);
        let descriptor = self
            .pool
            .get_message_by_name(name)
            .ok_or_else(|| Error(format!("unknown message type {name}")))?;
        DynamicMessage::decode(descriptor, value)
            .map_err(|source| Error(format!("{name}: {source}")))
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};
    use serde_json::json;

    use super::*;
    use crate::{
        ResourceType,
        pb::{
            envoy::{
                config::{
                    cluster::v3::Cluster,
                    core::v3::{
                        DataSource, TransportSocket, data_source::Specifier,
                        transport_socket::ConfigType,
                    },
                    listener::v3::{FilterChain, Listener},
                },
                extensions::transport_sockets::tls::v3::{
                    CommonTlsContext, DownstreamTlsContext, GenericSecret, PrivateKeyProvider,
                    Secret, TlsCertificate, TlsSessionTicketKeys, private_key_provider, secret,
                },
            },
            google::protobuf::{Any, BoolValue, Duration},
        },
    };

    #[test]
    fn an_empty_any_is_an_empty_object() {
        let socket = TransportSocket {
            name: "s".to_owned(),
            config_type: Some(ConfigType::TypedConfig(Any::default())),
        };
        let cluster = Cluster {
            transport_socket: Some(socket),
            ..Cluster::default()
        };
        let json = shown(ResourceType::Cluster, &cluster);
        assert_eq!(
            json["transport_socket"],
            json!({"name": "s", "typed_config": {}})
        );
    }

    #[test]
    fn names_are_those_of_the_protos_and_durations_are_readable() {
        let json = shown(
            ResourceType::Cluster,
            &Cluster {
                name: "a".to_owned(),
                alt_stat_name: "b".to_owned(),
                connect_timeout: Some(Duration {
                    seconds: 1,
                    nanos: 500_000_000,
                }),
                ..Cluster::default()
            },
        );
        assert_eq!(
            json,
            json!({"name": "a", "alt_stat_name": "b", "connect_timeout": "1.500s"})
        );
    }

    #[test]
    fn certificates_are_shown_and_their_keys_are_not() {
        let json = shown(
            ResourceType::Secret,
            &secret_of(secret::Type::TlsCertificate(certificate())),
        );
        assert_eq!(
            json["tls_certificate"],
            json!({
                "certificate_chain": {"inline_string": "the certificate"},
                "private_key": {"inline_string": "[redacted]"},
                "password": {"inline_string": "[redacted]"},
            })
        );
    }

    #[test]
    fn keys_in_lists_are_not_shown() {
        let keys = TlsSessionTicketKeys {
            keys: vec![
                DataSource {
                    specifier: Some(Specifier::InlineBytes(b"confidential".to_vec())),
                    ..DataSource::default()
                },
                text("confidential"),
            ],
        };
        let json = shown(
            ResourceType::Secret,
            &secret_of(secret::Type::SessionTicketKeys(keys)),
        );
        assert_eq!(
            json["session_ticket_keys"]["keys"],
            json!([{"inline_string": "[redacted]"}, {"inline_string": "[redacted]"}])
        );
    }

    #[test]
    fn secrets_in_maps_are_not_shown() {
        let secrets = GenericSecret {
            secrets: [("name".to_owned(), text("confidential"))].into(),
            ..GenericSecret::default()
        };
        let json = shown(
            ResourceType::Secret,
            &secret_of(secret::Type::GenericSecret(secrets)),
        );
        assert_eq!(
            json["generic_secret"]["secrets"],
            json!({"name": {"inline_string": "[redacted]"}})
        );
    }

    #[test]
    fn keys_in_embedded_messages_are_not_shown() {
        let context = DownstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                tls_certificates: vec![certificate()],
                ..CommonTlsContext::default()
            }),
            require_client_certificate: Some(BoolValue { value: true }),
            ..DownstreamTlsContext::default()
        };
        let listener = Listener {
            filter_chains: vec![FilterChain {
                transport_socket: Some(TransportSocket {
                    name: "tls".to_owned(),
                    config_type: Some(ConfigType::TypedConfig(any(&context))),
                }),
                ..FilterChain::default()
            }],
            ..Listener::default()
        };
        let json = shown(ResourceType::Listener, &listener);
        assert_eq!(
            json["filter_chains"][0]["transport_socket"]["typed_config"],
            json!({
                "@type": DownstreamTlsContext::type_url(),
                "require_client_certificate": true,
                "common_tls_context": {"tls_certificates": [{
                    "certificate_chain": {"inline_string": "the certificate"},
                    "private_key": {"inline_string": "[redacted]"},
                    "password": {"inline_string": "[redacted]"},
                }]},
            })
        );
    }

    #[test]
    fn an_embedded_message_that_is_sensitive_keeps_only_its_type() {
        let provider = PrivateKeyProvider {
            provider_name: "hardware".to_owned(),
            config_type: Some(private_key_provider::ConfigType::TypedConfig(any(
                &Cluster {
                    name: "confidential".to_owned(),
                    connect_timeout: Some(Duration {
                        seconds: 5,
                        nanos: 0,
                    }),
                    ignore_health_on_host_removal: true,
                    ..Cluster::default()
                },
            ))),
            ..PrivateKeyProvider::default()
        };
        let certificate = TlsCertificate {
            private_key_provider: Some(provider),
            ..certificate()
        };
        let json = shown(
            ResourceType::Secret,
            &secret_of(secret::Type::TlsCertificate(certificate)),
        );
        assert_eq!(
            json["tls_certificate"]["private_key_provider"],
            json!({
                "provider_name": "hardware",
                "typed_config": {"@type": Cluster::type_url(), "name": "[redacted]", "connect_timeout": "0s"},
            })
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error() {
        let resource = Resource::new(ResourceType::Cluster, "a", vec![0xff, 0xff].into());
        let error = to_json(&resource).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "failed to convert message to JSON: envoy.config.cluster.v3.Cluster: "
            ),
            "{error}"
        );
    }

    #[test]
    fn an_embedded_message_of_an_unknown_type_is_an_error() {
        let listener = Listener {
            filter_chains: vec![FilterChain {
                transport_socket: Some(TransportSocket {
                    name: "odd".to_owned(),
                    config_type: Some(ConfigType::TypedConfig(Any {
                        type_url: "type.googleapis.com/no.such.Message".to_owned(),
                        value: Vec::new(),
                    })),
                }),
                ..FilterChain::default()
            }],
            ..Listener::default()
        };
        let resource = Resource::new(ResourceType::Listener, "a", listener.encode_to_vec().into());
        assert_eq!(
            to_json(&resource).unwrap_err().to_string(),
            "failed to convert message to JSON: unknown message type no.such.Message"
        );
    }

    /// The message as JSON, which must not contain any text that a test calls confidential.
    fn shown(kind: ResourceType, message: &impl Message) -> Value {
        let resource = Resource::new(kind, "a", message.encode_to_vec().into());
        let json = to_json(&resource).unwrap();
        assert!(!json.to_string().contains("confidential"), "{json}");
        json
    }

    fn certificate() -> TlsCertificate {
        TlsCertificate {
            certificate_chain: Some(text("the certificate")),
            private_key: Some(text("confidential")),
            password: Some(DataSource {
                specifier: Some(Specifier::Filename("/confidential".to_owned())),
                ..DataSource::default()
            }),
            ..TlsCertificate::default()
        }
    }

    fn secret_of(content: secret::Type) -> Secret {
        Secret {
            name: "a".to_owned(),
            r#type: Some(content),
        }
    }

    fn text(text: &str) -> DataSource {
        DataSource {
            specifier: Some(Specifier::InlineString(text.to_owned())),
            ..DataSource::default()
        }
    }

    fn any<M: Message + Name>(message: &M) -> Any {
        Any {
            type_url: M::type_url(),
            value: message.encode_to_vec(),
        }
    }
}
