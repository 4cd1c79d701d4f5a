//! `envoy.extensions.filters.http.custom_response.v3.CustomResponse`: replacements of error bodies.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Name};

use crate::{
    ir::{self, BodyFormat, ErrorBody, filter::CUSTOM_RESPONSE},
    pb::envoy::{
        config::core::v3::{
            DataSource, HeaderValue, HeaderValueOption, data_source::Specifier,
            header_value_option::HeaderAppendAction,
        },
        extensions::{
            filters::{
                http::custom_response::v3::CustomResponse,
                network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
            },
            http::custom_response::local_response_policy::v3::LocalResponsePolicy,
        },
        r#type::matcher::v3::HttpResponseStatusCodeMatchInput,
    },
    pb::google::protobuf::Any,
    render::wire::{self, Writer},
};

// Field numbers, by message.
const CUSTOM_RESPONSE_MATCHER: u32 = 1;
const MATCHER_TREE: u32 = 2;
const TREE_INPUT: u32 = 1;
const TREE_EXACT: u32 = 2;
const ON_MATCH_ACTION: u32 = 2;
const EXTENSION_NAME: u32 = 1;
const EXTENSION_CONFIG: u32 = 2;
const POLICY_BODY_FORMAT: u32 = 2;
const POLICY_HEADERS: u32 = 4;
const FORMAT_JSON: u32 = 2;
const FORMAT_TEXT_SOURCE: u32 = 5;
const STRUCT_FIELDS: u32 = 1;
const VALUE_STRING: u32 = 3;
const MAP: u32 = 1;

/// The filter, with bodies for requests that no route matches.
pub(super) fn filter(bodies: &BTreeMap<u16, ErrorBody>) -> HttpFilter {
    if bodies.is_empty() {
        return super::on_configured_routes(CUSTOM_RESPONSE, &CustomResponse::default());
    }
    let config = Any {
        type_url: CustomResponse::type_url(),
        value: custom_response(bodies).into(),
    };
    HttpFilter {
        name: CUSTOM_RESPONSE.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// Configuration of the filter for a route.
pub(super) fn per_route(action: &ir::Action) -> Option<Bytes> {
    let forward = action.forward()?;
    let is_configured = !forward.error_bodies.is_empty() || forward.keeps_error_bodies;
    let config = || custom_response(&forward.error_bodies);
    is_configured.then(|| wire::any(&CustomResponse::type_url(), &config()))
}

/// The message: bodies by status code.
fn custom_response(bodies: &BTreeMap<u16, ErrorBody>) -> Bytes {
    if bodies.is_empty() {
        return Bytes::new();
    }
    let actions: BTreeMap<String, Bytes> = bodies
        .iter()
        .map(|(status, body)| {
            let policy = wire::any(&LocalResponsePolicy::type_url(), &policy(body));
            let action = extension("body", &policy);
            let on_match = Writer::default().field(ON_MATCH_ACTION, &action).finish();
            (status.to_string(), on_match)
        })
        .collect();
    let input = super::any(&HttpResponseStatusCodeMatchInput {});
    let exact = Writer::default().map(MAP, &actions).finish();
    let tree = Writer::default()
        .field(TREE_INPUT, &extension("status", &input))
        .field(TREE_EXACT, &exact)
        .finish();
    let matcher = Writer::default().field(MATCHER_TREE, &tree).finish();
    Writer::default()
        .field(CUSTOM_RESPONSE_MATCHER, &matcher)
        .finish()
}

/// `xds.core.v3.TypedExtensionConfig`
fn extension(name: &str, config: &[u8]) -> Bytes {
    Writer::default()
        .field(EXTENSION_NAME, name.as_bytes())
        .field(EXTENSION_CONFIG, config)
        .finish()
}

fn policy(body: &ErrorBody) -> Bytes {
    let source = |specifier| DataSource {
        specifier: Some(specifier),
        ..DataSource::default()
    };
    let mut format = Writer::default();
    format = match &body.format {
        BodyFormat::Text(text) => {
            let source = source(Specifier::InlineString(text.clone()));
            format.field(FORMAT_TEXT_SOURCE, &source.encode_to_vec())
        }
        BodyFormat::Json(fields) => {
            let fields: BTreeMap<String, Bytes> = fields
                .iter()
                .map(|(name, text)| {
                    let value = Writer::default().field(VALUE_STRING, text.as_bytes());
                    (name.clone(), value.finish())
                })
                .collect();
            let json = Writer::default().map(STRUCT_FIELDS, &fields).finish();
            format.field(FORMAT_JSON, &json)
        }
    };
    let content_type = body.content_type.as_deref().unwrap_or(match body.format {
        BodyFormat::Text(_) => "text/plain",
        BodyFormat::Json(_) => "application/json",
    });
    // the filter ignores the content type of the format
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: "content-type".to_owned(),
            value: content_type.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    Writer::default()
        .field(POLICY_BODY_FORMAT, &format.finish())
        .field(POLICY_HEADERS, &header.encode_to_vec())
        .finish()
}
