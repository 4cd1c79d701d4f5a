//! The messages of `echo.EchoService`, and their JSON.

use std::collections::BTreeMap;

use prost::Message;
use serde::Serialize;

/// The path of the only method.
pub const PATH: &str = "/echo.EchoService/Echo";

/// The request.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EchoRequest {
    /// Anything.
    #[prost(string, tag = "1")]
    pub data: String,
}

/// What is answered. As JSON, values that are not set are left out.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct EchoResponse {
    /// Who answers.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backend: String,
    /// What came in.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// What goes out.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
}

/// What came in.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Request {
    /// Metadata, the values of a name joined by commas.
    #[prost(btree_map = "string, string", tag = "1")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How it was protected.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What goes out.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Response {
    /// Metadata, the values of a name joined by commas.
    #[prost(btree_map = "string, string", tag = "1")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// How a request was protected.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Tls {
    /// By TLS, on its first hop.
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
}
