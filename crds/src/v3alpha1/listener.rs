//! A Listener: a port, what is spoken on it, and which Hosts it serves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{Selector, conditions, undescribed};

/// A port that the gateway listens on, what is spoken there, and which Hosts are served.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "Listener",
    plural = "listeners",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    shortname = "lsn",
    status = "ListenerStatus",
    derive = "PartialEq",
    doc = "A port that the gateway listens on, what is spoken there, and which Hosts are served.",
    printcolumn = r#"{"name":"Port","type":"string","jsonPath":".spec.port"}"#,
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.protocol"}"#,
    printcolumn = r#"{"name":"Stack","type":"string","jsonPath":".spec.protocolStack"}"#,
    printcolumn = r#"{"name":"StatsPrefix","type":"string","jsonPath":".spec.statsPrefix","priority":1}"#,
    printcolumn = r#"{"name":"Security","type":"string","jsonPath":".spec.securityModel"}"#,
    printcolumn = r#"{"name":"L7Depth","type":"string","jsonPath":".spec.l7Depth","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(
        rename = "ambassador_id",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ambassador_id: Vec<String>,
    /// Port that Envoys listen on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// What is spoken, as a name for an ordinary stack. Either this or `protocolStack` is set; the latter wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// What is spoken, layer by layer, outermost first, such as `[PROXY, TLS, HTTP, TCP]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocol_stack: Vec<Layer>,
    /// How requests are told to be secure. `XFP`: by `x-forwarded-proto`, which is set from the connection unless a trusted
    /// proxy is in front; `SECURE`: all are; `INSECURE`: none is.
    pub security_model: SecurityModel,
    /// First part of the names of its statistics. Default: `ingress_http` or `ingress_https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_prefix: Option<String>,
    /// How many trusted HTTP proxies stand in front. Above 0, their `x-forwarded-for` and `x-forwarded-proto` are believed. Default: 0.
    #[serde(rename = "l7Depth", skip_serializing_if = "Option::is_none")]
    pub l7_depth: Option<i32>,
    /// HTTP/2 streams that a client connection may have open at a time. Default: 100.
    #[serde(
        rename = "http2MaxConcurrentStreams",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1))]
    pub http2_max_concurrent_streams: Option<i64>,
    /// Which Hosts are served.
    pub host_binding: HostBinding,
}

/// A name for an ordinary stack of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP behind a PROXY protocol header.
    Httpproxy,
    /// HTTP over TLS behind a PROXY protocol header.
    Httpsproxy,
    /// Bytes, for TCPMappings.
    Tcp,
    /// Bytes over TLS, for TCPMappings.
    Tls,
    /// Carries nothing by itself; for HTTP/3 write a `protocolStack`.
    Udp,
}

/// A layer of a stack of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum Layer {
    /// HTTP
    Http,
    /// A PROXY protocol header, version 1 or 2.
    Proxy,
    /// TLS
    Tls,
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// How requests are told to be secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum SecurityModel {
    /// By `x-forwarded-proto`, which is set from the connection unless a trusted proxy is in front.
    Xfp,
    /// All are secure.
    Secure,
    /// None is secure.
    Insecure,
}

/// Which Hosts a Listener serves. At least one of the two is set; both must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostBinding {
    /// By their namespace. Default: that of the Listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceBinding>,
    /// By their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// Namespaces of Hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceBinding {
    /// `SELF`: that of the Listener; `ALL`: all; `SELECTOR`: those that `selector` selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<NamespaceFrom>,
    /// With `SELECTOR`: labels of the namespaces. Emissary has no such field, and takes `SELECTOR` for `SELF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// Which namespaces Hosts are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum NamespaceFrom {
    /// That of the Listener.
    #[serde(rename = "SELF")]
    Own,
    /// All.
    All,
    /// Those with certain labels.
    Selector,
}

/// What has become of a Listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
